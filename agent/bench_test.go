package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/plugins"
)

// bench is the part of an agent below the link: a test speaks for the hubs.
type bench struct {
	t        *testing.T
	dir      string
	driver   *scripted
	h        *host
	recon    *reconciler
	drivers  *driverSet
	wanted   chan *api.NodeAllocs
	index    uint64
	stopping func()

	mu      sync.Mutex
	latest  map[string]*api.AllocStatus
	process chan struct{} // closed when the plugin's process ends
}

// newBench starts an agent's reconciler over dir and driver, in a bubble.
func newBench(t *testing.T, dir string, driver *scripted, opts ...func(*reconciler)) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, driver: driver, wanted: make(chan *api.NodeAllocs), latest: make(map[string]*api.AllocStatus)}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := Config{Name: "n1", DataDir: dir, Datacenter: "dc1", NodePool: "default", Drivers: map[string]plugins.Client{}}
	d, err := newDirs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db, err := localdb.Open(d.database())
	if err != nil {
		t.Fatal(err)
	}
	node := describeNode(cfg, "5c2f7bd1-0000-8000-8000-000000000000", &fingerprint.Facts{})
	b.drivers = newDriverSet(log, node, []pluginSpec{{"scripted", b.plugin}})
	b.h = &host{log: log, dirs: d, db: db, drivers: b.drivers, reporter: newReporter(), node: node, region: "global",
		maxKill: 30 * time.Second, environ: []string{"PATH=/bin"}}
	b.recon = newReconciler(b.h, b.wanted, false)
	for _, opt := range opts {
		opt(b.recon)
	}
	ctx, cancel := context.WithCancel(t.Context())
	helpers := stage(ctx)
	ready := make(chan struct{})
	helpers.run(func(ctx context.Context) { b.drivers.run(ctx, func() { close(ready) }) })
	helpers.run(func(ctx context.Context) { b.h.reporter.serve(ctx, b.receive) })
	<-ready
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.recon.run(ctx); err != nil {
			t.Error(err)
		}
	}()
	b.stopping = sync.OnceFunc(func() {
		cancel()
		<-done
		synctest.Wait()
		helpers.end()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		b.stopping()
		entries, _ := os.ReadDir(d.allocs)
		for _, e := range entries {
			if err := d.alloc(e.Name()).Remove(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// plugin is the driver as a plugin process that the test can end.
func (b *bench) plugin(context.Context) (*plugin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.process = make(chan struct{})
	c := &mortal{Client: plugins.InProcess(b.driver), gone: b.process}
	return &plugin{name: "scripted", client: c, gone: b.process, release: func(context.Context) {}}, nil
}

// killPlugin ends the plugin's process; the next one knows no task.
func (b *bench) killPlugin() {
	b.driver.forgetAll()
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.process)
}

// mortal is a client that answers as one does whose plugin's process may end.
type mortal struct {
	plugins.Client
	gone <-chan struct{}
}

// over is err, or that the process has ended if it has.
func (m *mortal) over(err error) error {
	select {
	case <-m.gone:
		return plugins.ErrPluginGone
	default:
		return err
	}
}

func (m *mortal) Start(ctx context.Context, c *plugins.TaskConfig) (*plugins.TaskHandle, *plugins.NetworkOverride, error) {
	if err := m.over(nil); err != nil {
		return nil, nil, err
	}
	handle, network, err := m.Client.Start(ctx, c)
	if err := m.over(err); err != nil {
		return nil, nil, err
	}
	return handle, network, nil
}

func (m *mortal) Recover(ctx context.Context, h *plugins.TaskHandle) error {
	if err := m.over(nil); err != nil {
		return err
	}
	return m.Client.Recover(ctx, h)
}

func (m *mortal) Destroy(ctx context.Context, id string, force bool) error {
	if err := m.over(nil); err != nil {
		return err
	}
	return m.Client.Destroy(ctx, id, force)
}

func (m *mortal) Wait(ctx context.Context, id string) (plugins.ExitResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		r   plugins.ExitResult
		err error
	}
	answers := make(chan answer, 1) // nobody may listen any more
	go func() {
		r, err := m.Client.Wait(ctx, id)
		answers <- answer{r, err}
	}()
	select {
	case a := <-answers:
		return a.r, a.err
	case <-m.gone:
		return plugins.ExitResult{}, plugins.ErrPluginGone
	}
}

// stop ends the agent as a clean stop does.
func (b *bench) stop() { b.stopping() }

func (b *bench) receive(_ context.Context, batch []*api.AllocStatus) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range batch {
		b.latest[s.ID] = s
	}
	return nil
}

// status returns the newest report of an allocation, once all is quiet.
func (b *bench) status(id string) *api.AllocStatus {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.latest[id]
	if s == nil {
		b.t.Fatalf("allocation %s was never reported", id)
	}
	return s
}

// hubs sends what the hubs want, as the next index.
func (b *bench) hubs(full bool, allocs ...*api.Allocation) {
	b.index++
	n := &api.NodeAllocs{Index: b.index, Full: full}
	for _, a := range allocs {
		j := a.Job
		c := *a
		c.Job, c.AllocModifyIndex = nil, b.index
		n.Allocs, n.Versions, n.Jobs = append(n.Allocs, &c), append(n.Versions, j.Version), append(n.Jobs, j)
	}
	b.wanted <- n
	synctest.Wait()
}

// wantEvents compares the types of a task's newest events.
func (b *bench) wantEvents(id, task string, want ...string) {
	b.t.Helper()
	events := b.status(id).TaskStates[task].Events
	var got []string
	for _, e := range events {
		got = append(got, e.Type)
	}
	if len(got) > len(want) {
		got = got[len(got)-len(want):]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("events of %s: %v, want %v", task, got, want)
		for _, e := range events {
			b.t.Logf("%s: %s", e.Type, e.DisplayMessage)
		}
	}
}

func (b *bench) wantStatus(id, want string) *api.AllocStatus {
	b.t.Helper()
	s := b.status(id)
	if s.ClientStatus != want {
		b.t.Errorf("allocation %s is %s (%s), want %s", id, s.ClientStatus, s.ClientDescription, want)
	}
	return s
}

// newAllocation makes an allocation of a job with the named tasks of the scripted driver.
func newAllocation(kind string, tasks ...string) *api.Allocation {
	j := api.NewJob(kind)
	j.ID, j.Name = "web", "web"
	g := j.NewGroup()
	g.Name = "api"
	for _, name := range tasks {
		t := g.NewTask()
		t.Name, t.Driver, t.Config = name, "scripted", map[string]any{"command": "${NOMAD_TASK_NAME}"}
		t.RestartPolicy.Delay = 8 * time.Second // 8 to 10 with its jitter
		g.Tasks = append(g.Tasks, t)
	}
	j.TaskGroups = []*api.Group{g}
	return &api.Allocation{
		ID: "0b4ffd6e-8a1c-4d9a-9d6e-aaaaaaaaaaaa", Namespace: "default", Name: "web.api[0]", JobID: j.ID, Job: j, TaskGroup: "api",
		DesiredStatus: api.AllocDesiredRun, ClientStatus: api.AllocClientPending,
	}
}

// exists reports whether the allocation's directory is there.
func (b *bench) exists(id string) bool {
	_, err := os.Stat(filepath.Join(b.dir, "allocs", id))
	return err == nil
}
