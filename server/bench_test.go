package server

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// benchHub is a hub on disk whose nodes are simulated: they are registered and count as linked.
func benchHub(b *testing.B, nodes int) *Hub {
	b.Helper()
	ready := make(chan struct{})
	h := newHub(Config{
		Name: "h1", DataDir: b.TempDir(), HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true,
		Log: slog.New(slog.DiscardHandler), Ready: func(Addrs) { close(ready) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("hub ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		b.Fatalf("hub did not start: %v", err)
	}
	for i := range nodes {
		n := testNode(uuid.NewString(), fmt.Sprint("n", i))
		n.NodeResources.Cpu.CpuShares, n.NodeResources.Memory.MemoryMB, n.NodeResources.Disk.DiskMB = 1e9, 1e9, 1e9
		h.adopt(n, n.Name)
		a := &agentLink{nodeID: n.ID}
		a.registered.Store(true)
		h.links.add(a)
		if _, _, err := h.apply(ctx, state.PutNode{Node: n}); err != nil {
			b.Fatal(err)
		}
	}
	return h
}

// place registers a job and waits until its evaluation is complete.
func place(b *testing.B, h *Hub, j *api.Job) {
	b.Helper()
	r, err := h.registerJob(b.Context(), &api.JobRegisterRequest{Job: j})
	if err != nil {
		b.Fatal(err)
	}
	for {
		changed, cancel := h.store.Watch(state.EvalKey(r.EvalID))
		e := h.store.Snapshot().Eval(r.EvalID)
		if e.Status != api.EvalStatusPending {
			cancel()
			if e.Status != api.EvalStatusComplete || e.BlockedEval != "" {
				b.Fatalf("evaluation is %s: %s", e.Status, e.StatusDescription)
			}
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			b.Fatal("not placed after 10 s")
		}
		cancel()
	}
}

// BenchmarkPlace10000on1000 is one job of 10,000 on 1,000 simulated nodes, from its registration to the commit of its last
// placement, through HTTP's handler's path, Raft, the log on disk and the store.
func BenchmarkPlace10000on1000(b *testing.B) {
	h := benchHub(b, 1000)
	i := 0
	for b.Loop() {
		i++
		place(b, h, testJob(fmt.Sprint("job-", i), count(10_000)))
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/job")
}

// BenchmarkPlace100JobsOf10 registers a hundred jobs at once.
func BenchmarkPlace100JobsOf10(b *testing.B) {
	h := benchHub(b, 100)
	i := 0
	for b.Loop() {
		i++
		done := make(chan struct{})
		for n := range 100 {
			go func() {
				place(b, h, testJob(fmt.Sprintf("job-%d-%d", i, n), count(10)))
				done <- struct{}{}
			}()
		}
		for range 100 {
			<-done
		}
	}
}

// BenchmarkSubmit is one small job, from its registration to the commit of its placement.
func BenchmarkSubmit(b *testing.B) {
	h := benchHub(b, 10)
	i := 0
	for b.Loop() {
		i++
		place(b, h, testJob(fmt.Sprint("job-", i)))
	}
}

// BenchmarkReport10000 is 10,000 allocations on 1,000 nodes that are reported running, a report a node, all at once.
func BenchmarkReport10000(b *testing.B) {
	h := benchHub(b, 1000)
	i := 0
	for b.Loop() {
		b.StopTimer()
		i++
		job := fmt.Sprint("job-", i)
		place(b, h, testJob(job, count(10_000)))
		byNode := map[string][]*api.AllocStatus{}
		snap := h.store.Snapshot()
		for r := range snap.RowsOfJob("default", job) {
			node, _ := snap.NodeOf(r)
			byNode[node] = append(byNode[node], &api.AllocStatus{
				ID: r.ID().String(), ClientStatus: api.AllocClientRunning,
				TaskStates: map[string]*api.TaskState{"main": {State: api.TaskStateRunning, StartedAt: time.Now()}},
			})
		}
		b.StartTimer()
		done := make(chan error)
		for node, statuses := range byNode {
			go func() {
				rep, err := h.checkReport(node, statuses)
				if err == nil {
					h.reports.in <- rep
					err = (<-rep.done).err
				}
				done <- err
			}()
		}
		for range byNode {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
}
