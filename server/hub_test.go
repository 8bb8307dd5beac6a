package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/server/state"
)

// world is a network with one hub, all in one process.
type world struct {
	t      *testing.T
	net    *link.Memory
	gossip *gossip.Network
	disk   *RaftDisk
	dir    string
	hub    *Hub
	done   chan error // what ended the hub
	stop   func()     // ends the hub and waits
}

// newWorld is a network without a hub yet.
func newWorld(t *testing.T, dir string) *world {
	store := raft.NewInmemStore()
	return &world{
		t: t, net: link.NewMemory(), gossip: gossip.NewNetwork(), dir: dir,
		disk: &RaftDisk{Logs: store, Stable: store, Snapshots: raft.NewInmemSnapshotStore()},
	}
}

// bubble runs f against a fresh hub in virtual time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.net.Close()
		w.startHub(Config{Init: true})
		defer func() { w.stop() }()
		f(t, w)
	})
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// startHub runs the hub and waits until it is ready.
func (w *world) startHub(cfg Config) {
	w.t.Helper()
	cfg.Name, cfg.DataDir, cfg.Log = "h1", w.dir, testLog(w.t)
	cfg.HTTP, cfg.RPC, cfg.Gossip = "10.0.0.1:4646", "10.0.0.1:4647", "10.0.0.1:4648"
	cfg.Wires = Wires{
		Listen: w.net.Listen, Dial: w.net.Dialer("10.0.0.1"), Disk: w.disk, Gossip: w.gossip.Transport("10.0.0.1:4648"),
	}
	ready := make(chan struct{})
	cfg.Ready = func(Addrs) { close(ready) }
	w.hub = newHub(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.done = done
	go func() { done <- w.hub.run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("hub ended with %v", err)
		}
		w.stop = func() {}
	}
	select {
	case <-ready:
	case err := <-done:
		w.t.Fatalf("hub did not start: %v", err)
	}
}

// fakeAgent speaks the link's paths as an agent does, and runs tasks by saying so.
type fakeAgent struct {
	t      *testing.T
	w      *world
	name   string
	key    *identity.Key
	creds  *identity.Credentials
	node   *api.Node
	behave behaviour

	session *link.Session
	http    *http.Client
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	allocs map[string]*api.Allocation // that it was told to run
	jobs   map[string]uint64          // alloc -> version

	answers atomic.Int64 // of the watch
}

// behaviour is how a fake agent's tasks fare.
type behaviour struct {
	healthyAfter time.Duration // 0: never said
	exit         string        // client status that follows after runFor; "" keeps running
	runFor       time.Duration
}

// join admits an agent with a token and links it.
func (w *world) join(name string, b behaviour) *fakeAgent {
	w.t.Helper()
	reply, err := w.hub.createJoinToken(context.Background(), api.JoinTokenRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	a := &fakeAgent{t: w.t, w: w, name: name, behave: b, allocs: map[string]*api.Allocation{}, jobs: map[string]uint64{}}
	if a.key, err = identity.NewKey(); err != nil {
		w.t.Fatal(err)
	}
	joined, err := w.requestJoin(name, reply.Token, a.key)
	if err != nil {
		w.t.Fatal(err)
	}
	if a.creds, err = identity.NewCredentials(a.key, []byte(joined.Certificate), []byte(joined.CA)); err != nil {
		w.t.Fatal(err)
	}
	a.node = testNode(a.key.NodeID(), name)
	a.link()
	return a
}

func testNode(id, name string) *api.Node {
	n := &api.Node{ID: id, Name: name, Attributes: map[string]string{"kernel.name": "linux", "unique.hostname": name}}
	n.Drivers = map[string]*api.DriverStatus{"raw_exec": {Detected: true, Healthy: true}}
	n.NodeResources.Cpu = api.NodeCPU{CpuShares: 4000, TotalCpuCores: 4}
	n.NodeResources.Memory.MemoryMB = 8000
	n.NodeResources.Disk.DiskMB = 100_000
	n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = api.MinDynamicPort, api.MaxDynamicPort
	n.NodeResources.Networks = []*api.NodeNetwork{{Device: "eth0", IP: "10.0.1.1", Mode: "host"}}
	return n
}

// requestJoin makes the one request of a machine without a certificate.
func (w *world) requestJoin(name, token string, key *identity.Key) (*api.JoinReply, error) {
	tok, err := identity.ParseJoinToken(token)
	if err != nil {
		return nil, err
	}
	csr, err := key.CSR(name)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(api.JoinRequest{TokenID: tok.ID, Secret: tok.Secret, Role: "agent", Name: name, CSR: string(csr)})
	if err != nil {
		return nil, err
	}
	conn, err := link.DialTLS(context.Background(), "10.0.0.1:4647", identity.JoinConfig(tok.CAHash), w.net.Dialer(name))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodPut, "http://hub"+api.JoinPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var reply api.JoinReply
	return &reply, decodeReply(resp, &reply)
}

func decodeReply(resp *http.Response, into any) error {
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		if kind := api.KindOfName(resp.Header.Get(api.HeaderError)); kind != nil {
			return api.E(kind, string(raw))
		}
		return fmt.Errorf("status %d: %s", resp.StatusCode, raw)
	}
	return json.Unmarshal(raw, into)
}

