package state

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

const (
	benchNodes = 1000
	benchRows  = 4000 // in an entry
)

// benchCluster has nodes and one job with a dynamic port.
func benchCluster(b testing.TB) (*history, *api.Job, []uint32) {
	h := newHistory(b)
	ordinals := h.addNodes(benchNodes)
	h.register(apitest.Job(b, apitest.Ports("http"), apitest.Count(50_000)))
	return h, h.snap().Job(api.DefaultNamespace, apitest.JobID), ordinals
}

// planOf makes the n-th full entry of placements.
func planOf(j *api.Job, ordinals []uint32, n, rows int) Plan {
	g := PlaceGroup{Job: RefOf(j), Group: j.TaskGroups[0].Name, EvalID: "7a1f0c9e-1111-4222-8333-444455556666",
		Metric: &api.AllocMetric{NodesEvaluated: benchNodes}, Rows: make([]Placement, rows)}
	for i := range g.Rows {
		k := n*rows + i
		g.Rows[i] = Placement{ID: testID("alloc", k), Index: k, Node: ordinals[k%len(ordinals)], Ports: []uint16{uint16(20000 + k/len(ordinals)%12000)}}
	}
	return Plan{Place: []PlaceGroup{g}}
}

func statusesOf(plan Plan, at int64, report func(ID, int64) *api.AllocStatus) AllocStatuses {
	var c AllocStatuses
	for i := range plan.Place[0].Rows {
		c.Statuses = append(c.Statuses, report(plan.Place[0].Rows[i].ID, at+int64(i)*12_345))
	}
	return c
}

func BenchmarkApplyPlan(b *testing.B) {
	h, j, ordinals := benchCluster(b)
	var bytes int
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		e := h.encode(planOf(j, ordinals, n, benchRows))
		bytes += len(e.Data)
		b.StartTimer()
		if _, err := h.store.Apply(e.Index, e.Data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRows), "ns/row")
	b.ReportMetric(float64(bytes)/float64(b.N*benchRows), "log-B/row")
}

func BenchmarkApplyStatuses(b *testing.B) {
	h, j, ordinals := benchCluster(b)
	var bytes int
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		plan := planOf(j, ordinals, n, benchRows)
		h.do(plan)
		e := h.encode(statusesOf(plan, testStart+int64(len(h.entries)+1)*1e9, running))
		bytes += len(e.Data)
		b.StartTimer()
		if _, err := h.store.Apply(e.Index, e.Data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRows), "ns/row")
	b.ReportMetric(float64(bytes)/float64(b.N*benchRows), "log-B/row")
}

func BenchmarkEncodePlan(b *testing.B) {
	_, j, ordinals := benchCluster(b)
	plan := planOf(j, ordinals, 0, benchRows)
	for b.Loop() {
		if _, err := Encode(Header{Time: testStart}, plan); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRegisterJob applies one small command an entry: the cost of a commit.
func BenchmarkRegisterJob(b *testing.B) {
	h := newHistory(b)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		e := h.encode(RegisterJob{Job: apitest.Job(b, apitest.ID(fmt.Sprintf("job-%d", n%1000)), apitest.Priority(1+n%100)), Eval: h.newEval()})
		b.StartTimer()
		if _, err := h.store.Apply(e.Index, e.Data); err != nil {
			b.Fatal(err)
		}
	}
}

// placed returns a store with n allocations that run.
func placed(tb testing.TB, n int) *history {
	h, j, ordinals := benchCluster(tb)
	for k := range n / benchRows {
		plan := planOf(j, ordinals, k, benchRows)
		h.do(plan)
		h.do(statusesOf(plan, testStart+int64(len(h.entries))*1e9, running))
	}
	h.entries = nil
	return h
}

func BenchmarkPersist100k(b *testing.B) {
	s := placed(b, 100_000).snap()
	var buf bytes.Buffer
	if err := s.Persist(&buf); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	for b.Loop() {
		if err := s.Persist(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore100k(b *testing.B) {
	var buf bytes.Buffer
	if err := placed(b, 100_000).snap().Persist(&buf); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	for b.Loop() {
		if err := New().Restore(bytes.NewReader(buf.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestAllocationBudgets holds the log and the heap to the budgets of docs/benchmarks.md.
func TestAllocationBudgets(t *testing.T) {
	const n = 5 * benchRows
	h, j, ordinals := benchCluster(t)
	logged := 0
	do := func(c Command) {
		e := h.encode(c)
		logged += len(e.Data)
		if _, err := h.store.Apply(e.Index, e.Data); err != nil {
			t.Fatal(err)
		}
		h.entries[len(h.entries)-1].Data = nil
	}
	plans := func(f func(Plan)) (perRow int) {
		before := liveHeap()
		for k := range n / benchRows {
			f(planOf(j, ordinals, k, benchRows))
		}
		return int(int64(liveHeap()-before) / n)
	}
	placed := plans(func(p Plan) { do(p) })
	reported := placed + plans(func(p Plan) { do(statusesOf(p, testStart, running)) })
	running := logged / n
	plans(func(p Plan) {
		c := statusesOf(p, testStart, endedWell)
		c.Base = h.snap()
		do(c)
	})
	runtime.KeepAlive(h)
	t.Logf("heap per allocation: %d B placed, %d B running with three events; log: %d B until it runs, %d B until it has ended",
		placed, reported, running, logged/n)
	if placed > 256 {
		t.Errorf("a placed allocation holds %d B of heap, want at most 256", placed)
	}
	if reported > 512 {
		t.Errorf("a running allocation holds %d B of heap, want at most 512", reported)
	}
	if perRow := logged / n; perRow > 100 {
		t.Errorf("an allocation takes %d B of log in its whole life, want at most 100", perRow)
	}
}

// BenchmarkPlace10000 applies one job of 10,000 on 1,000 nodes, from empty: three entries.
func BenchmarkPlace10000(b *testing.B) {
	h, j, ordinals := benchCluster(b)
	var file bytes.Buffer
	if err := h.snap().Persist(&file); err != nil {
		b.Fatal(err)
	}
	plans := []Plan{planOf(j, ordinals, 0, 4000), planOf(j, ordinals, 1, 4000), planOf(j, ordinals, 4, 2000)}
	h.entries = nil
	for _, p := range plans {
		h.encode(p)
	}
	for b.Loop() {
		b.StopTimer()
		s := New()
		if err := s.Restore(bytes.NewReader(file.Bytes())); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for _, e := range h.entries {
			if _, err := s.Apply(e.Index, e.Data); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// endedWell is the report that follows running.
func endedWell(id ID, at int64) *api.AllocStatus { return ended(id, at+5e9, 0) }
