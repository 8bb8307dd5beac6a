package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/link"
)

// Config says how a hub runs. Addresses are host:port and port 0 takes a free one; an empty address, name, region or
// datacenter is what the data directory remembers from the last start, else the default. A hub that is started again
// with port 0 tries the port it had.
type Config struct {
	Name       string // "" is the host's name
	Region     string
	Datacenter string
	DataDir    string // absolute; made with mode 0700
	HTTP       string
	RPC        string
	Gossip     string

	Init bool // make a cluster in DataDir, which must not hold one yet
	Dev  bool // plain HTTP on loopback without tokens; makes the cluster when there is none

	Log   *slog.Logger // nil discards
	Ready func(Addrs)  // called once, when the hub serves all of its addresses; may be nil

	Wires Wires
}

// Addrs are a hub's addresses as bound (host:port, the port never 0).
type Addrs struct {
	HTTP   string
	RPC    string
	Gossip string
}

// Wires replaces the hub's contacts with the world, so that whole clusters run in one process in virtual time. The zero
// value is the real world.
type Wires struct {
	Listen func(addr string) (net.Listener, error) // nil: TCP
	Dial   link.DialFunc                           // nil: TCP
	Gossip memberlist.Transport                    // nil: UDP and TCP
	Disk   *RaftDisk                               // nil: files below DataDir
}

// RaftDisk is where Raft keeps its log, its term and its snapshots.
type RaftDisk struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
}

// DefaultConfig returns a hub on the well-known ports of every interface.
func DefaultConfig() Config {
	return Config{
		Region:     api.DefaultRegion,
		Datacenter: api.DefaultDatacenter,
		HTTP:       "0.0.0.0:4646",
		RPC:        "0.0.0.0:4647",
		Gossip:     "0.0.0.0:4648",
	}
}

// Validate reports all that is wrong with c, joined.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data directory: missing"))
	}
	if len(c.Name) > maxName {
		errs = append(errs, fmt.Errorf("name %q: longer than %d bytes", c.Name, maxName))
	}
	for _, a := range []struct{ what, addr string }{{"HTTP", c.HTTP}, {"RPC", c.RPC}, {"gossip", c.Gossip}} {
		if a.addr == "" {
			continue
		}
		if err := validAddr(a.addr); err != nil {
			errs = append(errs, fmt.Errorf("%s address %q: %w", a.what, a.addr, err))
		}
	}
	if c.Dev && c.HTTP != "" && !loopbackHost(c.HTTP) {
		errs = append(errs, fmt.Errorf("HTTP address %q: dev serves without tokens, so only on a loopback address", c.HTTP))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return nil
}

// maxName bounds a hub's name: it is a gossip member's name and stands in certificates.
const maxName = 64

func validAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("port: want 0 to 65535")
	}
	return nil
}

// loopbackHost reports whether the host of addr (host or host:port) names this machine's loopback.
func loopbackHost(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(trimBrackets(host))
	return err == nil && ip.IsLoopback()
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
