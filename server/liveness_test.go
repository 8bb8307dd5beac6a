package server

import (
	"context"
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
