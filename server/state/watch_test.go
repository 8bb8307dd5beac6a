package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// watched is what a key stands for, as text.
type watched struct {
	name string
	key  Key
	text func(*Snapshot) string
}

func asText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// rowText is all of a row.
func rowText(r *Row) string {
	if r == nil {
		return "none"
	}
	var e encoder
	if err := errors.Join(e.run(run{r.version, r.origin, r.group}), e.alloc(r)); err != nil {
		panic(err)
	}
	return string(e.appendTo(nil))
}

// everyKey lists the keys that the world of these tests can touch.
func (w *world) everyKey() []watched {
	var all []watched
	for t := Table(1); t < tables; t++ {
		all = append(all, watched{fmt.Sprintf("table %d", t), TableKey(t), func(s *Snapshot) string { return fmt.Sprint(s.TableIndex(t)) }})
	}
	for _, j := range worldJobs {
		all = append(all,
			watched{"job " + j.ID, JobKey(j.Namespace, j.ID), func(s *Snapshot) string { return asText(s.Job(j.Namespace, j.ID)) }},
			watched{"summary " + j.ID, SummaryKey(j.Namespace, j.ID), func(s *Snapshot) string { return asText(s.Summary(j.Namespace, j.ID)) }},
			watched{"allocs of " + j.ID, AllocsOfJob(j.Namespace, j.ID), func(s *Snapshot) (text string) {
				for r := range s.RowsOfJob(j.Namespace, j.ID) {
					text += rowText(r)
				}
				return text
			}},
			watched{"evals of " + j.ID, EvalsOfJob(j.Namespace, j.ID), func(s *Snapshot) string {
				return asText(slices.Collect(s.EvalsByJob(j.Namespace, j.ID)))
			}})
	}
	for _, id := range w.evals {
		all = append(all, watched{id, EvalKey(id), func(s *Snapshot) string { return asText(s.Eval(id)) }})
	}
	for _, id := range worldNodes {
		all = append(all, watched{"node " + id, NodeKey(id), func(s *Snapshot) string { return asText(s.Node(id)) }})
	}
	for _, id := range w.allocs {
		all = append(all, watched{"alloc " + id.String(), AllocKey(id), func(s *Snapshot) string { return rowText(s.Row(id)) }})
	}
	for o := range uint32(6) {
		all = append(all, watched{fmt.Sprintf("desired of node %d", o), NodeDesired(o), func(s *Snapshot) (text string) {
			for r := range s.RowsOfNode(o, 0) {
				text += fmt.Sprintln(r.ID(), r.AllocModifyIndex())
			}
			return text
		}})
	}
	return all
}

// TestWatchesWakeForWhatChanged wakes exactly the watches of keys whose meaning a command changed.
func TestWatchesWakeForWhatChanged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			before, keys := w.snap(), w.everyKey()
			woken := make([]<-chan struct{}, len(keys))
			for i, k := range keys {
				ch, cancel := w.store.Watch(k.key)
				defer cancel()
				woken[i] = ch
			}
			c := w.step()
			for i, k := range keys {
				changed := k.text(before) != k.text(w.snap())
				if got := isClosed(woken[i]); got != changed {
					rt.Fatalf("%#v: %s woke %t, changed %t", c, k.name, got, changed)
				}
			}
		}
	})
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestWatch(t *testing.T) {
	h := newHistory(t)
	h.addNodes(1)
	a, b := EvalKey("a"), EvalKey("b")

	both, cancelBoth := h.store.Watch(a, b, a)
	gone, cancelGone := h.store.Watch(a)
	cancelGone()
	h.do(PutEvals{[]*api.Evaluation{{ID: "a", Status: api.EvalStatusPending}}})
	if !isClosed(both) {
		t.Error("a watch of two keys slept through a change of one")
	}
	if isClosed(gone) {
		t.Error("a cancelled watch woke")
	}
	cancelBoth()
	if n := len(h.store.watches.byKey); n != 0 {
		t.Errorf("%d keys are still held after all watches ended", n)
	}

	restored, cancel := h.store.Watch(b)
	defer cancel()
	if err := h.store.Restore(bytes.NewReader(persisted(t, h.snap()))); err != nil {
		t.Fatal(err)
	}
	if !isClosed(restored) {
		t.Error("a watch slept through a restore")
	}
}

// TestNodeReportsDoNotWakeTheNode is what keeps agents from waking themselves.
func TestNodeReportsDoNotWakeTheNode(t *testing.T) {
	h := newHistory(t)
	ordinals := h.addNodes(2)
	h.register(apitest.Job(t))
	g := h.place(h.snap().Job(api.DefaultNamespace, apitest.JobID), ordinals...)
	h.do(Plan{Place: []PlaceGroup{g}})

	for _, tc := range []struct {
		rule string
		cmd  Command
		want bool
	}{
		{"its own report", AllocStatuses{Statuses: []*api.AllocStatus{running(g.Rows[0].ID, testStart)}}, false},
		{"a user's wish, before it is planned", StopAllocs{IDs: []ID{g.Rows[0].ID}}, false},
		{"another node's allocation stopped", Plan{Stop: []Stop{{ID: g.Rows[1].ID}}}, false},
		{"its allocation stopped", Plan{Stop: []Stop{{ID: g.Rows[0].ID}}}, true},
	} {
		woken, cancel := h.store.Watch(NodeDesired(ordinals[0]))
		h.do(tc.cmd)
		if got := isClosed(woken); got != tc.want {
			t.Errorf("%s: the node woke: %t, want %t", tc.rule, got, tc.want)
		}
		cancel()
	}
}
