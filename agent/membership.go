package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
)

// admission is what the cluster gave this node.
type admission struct {
	Region      string
	Certificate string // PEM
	CA          string // PEM
	GossipKey   []byte
	Gossip      string // host:port that this node was last told to gossip on
}

// contacts are the members that this node remembers. They may be lost: any one member's address brings them back.
type contacts struct {
	Hubs   []api.HubAddr
	Gossip []string // gossip addresses of members
	Self   string   // this node's own
}

// loadJSON reads a file into v and reports whether there is one.
func loadJSON(path string, v any) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

func saveJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return identity.WriteFile(path, append(data, '\n'))
}

// members is what this node knows of the others. It is safe for use by many goroutines.
type members struct {
	log   *slog.Logger
	path  string
	dirty chan struct{} // holds a token while there is something to save

	mu     sync.Mutex
	known  contacts
	nearby []string // RPC addresses of the hubs that gossip shows alive
}

// loadMembers reads the contacts at path; there need not be any.
func loadMembers(path string, log *slog.Logger) (*members, error) {
	m := &members{log: log, path: path, dirty: make(chan struct{}, 1)}
	_, err := loadJSON(path, &m.known)
	return m, err
}

// keep saves what is learned until ctx ends.
func (m *members) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.dirty:
		}
		m.mu.Lock()
		known := m.known // its slices are replaced, never changed
		m.mu.Unlock()
		if err := saveJSON(m.path, known); err != nil {
			m.log.Error("remember members", "err", err)
		}
	}
}

// learnHubs replaces the list of hubs, as a hub told it.
func (m *members) learnHubs(hubs []api.HubAddr) {
	m.change(func() bool {
		if len(hubs) == 0 || slices.Equal(m.known.Hubs, hubs) {
			return false
		}
		m.known.Hubs = slices.Clone(hubs)
		return true
	})
}

// learnGossip replaces what gossip shows: addresses of living members to join again later, and the living hubs' by name.
func (m *members) learnGossip(addrs []string, hubs map[string]string) {
	slices.Sort(addrs)
	m.change(func() bool {
		m.nearby = slices.Sorted(maps.Values(hubs))
		if len(addrs) == 0 || slices.Equal(m.known.Gossip, addrs) {
			return false
		}
		m.known.Gossip = addrs
		return true
	})
}

// learnSelf remembers where this node gossips.
func (m *members) learnSelf(addr string) {
	m.change(func() bool {
		changed := m.known.Self != addr
		m.known.Self = addr
		return changed
	})
}

// self is where this node gossiped when it last ran, "" if that is not known.
func (m *members) self() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Self
}

// hubs lists RPC addresses to try, the likeliest first: what gossip shows, then what was remembered.
func (m *members) hubs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(m.nearby)
	for _, h := range m.known.Hubs {
		if h.RPC != "" && !slices.Contains(out, h.RPC) {
			out = append(out, h.RPC)
		}
	}
	return out
}

// gossip lists gossip addresses of members.
func (m *members) gossip() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.known.Gossip)
}

func (m *members) change(f func() bool) {
	m.mu.Lock()
	changed := f()
	m.mu.Unlock()
	if !changed {
		return
	}
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}
