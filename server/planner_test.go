package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

func evalOf(job string, opts ...func(*api.Evaluation)) *api.Evaluation {
	e := &api.Evaluation{
		ID: uuid.NewString(), Namespace: api.DefaultNamespace, JobID: job, Type: api.JobTypeService, Priority: 50,
		Status: api.EvalStatusPending, TriggeredBy: api.EvalTriggerJobRegister,
	}
	for _, o := range opts {
		o(e)
	}
	return e
}

func TestQueueOrder(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(index uint64, priority int) func(*api.Evaluation) {
		return func(e *api.Evaluation) { e.CreateIndex, e.Priority = index, priority }
	}
	blocked := func(e *api.Evaluation) { e.Status = api.EvalStatusBlocked }
	tests := []struct {
		rule  string
		evals []*api.Evaluation
		wake  bool
		want  []string
	}{
		{"higher priority first", []*api.Evaluation{evalOf("a", at(1, 50)), evalOf("b", at(2, 70))}, false, []string{"b", "a"}},
		{"then who waited longer", []*api.Evaluation{evalOf("a", at(2, 50)), evalOf("b", at(1, 50))}, false, []string{"b", "a"}},
		{"a job once", []*api.Evaluation{evalOf("a", at(1, 50)), evalOf("a", at(2, 50))}, false, []string{"a"}},
		{"blocked ones wait", []*api.Evaluation{evalOf("a", at(1, 50), blocked)}, false, nil},
		{"blocked ones wake", []*api.Evaluation{evalOf("a", at(1, 50), blocked)}, true, []string{"a"}},
		{"new before retried", []*api.Evaluation{evalOf("a", at(1, 50), blocked), evalOf("b", at(2, 50))}, true, []string{"b", "a"}},
		{"urgent retried before new", []*api.Evaluation{evalOf("a", at(1, 90), blocked), evalOf("b", at(2, 50))}, true, []string{"a", "b"}},
		{"delayed ones wait", []*api.Evaluation{evalOf("a", func(e *api.Evaluation) { e.WaitUntil = now.Add(time.Second) })}, false, nil},
		{"finished ones are nothing", []*api.Evaluation{evalOf("a", func(e *api.Evaluation) { e.Status = api.EvalStatusComplete })}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			q := newQueue()
			for _, e := range tt.evals {
				q.put(e, now)
			}
			if tt.wake {
				q.wake(map[string]bool{"class": true})
			}
			var got []string
			for w := q.next(); w != nil; w = q.next() {
				got = append(got, w.name.ID)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("order %v, want %v", got, tt.want)
			}
		})
	}
}

func TestQueueWakesByClass(t *testing.T) {
	tests := []struct {
		rule string
		eval *api.Evaluation
		want bool
	}{
		{"eligible class", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"c": true} }), true},
		{"ineligible class", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"c": false} }), false},
		{"class not looked at", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"d": false} }), true},
		{"class does not tell", evalOf("a", func(e *api.Evaluation) {
			e.ClassEligibility, e.EscapedComputedClass = map[string]bool{"c": false}, true
		}), true},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			q := newQueue()
			tt.eval.Status = api.EvalStatusBlocked
			q.put(tt.eval, time.Unix(0, 0))
			q.wake(map[string]bool{"c": true})
			if got := q.next() != nil; got != tt.want {
				t.Errorf("woken %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBusyJobWaitsForItsPlan(t *testing.T) {
	q := newQueue()
	q.put(evalOf("a"), time.Unix(0, 0))
	w := q.next()
	w.ready = nil // taken
	q.put(evalOf("a"), time.Unix(0, 0))
	if q.next() != nil {
		t.Error("the job is looked at again before its plan is committed")
	}
	q.done(w)
	if q.next() != w {
		t.Error("what came meanwhile is forgotten")
	}
}

// A node that goes down between a plan and its commit takes no placement: what was dropped is given back to the view and
// its evaluation is pending again.
func TestDroppedPlacementIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{})
		defer a.unlink()
		ctx := context.Background()
		j := testJob("web", count(3))
		if _, _, err := w.hub.apply(ctx, state.RegisterJob{Job: j}); err != nil { // no evaluation: the hub's planner stays out
			t.Fatal(err)
		}
		p := newPlanner(w.hub, &term{})
		p.rebuild()
		e := evalOf("web")
		e.WaitUntil = time.Now().Add(time.Hour)
		if _, _, err := w.hub.apply(ctx, state.PutEvals{Evals: []*api.Evaluation{e}}); err != nil {
			t.Fatal(err)
		}
		e.WaitUntil = time.Time{}
		p.queue.put(e, time.Now())
		p.schedule(p.queue.next())
		if len(p.open) != 1 || len(p.occupied) != 3 {
			t.Fatalf("%d entries, %d placements, want 1 and 3", len(p.open), len(p.occupied))
		}
		down := state.NodeStatus{IDs: []string{a.key.NodeID()}, Status: api.NodeStatusDown}
		if _, _, err := w.hub.apply(ctx, down); err != nil {
			t.Fatal(err)
		}
		entry := p.open[0]
		p.flying = append(p.flying, entry)
		_, result, err := w.hub.apply(ctx, entry.cmd)
		if err := p.land(landing{result, err}); err != nil {
			t.Fatal(err)
		}
		if len(p.occupied) != 0 {
			t.Errorf("%d placements still occupied, want 0", len(p.occupied))
		}
		if ev := w.hub.store.Snapshot().Eval(e.ID); ev.Status != api.EvalStatusPending {
			t.Errorf("evaluation is %s, want pending", ev.Status)
		}
		if work := p.queue.next(); work == nil || work.name.ID != "web" {
			t.Errorf("next job is %v, want web again", work)
		}
	})
}

