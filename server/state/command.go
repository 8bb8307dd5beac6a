package state

import (
	"encoding/binary"
	"fmt"

	"github.com/brumehq/brume/api"
)

// Command versions that this hub reads. A hub writes entries of the lowest Version among the voters, see
// Snapshot.CommandVersion.
const (
	MinVersion uint8 = 1
	Version    uint8 = 1
)

// Header begins every entry. Time is the leader's clock in unix nanoseconds and becomes every time that the command
// writes; Seed is fresh randomness, from which secrets such as lease nonces are derived.
type Header struct {
	Version uint8 // 0 writes Version
	Time    int64
	Seed    [16]byte
}

// headerSize is the encoded header: version, kind, time, seed.
const headerSize = 1 + 1 + 8 + 16

// Command is one replicated change: RegisterJob, DeregisterJob, PutNode, NodeStatus, DeleteNodes, PutEvals, Plan,
// AllocStatuses, StopAllocs, GC, PutJoinToken, UseJoinToken, PutToken, ClusterMeta or HubVersions.
type Command interface {
	kind() kind
	// encode writes the command, or fails with api.ErrInvalid where it cannot be written.
	encode(*encoder) error
	// apply changes the state, or refuses with one of api's errors and changes nothing. It must be deterministic.
	apply(*txn) (any, error)
}

// kind numbers commands in the log. Numbers are never used again.
type kind uint8

const (
	kindRegisterJob   kind = 1
	kindDeregisterJob kind = 2
	kindPutNode       kind = 3
	kindNodeStatus    kind = 4
	kindDeleteNodes   kind = 5
	kindPutEvals      kind = 6
	kindPlan          kind = 7
	kindAllocStatuses kind = 8
	kindStopAllocs    kind = 9
	kindGC            kind = 10
	kindPutJoinToken  kind = 11
	kindUseJoinToken  kind = 12
	kindPutToken      kind = 13
	kindClusterMeta   kind = 14
	kindHubVersions   kind = 15
)

// decodeCommand reads the body of a command; nil if its kind is not known.
func decodeCommand(k kind, d *decoder) Command {
	switch k {
	case kindRegisterJob:
		return decodeRegisterJob(d)
	case kindDeregisterJob:
		return decodeDeregisterJob(d)
	case kindPutNode:
		return decodePutNode(d)
	case kindNodeStatus:
		return decodeNodeStatus(d)
	case kindDeleteNodes:
		return decodeDeleteNodes(d)
	case kindPutEvals:
		return PutEvals{Evals: d.evals()}
	case kindPlan:
		return decodePlan(d)
	case kindAllocStatuses:
		return decodeAllocStatuses(d)
	case kindStopAllocs:
		return StopAllocs{IDs: d.ids(), Evals: d.evals()}
	case kindGC:
		return decodeGC(d)
	case kindPutJoinToken:
		return decodePutJoinToken(d)
	case kindUseJoinToken:
		return UseJoinToken{ID: d.text(), Role: d.text(), SecretHash: d.bytes()}
	case kindPutToken:
		return decodePutToken(d)
	case kindClusterMeta:
		return decodeClusterMeta(d)
	case kindHubVersions:
		return decodeHubVersions(d)
	}
	return nil
}

// UnsupportedError says that this hub cannot read an entry or a snapshot: it was written by a newer or much older hub, or
// it is damaged. A hub that gets one from Apply must stop: its state can go no further.
type UnsupportedError struct {
	What   string // "log entry 7" or "snapshot"
	Reason string
}

// Error says what cannot be read and why.
func (e *UnsupportedError) Error() string {
	return e.What + " cannot be read by this hub: " + e.Reason
}

// Encode writes a command as the Raft log holds it. It fails with api.ErrInvalid where a value has no encoded form, such
// as an id that is no UUID.
func Encode(h Header, c Command) ([]byte, error) {
	if h.Version == 0 {
		h.Version = Version
	}
	if h.Version < MinVersion || h.Version > Version {
		return nil, fmt.Errorf("command version %d, this hub writes %d to %d: %w", h.Version, MinVersion, Version, api.ErrInvalid)
	}
	e := &encoder{time: h.Time}
	if err := c.encode(e); err != nil {
		return nil, err
	}
	head := make([]byte, headerSize, headerSize+e.size())
	head[0], head[1] = h.Version, byte(c.kind())
	binary.BigEndian.PutUint64(head[2:], uint64(h.Time))
	copy(head[10:], h.Seed[:])
	return e.appendTo(head), nil
}

// decodeEntry reads what Encode wrote.
func decodeEntry(index uint64, entry []byte) (Header, Command, error) {
	unsupported := func(format string, args ...any) error {
		return &UnsupportedError{fmt.Sprintf("log entry %d", index), fmt.Sprintf(format, args...)}
	}
	if len(entry) < headerSize {
		return Header{}, nil, unsupported("it has only %d bytes", len(entry))
	}
	h := Header{Version: entry[0], Time: int64(binary.BigEndian.Uint64(entry[2:])), Seed: [16]byte(entry[10:headerSize])}
	if h.Version < MinVersion || h.Version > Version {
		return Header{}, nil, unsupported("command version %d, this hub knows %d to %d", h.Version, MinVersion, Version)
	}
	d := newDecoder(entry[headerSize:], h.Time)
	c := decodeCommand(kind(entry[1]), d)
	if c == nil {
		return Header{}, nil, unsupported("unknown command %d", entry[1])
	}
	if err := d.end(); err != nil {
		return Header{}, nil, unsupported("command %d is damaged: %v", entry[1], err)
	}
	return h, c, nil
}
