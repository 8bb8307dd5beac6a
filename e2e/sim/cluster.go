package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/server"
)

// The hub's place on the network.
const (
	HubHost   = "10.0.0.1"
	HubRPC    = HubHost + ":4647"
	HubHTTP   = HubHost + ":4646"
	HubGossip = HubHost + ":4648"
)

const (
	userHost  = "10.0.0.2" // where API calls come from
	tokenUses = 10_000
	tokenLife = 300 * 24 * time.Hour
)

// Cluster is a hub and its agents. One goroutine, the test's, uses it.
type Cluster struct {
	Net    *link.Memory
	Gossip *gossip.Network
	API    *client.Client // as the cluster's first user, over HTTPS
	Ledger *Ledger        // what really runs

	t       testing.TB
	log     *slog.Logger
	dir     string
	disk    *server.RaftDisk
	hub     *process
	agents  []*Agent
	token   string
	virtual bool
}

// New makes a cluster with a hub and n agents, node-0 and so on, and waits until all are linked. It ends with t. In a test
// it must be called in a bubble; a benchmark cannot be in one, its time is real.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	store := raft.NewInmemStore()
	_, virtual := t.(*testing.T)
	c := &Cluster{
		Net: link.NewMemory(), Gossip: gossip.NewNetwork(), Ledger: newLedger(), t: t, log: slog.New(slog.DiscardHandler),
		dir:  t.TempDir(),
		disk: &server.RaftDisk{Logs: store, Stable: store, Snapshots: raft.NewInmemSnapshotStore()}, virtual: virtual,
	}
	if virtual {
		c.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	t.Cleanup(c.close)
	c.startHub(true)
	c.API = c.newClient()
	c.token = c.JoinToken(api.JoinTokenRequest{Uses: tokenUses, TTL: int64(tokenLife)})
	for range n {
		c.NewAgent().Start()
	}
	for _, a := range c.agents {
		a.Await()
	}
	return c
}

// close ends all that runs and fails the test if something ended badly or the ledger holds a breach.
func (c *Cluster) close() {
	for _, a := range c.agents {
		a.Stop()
	}
	c.StopHub()
	if c.virtual {
		c.Gossip.Settle()
	}
	if err := c.Net.Close(); err != nil {
		c.t.Error(err)
	}
	for _, a := range c.agents {
		if err := a.unmount(); err != nil {
			c.t.Error(err)
		}
	}
	for _, b := range c.Ledger.Breaches() {
		c.t.Errorf("ledger: %s", b)
	}
}

// process is a hub or an agent: Run in a goroutine.
type process struct {
	cancel context.CancelFunc
	ready  chan struct{} // closed when it says so
	done   chan struct{} // closed when it has ended, with err
	err    error
}

func begin(run func(ctx context.Context, ready func()) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx, func() { close(p.ready) })
	}()
	return p
}

// await waits until p is ready; an error says how it ended instead.
func (p *process) await() error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return errors.Join(errors.New("it ended"), p.err)
	}
}

func (p *process) stop() error {
	p.cancel()
	<-p.done
	return p.err
}

func (c *Cluster) startHub(init bool) {
	c.t.Helper()
	if c.hub != nil {
		c.t.Fatal("the hub runs")
	}
	cfg := server.Config{
		Name: "hub", DataDir: filepath.Join(c.dir, "hub"), HTTP: HubHTTP, RPC: HubRPC, Gossip: HubGossip, Init: init,
		Log: c.log.With("host", "hub"),
		Wires: server.Wires{
			Listen: c.Net.Listen, Dial: c.Net.Dialer(HubHost), Gossip: c.Gossip.Transport(HubGossip), Disk: c.disk,
		},
	}
	c.hub = begin(func(ctx context.Context, ready func()) error {
		cfg.Ready = func(server.Addrs) { ready() }
		return server.Run(ctx, cfg)
	})
	if err := c.hub.await(); err != nil {
		c.t.Fatalf("hub: %v", err)
	}
}

// StartHub starts the hub again, with the disk it had, and waits until it serves.
func (c *Cluster) StartHub() {
	c.t.Helper()
	c.startHub(false)
}