// A plan that does not fit one entry is committed in several, its evaluation with the last.
func TestLargePlanTakesSeveralEntries(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		n := testNode("00000000-0000-8000-8000-000000000001", "big")
		n.NodeResources.Cpu.CpuShares, n.NodeResources.Memory.MemoryMB, n.NodeResources.Disk.DiskMB = 1e9, 1e9, 1e9
		w.hub.adopt(n, "big")
		a := &agentLink{nodeID: n.ID}
		a.registered.Store(true)
		w.hub.links.add(a)
		if _, _, err := w.hub.apply(ctx, state.PutNode{Node: n}); err != nil {
			t.Fatal(err)
		}
		r := w.run(testJob("web", count(2*maxRows+500)))
		settle(time.Second)
		rows := w.rows("web", func(*state.Row) bool { return true })
		if len(rows) != 2*maxRows+500 {
			t.Fatalf("%d placed, want %d", len(rows), 2*maxRows+500)
		}
		entries := map[uint64]int{}
		for _, r := range rows {
			entries[r.CreateIndex()]++
		}
		for index, n := range entries {
			if n > maxRows {
				t.Errorf("entry %d holds %d rows, at most %d", index, n, maxRows)
			}
		}
		e := w.hub.store.Snapshot().Eval(r.EvalID)
		for index := range entries {
			if index > e.ModifyIndex {
				t.Errorf("evaluation complete at %d, a placement comes at %d", e.ModifyIndex, index)
			}
		}
		if e.Status != api.EvalStatusComplete {
			t.Errorf("evaluation is %s", e.Status)
		}
	})
}

// The explanation of what waits for room follows the nodes, at most every ten seconds.
func TestExplanationFollowsTheNodes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.run(testJob("web", func(j *api.Job) { j.TaskGroups[0].Tasks[0].Resources.MemoryMB = 9000 }))
		settle(time.Second)
		blocked := w.hub.store.Snapshot().Eval(r.EvalID).BlockedEval
		a := w.join("n1", behaviour{})
		defer a.unlink()
		settle(explainEvery + time.Second)
		m := w.hub.store.Snapshot().Eval(blocked).FailedTGAllocs["web"]
		if m == nil || m.NodesEvaluated != 1 || m.NodesExhausted != 1 {
			t.Errorf("explanation %+v, want one node that is too small", m)
		}
	})
}

func TestUnknownCommandStopsTheHub(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.net.Close()
		w.startHub(Config{Init: true})
		w.hub.raft.Apply(append([]byte{state.Version + 1, 1}, make([]byte, 40)...), 0)
		err := <-w.done
		var unsupported *state.UnsupportedError
		if !errors.As(err, &unsupported) {
			t.Errorf("hub ended with %v, want an unsupported entry", err)
		}
	})
}

func TestFreshLeaderGivesNodesTimeToComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("n1", behaviour{})
		id := a.key.NodeID()
		a.unlink()
		w.stop()
		w.startHub(Config{})
		settle(startGrace - time.Second)
		if n := w.hub.store.Snapshot().Node(id); n.Status != api.NodeStatusReady {
			t.Errorf("node is %s before the grace of a start ends", n.Status)
		}
		settle(2 * time.Second)
		if n := w.hub.store.Snapshot().Node(id); n.Status != api.NodeStatusDown {
			t.Errorf("node is %s after it, want down", n.Status)
		}
	})
}

// Only the node that got work is woken.
func TestWatchWakesForOwnAllocations(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer a.unlink()
		defer b.unlink()
		settle(time.Second)
		before := b.answers.Load()
		w.run(testJob("web", count(3), func(j *api.Job) {
			j.Constraints = []api.Constraint{{LTarget: "${node.unique.name}", Operand: api.OperandEqual, RTarget: "n1"}}
		}))
		settle(time.Second)
		if n := len(w.rows("web", on(a, w))); n != 3 {
			t.Fatalf("%d allocations run on n1, want 3", n)
		}
		if n := b.answers.Load() - before; n != 0 {
			t.Errorf("the other node was woken %d times, want 0", n)
		}
		if n := a.answers.Load(); n > 3 {
			t.Errorf("n1 was woken %d times: its own reports must not wake it", n)
		}
	})
}

func TestNewestLinkOfANodeWins(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.join("n1", behaviour{})
		second := &fakeAgent{t: t, w: w, name: "n1", key: first.key, creds: first.creds, node: first.node,
			allocs: map[string]*api.Allocation{}, jobs: map[string]uint64{}}
		second.link()
		defer second.unlink()
		settle(time.Second)
		select {
		case <-first.session.Done():
		default:
			t.Error("the older link is still open")
		}
		first.unlink()
		settle(time.Second)
		if w.hub.links.get(first.key.NodeID()) == nil {
			t.Error("the node lost its newer link with the older one")
		}
	})
}
