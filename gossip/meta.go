package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// maxMeta is what a member's words may take: memberlist repeats them in every message about the member, and the time
// that a pool takes to converge grows with them.
const maxMeta = 64

// Meta is what a member says of itself. Region and Version together have at most 40 bytes.
type Meta struct {
	Role     string // "hub" or "agent"
	NodeID   string // a UUID in lower case, or "" if it has none yet
	Region   string
	RPCPort  uint16 // of hubs
	HTTPPort uint16 // of hubs
	Version  string
}

// metaVersion is the first byte of the encoding; the others follow in this order: flags, node id (16 bytes), RPC and
// HTTP port (2 bytes each), then region and version, each after a byte of length.
const (
	metaVersion = 1
	metaFixed   = 2 + 16 + 2 + 2
)

const (
	flagHub = 1 << iota
	flagAgent
	flagNodeID  // it has a node id
	flagLeaving // it is about to leave; what then follows is no failure
)

func (m Meta) encode(leaving bool) ([]byte, error) {
	var flags byte
	switch m.Role {
	case "hub":
		flags = flagHub
	case "agent":
		flags = flagAgent
	default:
		return nil, fmt.Errorf("role %q: want hub or agent", m.Role)
	}
	if leaving {
		flags |= flagLeaving
	}
	var id [16]byte
	if m.NodeID != "" {
		flags |= flagNodeID
		var err error
		if id, err = parseUUID(m.NodeID); err != nil {
			return nil, err
		}
	}
	if n := metaFixed + 2 + len(m.Region) + len(m.Version); n > maxMeta {
		return nil, fmt.Errorf("region %q and version %q take %d bytes too many", m.Region, m.Version, n-maxMeta)
	}
	b := append([]byte{metaVersion, flags}, id[:]...)
	b = binary.BigEndian.AppendUint16(b, m.RPCPort)
	b = binary.BigEndian.AppendUint16(b, m.HTTPPort)
	b = append(append(b, byte(len(m.Region))), m.Region...)
	return append(append(b, byte(len(m.Version))), m.Version...), nil
}

// decodeMeta reads what any holder of the gossip key may have written. More bytes than it knows are left to versions
// to come.
func decodeMeta(b []byte) (m Meta, leaving bool, err error) {
	if len(b) < metaFixed || b[0] != metaVersion {
		return Meta{}, false, errors.New("unknown encoding")
	}
	flags := b[1]
	switch flags & (flagHub | flagAgent) {
	case flagHub:
		m.Role = "hub"
	case flagAgent:
		m.Role = "agent"
	default:
		return Meta{}, false, errors.New("unknown role")
	}
	if flags&flagNodeID != 0 {
		m.NodeID = formatUUID([16]byte(b[2:18]))
	}
	m.RPCPort = binary.BigEndian.Uint16(b[18:])
	m.HTTPPort = binary.BigEndian.Uint16(b[20:])
	rest := b[metaFixed:]
	for _, s := range []*string{&m.Region, &m.Version} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return Meta{}, false, errors.New("cut short")
		}
		n := 1 + int(rest[0])
		*s, rest = string(rest[1:n]), rest[n:]
	}
	return m, flags&flagLeaving != 0, nil
}

func parseUUID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(b) == len(id) {
		id = [16]byte(b)
		if formatUUID(id) == s {
			return id, nil
		}
	}
	return id, fmt.Errorf("node id %q: want a UUID in lower case", s)
}

func formatUUID(id [16]byte) string {
	x := hex.EncodeToString(id[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
