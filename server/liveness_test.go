package server

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/server/state"
)

func TestWhenANodeIsDown(t *testing.T) {
	const id = "00000000-0000-8000-8000-000000000001"
	start := time.Unix(1_700_000_000, 0)
	up := func(h *Hub) *agentLink {
		a := &agentLink{nodeID: id}
		a.registered.Store(true)
		h.links.add(a)
		return a
	}
	// beats lets the loop run from one time to another.
	beats := func(l *liveness, from, to time.Duration) {
		for at := from; at <= to; at += beatEvery {
			l.beat(start.Add(at))
		}
	}
	tests := []struct {
		rule string
		life func(h *Hub, l *liveness) (at time.Duration) // what happened, and when it is judged
		down bool
	}{
		{"a linked node is not", func(h *Hub, l *liveness) time.Duration { up(h); return time.Hour }, false},
		{"one that a fresh leader misses, after its grace", func(h *Hub, l *liveness) time.Duration {
			l.judge(h.store.Snapshot(), start)
			return startGrace
		}, true},
		{"not before", func(h *Hub, l *liveness) time.Duration {
			l.judge(h.store.Snapshot(), start)
			return startGrace - time.Millisecond
		}, false},
		{"one whose link is closed, after the grace", func(h *Hub, l *liveness) time.Duration {
			l.grace = api.NodeGrace
			h.links.remove(up(h), context.Canceled)
			l.judge(h.store.Snapshot(), start.Add(time.Minute))
			return time.Minute + api.NodeGrace
		}, true},
		{"not one that is back within it", func(h *Hub, l *liveness) time.Duration {
			l.grace = api.NodeGrace
			h.links.remove(up(h), context.Canceled)
			l.judge(h.store.Snapshot(), start.Add(time.Minute))
			up(h)
			l.judge(h.store.Snapshot(), start.Add(time.Minute+time.Second))
			h.links.remove(h.links.get(id), context.Canceled)
			return time.Minute + api.NodeGrace
		}, false},
		{"one that fell silent, at once", func(h *Hub, l *liveness) time.Duration {
			l.grace = api.NodeGrace
			beats(l, 0, time.Minute)
			h.links.remove(up(h), link.ErrSilent)
			return time.Minute
		}, true},
		{"not if the hub was stopped meanwhile", func(h *Hub, l *liveness) time.Duration {
			l.grace = api.NodeGrace
			beats(l, 0, 30*time.Second)
			h.links.remove(up(h), link.ErrSilent)
			return time.Minute
		}, false},
		{"not if its newer link lives", func(h *Hub, l *liveness) time.Duration {
			l.grace = api.NodeGrace
			beats(l, 0, time.Minute)
			old := up(h)
			up(h)
			h.links.remove(old, link.ErrSilent)
			return time.Minute
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			h := newHub(Config{})
			n := testNode(id, "n1")
			n.Status = api.NodeStatusReady
			hist := &history{t: t, store: h.store}
			hist.apply(start, state.PutNode{Node: n})
			l := newLiveness(h, start)
			at := tt.life(h, l)
			down, _, _ := l.judge(h.store.Snapshot(), start.Add(at))
			if got := slices.Contains(down, id); got != tt.down {
				t.Errorf("down is %v, want %v", got, tt.down)
			}
		})
	}
}

// However many jobs have work on nodes that go down, each is looked at, and no entry is larger than the log takes.
func TestEntriesThatMarkNodesDownFit(t *testing.T) {
	h := newHub(Config{})
	hist := &history{t: t, store: h.store}
	start := time.Unix(1_700_000_000, 0)
	const perNode = 2*evalsAtOnce/3 + 1
	var ids []string
	for n := range 4 {
		node := testNode(fmt.Sprintf("00000000-0000-8000-8000-%012d", n), fmt.Sprint("n", n))
		node.Status = api.NodeStatusReady
		hist.apply(start, state.PutNode{Node: node})
		ordinal := h.store.Snapshot().Node(node.ID).Ordinal
		ids = append(ids, node.ID)
		jobs := perNode
		if n == 0 {
			jobs = 3 * evalsAtOnce
		}
		for i := range jobs {
			j := testJob(fmt.Sprintf("job-%0200d-%d", i, n))
			hist.apply(start, state.RegisterJob{Job: j})
			ref := state.RefOf(h.store.Snapshot().Job(j.Namespace, j.ID))
			hist.apply(start, state.Plan{Place: []state.PlaceGroup{{Job: ref, Group: j.TaskGroups[0].Name, Rows: []state.Placement{
				{ID: state.ID{1, byte(n), byte(i >> 8), byte(i)}, Node: ordinal},
			}}}})
		}
	}
	looked := map[string]bool{}
	for left := ids; len(left) > 0; {
		evals, n := evalsOfNodes(h.store.Snapshot(), left)
		for i, cmd := range downCommands(left[:n], evals, start) {
			entry, err := state.Encode(state.Header{}, cmd)
			if err != nil || len(entry) > maxEntry/2 {
				t.Fatalf("entry %d of %d bytes (%v), want at most half of what the log takes", i, len(entry), err)
			}
		}
		for _, e := range evals {
			looked[e.JobID] = true
		}
		left = left[n:]
	}
	if want := 3*evalsAtOnce + 3*perNode; len(looked) != want {
		t.Errorf("%d jobs are looked at, want %d", len(looked), want)
	}
}
