package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/brumehq/brume/agent"
	"github.com/brumehq/brume/agent/allocdir"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/fake"
)

// What a machine has unless a test says otherwise.
const (
	MachineMHz      = 4000
	MachineMemoryMB = 8192
)

// Agent is a machine: an agent that may be stopped and started again, and the driver with its tasks, which go on
// meanwhile.
type Agent struct {
	Name   string
	Host   string             // its address
	ID     string             // of its node, once it was linked
	Config agent.Config       // for the next Start
	Facts  *fingerprint.Facts // what the machine says of itself at the next Start
	Driver *Driver

	c       *Cluster
	process *process // nil while the agent does not run
	dials   atomic.Int64
}

// NewAgent adds a machine whose agent has a join token and the hub's address, and is not started yet.
func (c *Cluster) NewAgent() *Agent {
	i := len(c.agents)
	a := &Agent{c: c, Name: fmt.Sprintf("node-%d", i), Host: fmt.Sprintf("10.%d.%d.1", 1+i/250, i%250)}
	a.Facts = &fingerprint.Facts{
		Attributes: map[string]string{
			"kernel.name": "linux", "unique.hostname": a.Name, api.AttrCompatVersion: api.CompatVersion,
		},
		Resources: api.NodeResources{
			Cpu: api.NodeCPU{CpuShares: MachineMHz, TotalCpuCores: 4}, Memory: api.NodeMemory{MemoryMB: MachineMemoryMB},
			Disk: api.NodeDisk{DiskMB: 100 << 10}, MinDynamicPort: api.MinDynamicPort, MaxDynamicPort: api.MaxDynamicPort,
			Networks: []*api.NodeNetwork{{Device: "eth0", IP: a.Host, CIDR: a.Host + "/16", Mode: "host"}},
		},
	}
	a.Driver = c.Ledger.driver(a.Name)
	a.Config = agent.DefaultConfig()
	a.Config.Name, a.Config.DataDir, a.Config.Gossip = a.Name, filepath.Join(c.dir, a.Name), a.gossipAddr()
	a.Config.Log, a.Config.Join, a.Config.JoinToken = c.log.With("host", a.Name), []string{HubRPC}, c.token
	a.Config.Drivers = map[string]plugins.Client{fake.Name: plugins.InProcess(a.Driver)}
	c.agents = append(c.agents, a)
	return a
}

func (a *Agent) gossipAddr() string { return a.Host + ":4648" }

// memberName is what gossip calls the agent.
func (a *Agent) memberName() string { return a.Name + "-" + a.ID[:8] }

// Dials is how often the agent has dialled a hub, to join or to link.
func (a *Agent) Dials() int { return int(a.dials.Load()) }

// Run runs the agent until ctx ends, as Start does in the background.
func (a *Agent) Run(ctx context.Context) error {
	cfg := a.Config
	dial := a.c.Net.Dialer(a.Host)
	cfg.Wires = agent.Wires{
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			a.dials.Add(1)
			return dial(ctx, addr)
		},
		Gossip:      a.c.Gossip.Transport(a.gossipAddr()),
		Fingerprint: func(context.Context) (*fingerprint.Facts, error) { return a.Facts, nil },
	}
	return agent.Run(ctx, cfg)
}

// Start starts the agent.
func (a *Agent) Start() *Agent {
	a.c.t.Helper()
	if a.process != nil {
		a.c.t.Fatalf("%s runs", a.Name)
	}
	a.process = begin(func(ctx context.Context, ready func()) error {
		a.Config.Ready = func(id string) {
			a.ID = id
			ready()
		}
		return a.Run(ctx)
	})
	return a
}

// Await waits until the hub knows the agent that was started.
func (a *Agent) Await() *Agent {
	a.c.t.Helper()
	if err := a.process.await(); err != nil {
		a.c.t.Fatalf("%s: %v", a.Name, err)
	}
	return a
}

// Stop stops the agent and leaves its tasks; one that does not run stays so.
func (a *Agent) Stop() {
	if a.process == nil {
		return
	}
	if err := a.process.stop(); err != nil {
		a.c.t.Errorf("%s ended with %v", a.Name, err)
	}
	a.process = nil
}

// Kill ends the agent without a word to anybody: what it would say is lost, its connections break. Its tasks go on.
func (a *Agent) Kill() {
	a.Cut()
	a.CutGossip()
	a.Stop()
	a.c.Net.Kill(a.Host)
	a.Heal()
	a.HealGossip()
}

// Up reports whether the agent runs.
func (a *Agent) Up() bool { return a.process != nil }

// Cut takes the machine off the network, but for gossip: nothing arrives, and nothing fails.
func (a *Agent) Cut() { a.c.Net.Cut(a.Host) }

// Heal is the inverse of Cut.
func (a *Agent) Heal() { a.c.Net.Heal(a.Host) }

// Reset breaks the agent's link as a router that forgets it does: both ends see it at once, and may connect again.
func (a *Agent) Reset() { a.c.Net.Kill(a.Host) }

// CutGossip loses the gossip to and from the machine.
func (a *Agent) CutGossip() { a.c.Gossip.Cut(a.gossipAddr()) }

// HealGossip is the inverse of CutGossip.
func (a *Agent) HealGossip() { a.c.Gossip.Heal(a.gossipAddr()) }

// GossipKey is the pool's key as this member keeps it.
func (a *Agent) GossipKey() ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(a.Config.DataDir, "node", "admission.json"))
	if err != nil {
		return nil, err
	}
	var have struct{ GossipKey []byte }
	return have.GossipKey, json.Unmarshal(raw, &have)
}

// unmount takes away what the agent mounted for tasks, so that its directory can be removed.
func (a *Agent) unmount() error {
	root := filepath.Join(a.Config.DataDir, "allocs")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, allocdir.New(filepath.Join(root, e.Name())).Remove())
	}
	return err
}
