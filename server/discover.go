package server

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
)

// saveMembersEvery spaces the writes of members.json when many members change at once.
const saveMembersEvery = 5 * time.Second

// maxSavedMembers bounds members.json; any one of them leads to all others.
const maxSavedMembers = 64

// startGossip joins the pool with the key that the state holds and the members that the last run knew.
func (h *Hub) startGossip(key []byte) error {
	_, rpcPort := splitPort(h.addrs.RPC)
	_, httpPort := splitPort(h.addrs.HTTP)
	bindHost, bindPort := splitPort(h.cfg.Gossip)
	host, _ := splitPort(publicAddr(h.cfg.Gossip))
	cfg := gossip.Config{
		Name: h.cfg.Name,
		Key:  key,
		Meta: gossip.Meta{
			Role: string(identity.RoleHub), NodeID: h.key.NodeID(), Region: h.cfg.Region,
			RPCPort: rpcPort, HTTPPort: httpPort, Version: api.CompatVersion,
		},
		Transport: h.cfg.Wires.Gossip,
		Log:       h.log.With("component", "gossip"),
	}
	ports := []uint16{bindPort}
	if _, had := splitPort(h.addrs.Gossip); bindPort == 0 && had != 0 {
		ports = []uint16{had, 0} // that of the last run, where others look for this hub
	}
	var pool *gossip.Pool
	var err error
	for _, port := range ports {
		cfg.Bind, cfg.Advertise = joinPort(bindHost, port), joinPort(host, port)
		if pool, err = gossip.New(cfg); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	h.onClose("gossip", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		if err := pool.Leave(ctx); err != nil {
			h.log.Debug("leave gossip", "err", err) // the others will see this hub fail instead
		}
		return pool.Close()
	})
	h.pool.Store(pool)
	_, port := splitPort(pool.Addr())
	h.addrs.Gossip, h.public.Gossip = joinPort(bindHost, port), pool.Addr()
	return nil
}

// leaveTimeout bounds the farewell to the pool; a member that cannot say it is noticed all the same.
const leaveTimeout = 500 * time.Millisecond

// watchMembers rejoins the members of the last run, then keeps members.json. That gossip says a member is dead changes
// nothing here: its link decides, and any holder of the gossip key could forge it.
func (h *Hub) watchMembers(ctx context.Context) error {
	pool := h.pool.Load()
	var saved []string
	if err := h.dir.readJSON("members.json", &saved); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("read saved members", "err", err)
	}
	if len(saved) > 0 {
		if n, err := pool.Join(saved); n == 0 && err != nil {
			h.log.Debug("no saved member answered", "err", err)
		}
	}
	var save <-chan time.Time // set while members.json is behind
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-pool.Events():
			if !ok {
				return nil
			}
			if save == nil {
				save = time.After(saveMembersEvery)
			}
		case <-save:
			save = nil
			if err := h.saveMembers(); err != nil {
				h.log.Warn("save members", "err", err)
			}
		}
	}
}

func (h *Hub) saveMembers() error {
	addrs := []string{}
	for _, m := range h.members() {
		if m.Alive && m.Meta.NodeID != h.key.NodeID() && len(addrs) < maxSavedMembers {
			addrs = append(addrs, m.Addr)
		}
	}
	return h.dir.writeJSON("members.json", addrs)
}

// members returns the gossip members that this hub knows, itself included; empty before gossip runs.
func (h *Hub) members() []gossip.Member {
	pool := h.pool.Load()
	if pool == nil {
		return nil
	}
	return pool.Members()
}

// hubs returns this hub and those that gossip shows alive, by name.
func (h *Hub) hubs() []api.HubAddr {
	hubs := []api.HubAddr{{Name: h.cfg.Name, RPC: h.public.RPC, HTTP: h.public.HTTP}}
	for _, m := range h.members() {
		if m.Alive && m.Meta.Role == string(identity.RoleHub) && m.Meta.NodeID != h.key.NodeID() {
			hubs = append(hubs, api.HubAddr{
				Name: m.Name, RPC: memberAddr(m, m.Meta.RPCPort), HTTP: memberAddr(m, m.Meta.HTTPPort),
			})
		}
	}
	slices.SortFunc(hubs, func(a, b api.HubAddr) int { return cmp.Compare(a.Name, b.Name) })
	return hubs
}

func memberAddr(m gossip.Member, port uint16) string {
	host, _ := splitPort(m.Addr)
	return joinPort(host, port)
}

func joinPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// splitPort splits an address that is known to be valid.
func splitPort(addr string) (host string, port uint16) {
	host, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(p, 10, 16)
	return host, uint16(n)
}

// publicAddr is addr as others reach it: an unspecified host is replaced by this machine's address.
func publicAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = machineIP()
	}
	return net.JoinHostPort(host, port)
}

// machineIP is the first address of this machine that others may reach, IPv4 before IPv6; loopback if there is none.
func machineIP() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	found := ""
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			return n.IP.String()
		}
		found = cmp.Or(found, n.IP.String())
	}
	return cmp.Or(found, "127.0.0.1")
}
