package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/server/state"
)

// What a sealed secret is for: it opens with its own name only.
var (
	sealedCAKey = []byte("ca-key")
	sealedKeys  = []byte("keys")
)

// sharedKeys are the secrets that members share: the sealed part of the cluster's state, as JSON.
type sharedKeys struct{ Gossip []byte }

// keys opens them.
func (h *Hub) keys(c *state.Cluster) (k sharedKeys, err error) {
	raw, err := h.cluster.Open(c.SealedKeys, sealedKeys)
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err != nil {
		return k, fmt.Errorf("shared keys: %w", err)
	}
	return k, nil
}

// genesis is what a new cluster's first entries say. Its file stays until the leader has committed them, so that a hub
// that is killed in between makes the same cluster when it starts again. Secrets in it are sealed.
type genesis struct {
	Cluster state.Cluster
	Admin   state.Token
}

// open takes the data directory and completes the configuration; whether a cluster is to be made is settled here.
func (h *Hub) open() error {
	dir, err := openDataDir(h.cfg.DataDir)
	if err != nil {
		return err
	}
	h.dir = dir
	h.onClose("data directory", dir.Close)
	last, exists, err := dir.recall()
	if err != nil {
		return err
	}
	h.cfg = h.cfg.complete(last)
	switch {
	case exists && h.cfg.Init:
		return api.E(api.ErrConflict, fmt.Sprintf("data directory %s holds a cluster already: start the hub without --init", dir.path))
	case !exists && !h.cfg.Init && !h.cfg.Dev:
		return api.E(api.ErrNotFound, fmt.Sprintf("data directory %s holds no cluster: make one with --init, or name the directory of one with --data-dir", dir.path))
	case exists && h.cfg.Region != last.Region:
		return api.E(api.ErrConflict, fmt.Sprintf("region %q: this cluster is in %q", h.cfg.Region, last.Region))
	}
	h.addrs = Addrs{HTTP: last.HTTP, RPC: last.RPC, Gossip: last.Gossip}
	h.fresh = !exists
	return nil
}

// loadIdentity loads the hub's keys and certificate, after making a cluster if there is none. The listeners are open by
// then: a busy port leaves no cluster behind.
func (h *Hub) loadIdentity() (err error) {
	if !h.fresh {
		if err := h.dir.complete(); err != nil {
			return err
		}
	}
	if h.key, err = identity.LoadOrCreateKey(h.dir.file("node.key")); err != nil {
		return err
	}
	if h.cluster, err = identity.LoadOrCreateClusterKey(h.dir.file("cluster.key")); err != nil {
		return err
	}
	if h.fresh {
		if err := h.makeCluster(); err != nil {
			return fmt.Errorf("make cluster: %w", err)
		}
	}
	return h.loadCredentials()
}

// complete fills what cfg leaves open from what the directory remembers, then from the defaults.
func (c Config) complete(last remembered) Config {
	d := DefaultConfig()
	if c.Dev {
		d.HTTP, d.RPC, d.Gossip = "127.0.0.1:4646", "127.0.0.1:4647", "127.0.0.1:4648"
	}
	c.Name = cmp.Or(c.Name, last.Name, hostName())
	c.Region = cmp.Or(c.Region, last.Region, d.Region)
	c.Datacenter = cmp.Or(c.Datacenter, last.Datacenter, d.Datacenter)
	c.HTTP = cmp.Or(c.HTTP, last.HTTP, d.HTTP)
	c.RPC = cmp.Or(c.RPC, last.RPC, d.RPC)
	c.Gossip = cmp.Or(c.Gossip, last.Gossip, d.Gossip)
	return c
}

// remember writes hub.json: from now on the directory holds a cluster, and a start without flags finds the same ports.
func (h *Hub) remember() error {
	return h.dir.writeJSON("hub.json", remembered{
		Name: h.cfg.Name, Region: h.cfg.Region, Datacenter: h.cfg.Datacenter,
		HTTP: h.addrs.HTTP, RPC: h.addrs.RPC, Gossip: h.addrs.Gossip,
	})
}