// link connects the agent, registers its node and follows its allocations until unlink.
func (a *fakeAgent) link() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	a.session, err = link.Connect(ctx, "10.0.0.1:4647", a.creds.ClientConfig(link.ALPNAgent), a.w.net.Dialer(a.name))
	if err != nil {
		a.t.Fatal(err)
	}
	a.stop = cancel
	a.http = &http.Client{Transport: a.session.RoundTripper()}
	session := a.session
	a.done.Go(func() {
		if err := session.Serve(ctx, http.NotFoundHandler()); err != nil && ctx.Err() == nil {
			a.t.Logf("agent %s: link ended: %v", a.name, err)
		}
	})
	var reply api.NodeReply
	if err := a.call(ctx, http.MethodPut, api.LinkNodePath, a.node, &reply); err != nil {
		a.t.Fatal(err)
	}
	a.done.Go(func() { a.watch(ctx) })
}

// unlink ends the connection as a killed agent does; its tasks are forgotten.
func (a *fakeAgent) unlink() {
	a.stop()
	a.session.Close()
	a.done.Wait()
}

func (a *fakeAgent) call(ctx context.Context, method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://hub"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeReply(resp, into)
}

// watch follows the node's allocations.
func (a *fakeAgent) watch(ctx context.Context) {
	var index uint64
	for ctx.Err() == nil {
		var got api.NodeAllocs
		if err := a.call(ctx, http.MethodGet, fmt.Sprintf("%s?index=%d&wait=5m", api.LinkAllocsPath, index), nil, &got); err != nil {
			if ctx.Err() == nil && !errors.Is(err, link.ErrClosed) {
				a.t.Logf("agent %s: watch: %v", a.name, err)
			}
			return
		}
		a.answers.Add(1)
		for i, alloc := range got.Allocs {
			a.take(ctx, alloc, got.Versions[i])
		}
		index = got.Index
	}
}

// take starts or stops an allocation.
func (a *fakeAgent) take(ctx context.Context, alloc *api.Allocation, version uint64) {
	a.mu.Lock()
	_, known := a.allocs[alloc.ID]
	a.allocs[alloc.ID], a.jobs[alloc.ID] = alloc, version
	a.mu.Unlock()
	switch {
	case alloc.DesiredStatus != api.AllocDesiredRun:
		a.done.Go(func() { a.say(ctx, alloc.ID, api.AllocClientComplete, nil) })
	case !known:
		a.done.Go(func() { a.runAlloc(ctx, alloc) })
	}
}