// StopHub stops the hub; one that does not run stays so.
func (c *Cluster) StopHub() {
	if c.hub == nil {
		return
	}
	if c.API != nil {
		c.API.CloseIdle()
	}
	if err := c.hub.stop(); err != nil {
		c.t.Errorf("hub ended with %v", err)
	}
	c.hub = nil
}

// KillHub ends the hub without a word to anybody: what it would say is lost, its connections break.
func (c *Cluster) KillHub() {
	c.Net.Cut(HubHost)
	c.Gossip.Cut(HubGossip)
	c.StopHub()
	c.Net.Kill(HubHost)
	c.Net.Heal(HubHost)
	c.Gossip.Heal(HubGossip)
}

// newClient makes a client with the admin token that the hub left for its operator.
func (c *Cluster) newClient() *client.Client {
	c.t.Helper()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(c.dir, "hub", name))
		if err != nil {
			c.t.Fatal(err)
		}
		return raw
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(server.CAFile)) {
		c.t.Fatal("the authority's file holds no certificate")
	}
	dial := c.Net.Dialer(userHost)
	api, err := client.New(client.Config{
		Address: "https://" + HubHTTP, Token: strings.TrimSpace(string(read(server.AdminTokenFile))),
		HTTP: &http.Client{Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return api
}

// Settle lets d pass and then everything happen that needs no more time.
func (c *Cluster) Settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// JoinToken makes a join token.
func (c *Cluster) JoinToken(req api.JoinTokenRequest) string {
	c.t.Helper()
	reply, err := c.API.CreateJoinToken(context.Background(), req)
	if err != nil {
		c.t.Fatalf("make join token: %v", err)
	}
	return reply.Token
}

// Register submits a job and returns its evaluation's id.
func (c *Cluster) Register(j *api.Job) string {
	c.t.Helper()
	reply, err := c.API.RegisterJob(context.Background(), &api.JobRegisterRequest{Job: j})
	if err != nil {
		c.t.Fatalf("register %s: %v", j.ID, err)
	}
	return reply.EvalID
}

// StopJob stops a job.
func (c *Cluster) StopJob(id string) {
	c.t.Helper()
	if _, err := c.API.StopJob(context.Background(), id, false, client.Query{}); err != nil {
		c.t.Fatalf("stop %s: %v", id, err)
	}
}

// Job reads a job.
func (c *Cluster) Job(id string) *api.Job {
	c.t.Helper()
	j, _, err := c.API.Job(context.Background(), id, client.Query{})
	if err != nil {
		c.t.Fatalf("job %s: %v", id, err)
	}
	return j
}

// Node reads an agent's node.
func (c *Cluster) Node(a *Agent) *api.Node {
	c.t.Helper()
	n, _, err := c.API.Node(context.Background(), a.ID, client.Query{})
	if err != nil {
		c.t.Fatalf("node %s: %v", a.Name, err)
	}
	return n
}

// Allocs lists a job's allocations that all of match hold for, those that are over too, oldest first.
func (c *Cluster) Allocs(job string, match ...func(*api.AllocationListStub) bool) []*api.AllocationListStub {
	c.t.Helper()
	all, _, err := c.API.JobAllocations(context.Background(), job, client.Query{})
	if err != nil {
		c.t.Fatalf("allocations of %s: %v", job, err)
	}
	var out []*api.AllocationListStub
next:
	for _, a := range all {
		for _, m := range match {
			if !m(a) {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// Running matches an allocation that is wanted and runs.
func Running(a *api.AllocationListStub) bool {
	return a.DesiredStatus == api.AllocDesiredRun && a.ClientStatus == api.AllocClientRunning
}

// Status matches what nodes say of an allocation.
func Status(client string) func(*api.AllocationListStub) bool {
	return func(a *api.AllocationListStub) bool { return a.ClientStatus == client }
}

// On matches the allocations of an agent.
func On(agent *Agent) func(*api.AllocationListStub) bool {
	return func(a *api.AllocationListStub) bool { return a.NodeID == agent.ID }
}

// Healthy matches an allocation that has shown that it is healthy.
func Healthy(a *api.AllocationListStub) bool {
	return a.DeploymentStatus != nil && a.DeploymentStatus.Healthy != nil && *a.DeploymentStatus.Healthy
}