// makeCluster makes the authority, the keys and the admin token and writes them where the first leader finds them. The
// genesis comes last but for hub.json: with it, a run that was cut short is taken up again; without it, nothing is used.
func (h *Hub) makeCluster() error {
	if g, err := h.dir.readGenesis(); err == nil {
		h.cfg.Region = g.Cluster.Region
		return h.remember()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	shared, err := json.Marshal(sharedKeys{Gossip: identity.NewGossipKey()})
	if err != nil {
		return err
	}
	admin := identity.NewSecret()
	g := genesis{
		Cluster: state.Cluster{ID: uuid.NewString(), Region: h.cfg.Region, CACert: ca.CertPEM()},
		Admin: state.Token{
			AccessorID: uuid.NewString(), Name: "admin", Type: state.TokenManagement, SecretHash: identity.HashSecret(admin),
		},
	}
	if g.Cluster.SealedCAKey, err = h.cluster.Seal(ca.KeyPEM(), sealedCAKey); err != nil {
		return err
	}
	if g.Cluster.SealedKeys, err = h.cluster.Seal(shared, sealedKeys); err != nil {
		return err
	}
	cert, err := h.signSelf(ca)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{AdminTokenFile, []byte(admin + "\n")}, {CAFile, ca.CertPEM()}, {"node.crt", cert}} {
		if err := h.dir.write(f.name, f.content); err != nil {
			return err
		}
	}
	if err := h.dir.writeJSON("genesis", g); err != nil {
		return err
	}
	return h.remember()
}

// bootstrap makes this hub the only voter of a log that is empty; one that is not stays as it is. A log that is empty though
// the cluster was begun long ago was lost: no leader could ever come of it.
func (h *Hub) bootstrap(disk *RaftDisk, trans raft.Transport, cfg *raft.Config) error {
	if _, err := h.dir.readGenesis(); errors.Is(err, fs.ErrNotExist) {
		return h.checkLog(disk)
	} else if err != nil {
		return err
	}
	err := raft.BootstrapCluster(cfg, disk.Logs, disk.Stable, disk.Snapshots, trans, raft.Configuration{
		Servers: []raft.Server{{ID: cfg.LocalID, Address: trans.LocalAddr()}},
	})
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("first Raft configuration: %w", err)
	}
	return nil
}

// checkLog fails where neither log nor snapshot holds anything.
func (h *Hub) checkLog(disk *RaftDisk) error {
	last, err := disk.Logs.LastIndex()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	snapshots, err := disk.Snapshots.List()
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	if last == 0 && len(snapshots) == 0 {
		return fmt.Errorf("the log in %s is lost: restore the data directory from a copy, or make another cluster with --init and --data-dir", h.dir.file("raft"))
	}
	return nil
}

func (d *dataDir) readGenesis() (g genesis, err error) {
	err = d.readJSON("genesis", &g)
	return g, err
}

// commitGenesis makes the first entries of a new cluster; the leader calls it at the start of its term.
func (h *Hub) commitGenesis(ctx context.Context) error {
	g, err := h.dir.readGenesis()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	snap := h.store.Snapshot()
	if snap.Token(g.Admin.SecretHash) == nil {
		if _, _, err := h.apply(ctx, state.PutToken{Token: g.Admin, Bootstrap: true}); err != nil {
			return fmt.Errorf("admin token: %w", err)
		}
	}
	if snap.Cluster() == nil {
		if _, _, err := h.apply(ctx, state.ClusterMeta{Cluster: g.Cluster}); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		h.log.Info("cluster made", "region", h.cfg.Region)
	}
	return h.dir.remove("genesis")
}

// hostIPs are the addresses that the hub's certificate is valid for, beside loopback.
func (h *Hub) hostIPs() []net.IP {
	var ips []net.IP
	for _, addr := range []string{h.addrs.HTTP, h.addrs.RPC, h.public.HTTP, h.public.RPC} {
		host, _ := splitPort(addr)
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
			ips = append(ips, ip)
		}
	}
	return ips
}