func (a *fakeAgent) runAlloc(ctx context.Context, alloc *api.Allocation) {
	a.say(ctx, alloc.ID, api.AllocClientRunning, nil)
	if a.behave.exit != "" {
		if sleep(ctx, a.behave.runFor) {
			a.say(ctx, alloc.ID, a.behave.exit, nil)
		}
		return
	}
	if a.behave.healthyAfter > 0 && sleep(ctx, a.behave.healthyAfter) {
		healthy := true
		a.say(ctx, alloc.ID, api.AllocClientRunning, &healthy)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (a *fakeAgent) say(ctx context.Context, id, status string, healthy *bool) {
	task := &api.TaskState{State: api.TaskStateRunning}
	if api.ClientTerminal(status) {
		task.State, task.Failed, task.FinishedAt = api.TaskStateDead, status == api.AllocClientFailed, time.Now()
	}
	s := &api.AllocStatus{
		ID: id, ClientStatus: status, Healthy: healthy, Time: time.Now().UnixNano(), TaskStates: map[string]*api.TaskState{"main": task},
	}
	var reply api.WriteReply
	if err := a.call(ctx, http.MethodPut, api.LinkStatusesPath, api.StatusReport{Allocs: []*api.AllocStatus{s}}, &reply); err != nil && ctx.Err() == nil {
		a.t.Errorf("agent %s: report %s: %v", a.name, status, err)
	}
}

// testJob is a job with one group "web" of one task "main".
func testJob(id string, opts ...func(*api.Job)) *api.Job {
	j := api.NewJob(api.JobTypeService)
	j.ID = id
	g := j.NewGroup()
	g.Name = "web"
	task := g.NewTask()
	task.Name, task.Driver = "main", "raw_exec"
	task.Config = map[string]any{"command": "/bin/true"}
	g.Tasks = []*api.Task{task}
	j.TaskGroups = []*api.Group{g}
	for _, o := range opts {
		o(j)
	}
	return j
}

func count(n int) func(*api.Job) { return func(j *api.Job) { j.TaskGroups[0].Count = n } }

func (w *world) run(j *api.Job) *api.JobRegisterResponse {
	w.t.Helper()
	r, err := w.hub.registerJob(context.Background(), &api.JobRegisterRequest{Job: j})
	if err != nil {
		w.t.Fatalf("register %s: %v", j.ID, err)
	}
	return r
}

// rows are a job's allocations that match.
func (w *world) rows(job string, match func(*state.Row) bool) []*state.Row {
	var rows []*state.Row
	for r := range w.hub.store.Snapshot().RowsOfJob(api.DefaultNamespace, job) {
		if match(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

func running(r *state.Row) bool { return r.ClientStatus() == api.AllocClientRunning }

func on(a *fakeAgent, w *world) func(*state.Row) bool {
	return func(r *state.Row) bool {
		id, _ := w.hub.store.Snapshot().NodeOf(r)
		return id == a.key.NodeID() && running(r)
	}
}

// settle lets everything happen that does not need time to pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestJobRunsOnLinkedAgents(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer a.unlink()
		defer b.unlink()
		w.run(testJob("web", count(4)))
		settle(time.Second)
		if n := len(w.rows("web", running)); n != 4 {
			t.Errorf("%d allocations run, want 4", n)
		}
		if na, nb := len(w.rows("web", on(a, w))), len(w.rows("web", on(b, w))); na == 0 || nb == 0 {
			t.Errorf("%d on n1 and %d on n2, want some on each", na, nb)
		}
		if j := w.hub.store.Snapshot().Job("default", "web"); j.Status != api.JobStatusRunning {
			t.Errorf("job is %s, want running", j.Status)
		}
	})
}

func TestStoppedJobStopsItsAllocations(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{})
		defer a.unlink()
		w.run(testJob("web", count(3)))
		settle(time.Second)
		if _, err := w.hub.deregisterJob(context.Background(), deregistration{Namespace: "default", ID: "web"}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if n := len(w.rows("web", running)); n != 0 {
			t.Errorf("%d allocations run, want 0", n)
		}
		if j := w.hub.store.Snapshot().Job("default", "web"); j.Status != api.JobStatusDead {
			t.Errorf("job is %s, want dead", j.Status)
		}
	})
}

func TestBlockedEvaluationWakesForNewNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.run(testJob("web", count(2)))
		settle(time.Second)
		e := w.hub.store.Snapshot().Eval(r.EvalID)
		if e.Status != api.EvalStatusComplete || e.BlockedEval == "" || e.FailedTGAllocs["web"] == nil {
			t.Fatalf("evaluation %s, blocked %q, failed %v: want complete with an explanation", e.Status, e.BlockedEval, e.FailedTGAllocs)
		}
		a := w.join("n1", behaviour{})
		defer a.unlink()
		settle(time.Second)
		if n := len(w.rows("web", running)); n != 2 {
			t.Errorf("%d allocations run, want 2", n)
		}
		for e := range w.hub.store.Snapshot().OpenEvals() {
			t.Errorf("evaluation %s is %s: want none open", e.ID, e.Status)
		}
	})
}

func TestBlockedEvaluationWakesForFreedRoom(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		big := func(j *api.Job) { j.TaskGroups[0].Tasks[0].Resources.MemoryMB = 7000 }
		a := w.join("n1", behaviour{})
		defer a.unlink()
		w.run(testJob("first", big))
		settle(time.Second)
		w.run(testJob("second", big))
		settle(time.Second)
		if n := len(w.rows("second", running)); n != 0 {
			t.Fatalf("%d allocations of second run beside first", n)
		}
		if _, err := w.hub.deregisterJob(context.Background(), deregistration{Namespace: "default", ID: "first"}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if n := len(w.rows("second", running)); n != 1 {
			t.Errorf("%d allocations of second run, want 1", n)
		}
	})
}

func TestNodeDownAtGraceAndReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer b.unlink()
		w.run(testJob("web", count(2)))
		settle(time.Second)
		a.unlink()
		settle(api.NodeGrace - 100*time.Millisecond)
		if n := w.hub.store.Snapshot().Node(a.key.NodeID()); n.Status != api.NodeStatusReady {
			t.Fatalf("node is %s before the grace ends", n.Status)
		}
		settle(200 * time.Millisecond)
		if n := w.hub.store.Snapshot().Node(a.key.NodeID()); n.Status != api.NodeStatusDown {
			t.Errorf("node is %s after the grace, want down", n.Status)
		}
		if n := len(w.rows("web", on(b, w))); n != 2 {
			t.Errorf("%d allocations run on the other node, want 2", n)
		}
		lost := w.rows("web", func(r *state.Row) bool { return r.ClientStatus() == api.AllocClientLost })
		if len(lost) != 1 {
			t.Errorf("%d allocations lost, want 1", len(lost))
		}
		a.link()
		defer a.unlink()
		settle(time.Second)
		if n := w.hub.store.Snapshot().Node(a.key.NodeID()); n.Status != api.NodeStatusReady {
			t.Errorf("node that came back is %s, want ready", n.Status)
		}
	})
}

func TestAgentRestartInsideGraceMovesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer b.unlink()
		w.run(testJob("web", count(2)))
		settle(time.Second)
		before := w.rows("web", running)
		a.unlink()
		settle(api.NodeGrace - time.Second)
		a.link()
		defer a.unlink()
		settle(time.Minute)
		after := w.rows("web", func(*state.Row) bool { return true })
		if len(after) != len(before) || len(w.rows("web", running)) != 2 {
			t.Errorf("%d allocations after the restart, %d before", len(after), len(before))
		}
	})
}

func TestFailedAllocationIsRescheduledAfterBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{exit: api.AllocClientFailed, runFor: time.Second})
		defer a.unlink()
		w.run(testJob("web"))
		settle(20 * time.Second)
		if n := len(w.rows("web", func(*state.Row) bool { return true })); n != 1 {
			t.Fatalf("%d allocations before the back-off of 30 s ends, want 1", n)
		}
		settle(15 * time.Second)
		if n := len(w.rows("web", func(*state.Row) bool { return true })); n != 2 {
			t.Errorf("%d allocations after it, want 2", n)
		}
	})
}

func TestBatchJobCompletes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{exit: api.AllocClientComplete, runFor: time.Second})
		defer a.unlink()
		j := api.NewJob(api.JobTypeBatch)
		j.ID = "once"
		g := j.NewGroup()
		g.Name, g.Count = "g", 5
		task := g.NewTask()
		task.Name, task.Driver = "main", "raw_exec"
		g.Tasks, j.TaskGroups = []*api.Task{task}, []*api.Group{g}
		w.run(j)
		settle(5 * time.Second)
		done := w.rows("once", func(r *state.Row) bool { return r.ClientStatus() == api.AllocClientComplete })
		if len(done) != 5 || len(w.rows("once", func(*state.Row) bool { return true })) != 5 {
			t.Errorf("%d allocations completed, want 5", len(done))
		}
		if j := w.hub.store.Snapshot().Job("default", "once"); j.Status != api.JobStatusDead {
			t.Errorf("job is %s, want dead", j.Status)
		}
	})
}

func TestRollingUpdateGoesOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{healthyAfter: 10 * time.Second})
		defer a.unlink()
		w.run(testJob("web", count(3)))
		settle(15 * time.Second)
		if j := w.hub.store.Snapshot().Job("default", "web"); !j.Stable {
			t.Error("job is not stable though all is healthy")
		}
		w.run(testJob("web", count(3), func(j *api.Job) { j.TaskGroups[0].Tasks[0].Config["command"] = "/bin/false" }))
		isNew := func(r *state.Row) bool { return running(r) && r.Job().Version == 1 }
		for i, want := range []int{1, 2, 3} {
			if i == 0 {
				settle(5 * time.Second)
			} else {
				settle(10 * time.Second)
			}
			if n := len(w.rows("web", isNew)); n != want {
				t.Errorf("step %d: %d of the new version run, want %d", i, n, want)
			}
			if n := len(w.rows("web", running)); n != 3 {
				t.Errorf("step %d: %d run in all, want 3", i, n)
			}
		}
		settle(10 * time.Second)
		if j := w.hub.store.Snapshot().Job("default", "web"); !j.Stable || j.Version != 1 {
			t.Errorf("job of version %d, stable %v: want 1, stable", j.Version, j.Stable)
		}
	})
}

func TestStoppedAllocationIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{})
		defer a.unlink()
		w.run(testJob("web"))
		settle(time.Second)
		old := w.rows("web", running)[0]
		if _, err := w.hub.stopAlloc(context.Background(), old.ID().String()); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		now := w.rows("web", running)
		if len(now) != 1 || now[0].ID() == old.ID() {
			t.Errorf("%d run, want 1, and another one", len(now))
		}
		if _, err := w.hub.stopAlloc(context.Background(), "11111111-1111-4111-8111-111111111111"); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("stop of an unknown allocation: %v, want not found", err)
		}
	})
}

func TestHubRestartKeepsStateAndTasks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{})
		w.run(testJob("web", count(2)))
		settle(time.Second)
		before := len(w.rows("web", running))
		a.unlink()
		w.stop()
		w.startHub(Config{})
		settle(time.Second)
		a.link()
		defer a.unlink()
		settle(time.Minute)
		if n := len(w.rows("web", running)); n != before || n != 2 {
			t.Errorf("%d run after the hub's restart, %d before, want 2", n, before)
		}
		if n := len(w.rows("web", func(*state.Row) bool { return true })); n != 2 {
			t.Errorf("%d allocations in all, want 2: nothing is rescheduled", n)
		}
	})
}

func TestJoinTokenIsSpentAndChecked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		reply, err := w.hub.createJoinToken(ctx, api.JoinTokenRequest{Uses: 1, TTL: int64(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(reply.Token, "."+strings.Split(reply.Token, ".")[1]+".", "."+identity.NewSecret()+".", 1)
		if _, err := w.requestJoin("n1", wrong, key); !errors.Is(err, api.ErrDenied) {
			t.Errorf("join with a wrong secret: %v, want denied", err)
		}
		if _, err := w.requestJoin("n1", reply.Token, key); err != nil {
			t.Errorf("join: %v", err)
		}
		if _, err := w.requestJoin("n1", reply.Token, key); !errors.Is(err, api.ErrDenied) {
			t.Errorf("second use: %v, want denied", err)
		}
		late, err := w.hub.createJoinToken(ctx, api.JoinTokenRequest{Uses: 5, TTL: int64(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := w.requestJoin("n1", late.Token, key); !errors.Is(err, api.ErrDenied) {
			t.Errorf("expired token: %v, want denied", err)
		}
		if _, err := w.hub.createJoinToken(ctx, api.JoinTokenRequest{Role: "hub"}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("token for a hub: %v, want invalid", err)
		}
	})
}

func TestAgentSpeaksForItselfOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer a.unlink()
		defer b.unlink()
		w.run(testJob("web", count(2)))
		settle(time.Second)
		ctx := context.Background()
		theirs := w.rows("web", on(b, w))[0].ID().String()
		report := api.StatusReport{Allocs: []*api.AllocStatus{{ID: theirs, ClientStatus: api.AllocClientFailed}}}
		var reply api.WriteReply
		if err := a.call(ctx, http.MethodPut, api.LinkStatusesPath, report, &reply); !errors.Is(err, api.ErrDenied) {
			t.Errorf("report of another node's allocation: %v, want denied", err)
		}
		if err := a.call(ctx, http.MethodPut, api.LinkNodePath, b.node, &reply); !errors.Is(err, api.ErrDenied) {
			t.Errorf("registration of another node: %v, want denied", err)
		}
		csr, err := b.key.CSR("n1")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.call(ctx, http.MethodPut, api.LinkCertificatePath, api.CertificateRequest{CSR: string(csr)}, &reply); !errors.Is(err, api.ErrDenied) {
			t.Errorf("certificate for another key: %v, want denied", err)
		}
		if csr, err = a.key.CSR("n1"); err != nil {
			t.Fatal(err)
		}
		var cert api.CertificateReply
		if err := a.call(ctx, http.MethodPut, api.LinkCertificatePath, api.CertificateRequest{CSR: string(csr)}, &cert); err != nil {
			t.Errorf("own renewal: %v", err)
		} else if err := a.creds.Replace([]byte(cert.Certificate), []byte(cert.CA)); err != nil {
			t.Errorf("renewed certificate: %v", err)
		}
		odd := *a.node
		odd.Name = "n1\x1b[2J"
		if err := a.call(ctx, http.MethodPut, api.LinkNodePath, odd, &reply); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("name that controls terminals: %v, want invalid", err)
		}
		big := api.StatusReport{Allocs: slices.Repeat([]*api.AllocStatus{{ID: theirs}}, maxReported+1)}
		if err := a.call(ctx, http.MethodPut, api.LinkStatusesPath, big, &reply); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("huge report: %v, want invalid", err)
		}
	})
}

