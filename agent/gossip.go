package agent

import (
	"context"
	"errors"
	"net"
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
	pool, err := openPool(cfg, m, gossip.Config{
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
			if len(hubs) > 0 {
				alone = 0
				continue
			}
			if err := rejoin(pool, m.gossip(), withPort(cfg.Join, gossipPort)); err != nil {
				cfg.Log.Debug("join gossip", "err", err)
				next.Reset(backoff(alone, gossipRejoin))
				alone++
			}
		}
	}
}

// openPool starts gossip. Port 0 is the port that this node had before, if that is free: others know its name by it.
func openPool(cfg Config, m *members, g gossip.Config) (*gossip.Pool, error) {
	host, port, err := net.SplitHostPort(cfg.Gossip)
	if err != nil {
		return nil, err
	}
	var pool *gossip.Pool
	if _, before, err := net.SplitHostPort(m.self()); err == nil && port == "0" {
		again := g
		again.Bind = net.JoinHostPort(host, before)
		pool, err = gossip.New(again)
		if err != nil {
			cfg.Log.Debug("gossip on the port of before", "err", err)
		}
	}
	if pool == nil {
		if pool, err = gossip.New(g); err != nil {
			return nil, err
		}
	}
	m.learnSelf(pool.Addr())
	return pool, nil
}

// rejoin meets the members that are remembered, or else whom the configuration names, who may be no member but a hub's RPC.
func rejoin(pool *gossip.Pool, remembered, named []string) error {
	var errs []error
	for _, addrs := range [][]string{remembered, named} {
		n, err := pool.Join(addrs)
		if n > 0 {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
