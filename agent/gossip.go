package agent

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
)

const (
	gossipLeave  = 500 * time.Millisecond // how long a clean stop waits for its goodbye to spread
	gossipRejoin = 30 * time.Second       // between looks whether any hub is left; if not, this node joins again
)

// mingle makes this node a member of the cluster's gossip until ctx ends, and keeps the node's view of hubs and
// members current. It never decides that anybody is dead: the hubs it shows are only the first to be tried.
func mingle(ctx context.Context, cfg Config, m *members, a admission, nodeID string) error {
	name := cfg.Name + "-" + nodeID[:8] // names must differ, hosts' names may not
	pool, err := gossip.New(gossip.Config{
		Name: name, Bind: cfg.Gossip, Key: a.GossipKey, Transport: cfg.Wires.Gossip,
		Meta: gossip.Meta{Role: string(identity.RoleAgent), NodeID: nodeID, Region: a.Region, Version: cfg.Version},
		Log:  cfg.Log.With("part", "gossip"),
	})
	if err != nil {
		return err
	}
	defer func() {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), gossipLeave)
		defer cancel()
		if err := pool.Leave(leave); err != nil {
			cfg.Log.Debug("leave gossip", "err", err)
		}
		if err := pool.Close(); err != nil {
			cfg.Log.Warn("close gossip", "err", err)
		}
	}()
	known := append(withPort(cfg.Join, gossipPort), m.gossip()...)
	next := time.NewTimer(0)
	defer next.Stop()
	for alone := 0; ; {
		addrs, hubs := survey(pool, name)
		m.learnGossip(addrs, hubs)
		select {
		case <-ctx.Done():
			return nil
		case <-pool.Events():
		case <-next.C:
			next.Reset(gossipRejoin)
			if len(hubs) > 0 || len(known) == 0 {
				alone = 0
				continue
			}
			if n, err := pool.Join(slices.Concat(known, m.gossip())); n == 0 {
				cfg.Log.Debug("join gossip", "err", err)
				next.Reset(backoff(alone, gossipRejoin))
				alone++
			}
		}
	}
}

// survey lists the gossip addresses of the living members beside this node, and the RPC addresses of the hubs among them
// by name.
func survey(pool *gossip.Pool, self string) (members []string, hubs map[string]string) {
	hubs = make(map[string]string)
	for _, member := range pool.Members() {
		if !member.Alive || member.Name == self {
			continue
		}
		members = append(members, member.Addr)
		if host, _, err := net.SplitHostPort(member.Addr); err == nil && member.Meta.Role == string(identity.RoleHub) {
			hubs[member.Name] = net.JoinHostPort(host, strconv.Itoa(int(member.Meta.RPCPort)))
		}
	}
	return members, hubs
}