func TestDataDirSaysWhatItHolds(t *testing.T) {
	dir := t.TempDir()
	err := Run(t.Context(), Config{DataDir: dir})
	if !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "--init") {
		t.Errorf("start without a cluster: %v, want not found that names --init", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{
		Name: "h1", DataDir: dir, HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true,
		Log: testLog(t), Ready: func(Addrs) { cancel() },
	}
	if err := Run(ctx, cfg); err != nil {
		t.Fatalf("make a cluster: %v", err)
	}
	if err := Run(t.Context(), cfg); !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), "--init") {
		t.Errorf("make it again: %v, want conflict that names --init", err)
	}
	for _, name := range []string{"admin.token", "node.key", "cluster.key", "hub.json"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, st.Mode())
		}
	}
}

// A hub that was killed while it made its cluster makes the same one when it is asked again.
func TestInterruptedInitIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{
		Name: "h1", DataDir: dir, HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true,
		Log: testLog(t),
	}
	h := newHub(cfg)
	if err := errors.Join(h.open(), h.loadIdentity()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.dir.remove("hub.json"), h.close()); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	ca, token := read(CAFile), read(AdminTokenFile)
	h = newHub(cfg)
	h.cfg.Ready = func(Addrs) {
		if err := h.token(strings.TrimSpace(token)); err != nil {
			t.Errorf("admin token of the first try: %v", err)
		}
		if c := h.store.Snapshot().Cluster(); string(c.CACert) != ca {
			t.Error("the second try made another authority")
		}
		cancel()
	}
	if err := h.run(ctx); err != nil {
		t.Fatal(err)
	}
	if read(CAFile) != ca || read(AdminTokenFile) != token {
		t.Error("the second try replaced files of the first")
	}
	if _, err := os.Stat(filepath.Join(dir, "genesis")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("genesis is still there: %v", err)
	}
}

func TestSecondHubOnADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	first, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := openDataDir(dir); !errors.Is(err, api.ErrConflict) {
		t.Errorf("second hub: %v, want conflict", err)
	}
}

func TestRestartFromDiskFindsStateAndPorts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	var first, second Addrs
	start := func(addrs *Addrs, cfg Config, f func(*Hub)) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ready := make(chan struct{})
		cfg.DataDir, cfg.Log, cfg.Ready = dir, testLog(t), func(a Addrs) { *addrs = a; close(ready) }
		h := newHub(cfg)
		done := make(chan error, 1)
		go func() { done <- h.run(ctx) }()
		select {
		case <-ready:
			f(h)
		case err := <-done:
			t.Fatalf("hub did not start: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("hub ended with %v", err)
		}
	}
	put := func(h *Hub, from, to int) {
		for i := range to - from {
			if _, err := h.registerJob(t.Context(), &api.JobRegisterRequest{Job: testJob(fmt.Sprint("job-", from+i))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	start(&first, Config{Name: "h1", HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true}, func(h *Hub) {
		put(h, 0, 20)
		if err := h.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		put(h, 20, 30) // in the log only
	})
	start(&second, Config{}, func(h *Hub) {
		n := 0
		for range h.store.Snapshot().Jobs("default", "") {
			n++
		}
		if n != 30 {
			t.Errorf("%d jobs after the restart, want 30", n)
		}
		admin, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.token(strings.TrimSpace(string(admin))); err != nil {
			t.Errorf("admin token: %v", err)
		}
		for _, bad := range []string{"", "x"} {
			if err := h.token(bad); !errors.Is(err, api.ErrDenied) {
				t.Errorf("token %q: %v, want denied", bad, err)
			}
		}
	})
	if first != second {
		t.Errorf("addresses %v after the restart, %v before", second, first)
	}
}
