package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// entryRows is how many rows one entry holds at most.
const entryRows = 4000

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
		r := w.run(testJob("web", count(2*entryRows+500)))
		settle(time.Second)
		rows := w.rows("web", func(*state.Row) bool { return true })
		if len(rows) != 2*entryRows+500 {
			t.Fatalf("%d placed, want %d", len(rows), 2*entryRows+500)
		}
		entries := map[uint64]int{}
		for _, r := range rows {
			entries[r.CreateIndex()]++
		}
		for index, n := range entries {
			if n > entryRows {
				t.Errorf("entry %d holds %d rows, at most %d", index, n, entryRows)
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
		settle(11 * time.Second)
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
		if _, ok := errors.AsType[*state.UnsupportedError](err); !ok {
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

// A host that nothing is heard of is down within nine seconds: the silence counts as grace.
func TestSilentHostIsDownInNineSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer b.unlink()
		w.run(testJob("web", count(2)))
		settle(20 * time.Second)
		w.net.Cut("n1")
		settle(9*time.Second + 100*time.Millisecond)
		if n := w.hub.store.Snapshot().Node(a.key.NodeID()); n.Status != api.NodeStatusDown {
			t.Errorf("node is %s, want down", n.Status)
		}
		if n := len(w.rows("web", on(b, w))); n != 2 {
			t.Errorf("%d allocations run on the other node, want 2", n)
		}
		w.net.Heal("n1")
		a.unlink()
	})
}
