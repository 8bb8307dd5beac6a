package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// history applies commands at given times, as the log would.
type history struct {
	t     *testing.T
	store *state.Store
	index uint64
}

func (h *history) apply(at time.Time, cmd state.Command) {
	h.t.Helper()
	entry, err := state.Encode(state.Header{Time: at.UnixNano()}, cmd)
	if err != nil {
		h.t.Fatal(err)
	}
	h.index++
	if _, err := h.store.Apply(h.index, entry); err != nil {
		h.t.Fatal(err)
	}
}

func TestGarbage(t *testing.T) {
	const (
		nodeID  = "00000000-0000-8000-8000-000000000001"
		evalID  = "00000000-0000-4000-8000-000000000002"
		allocID = "00000000-0000-4000-8000-000000000003"
	)
	start := time.Unix(1_700_000_000, 0)
	alloc, err := state.ParseID(allocID)
	if err != nil {
		t.Fatal(err)
	}
	// A job that was placed on a node, ran to its end, and was stopped.
	finished := func(h *history, batch, stopped bool) {
		n := testNode(nodeID, "n1")
		n.Status = api.NodeStatusReady
		h.apply(start, state.PutNode{Node: n})
		j := testJob("web")
		if batch {
			j.Type = api.JobTypeBatch
		}
		h.apply(start, state.RegisterJob{Job: j, Eval: evalOf("web", func(e *api.Evaluation) { e.ID = evalID })})
		done := *h.store.Snapshot().Eval(evalID)
		done.Status = api.EvalStatusComplete
		ref := state.RefOf(h.store.Snapshot().Job("default", "web"))
		h.apply(start, state.Plan{
			Place: []state.PlaceGroup{{Job: ref, Group: "web", EvalID: evalID, Rows: []state.Placement{{ID: alloc, Node: 1}}}},
			Evals: []*api.Evaluation{&done},
		})
		if stopped {
			h.apply(start, state.DeregisterJob{Namespace: "default", ID: "web"})
			h.apply(start, state.Plan{Stop: []state.Stop{{ID: alloc, Description: "job is stopped"}}})
		}
		h.apply(start, state.AllocStatuses{Statuses: []*api.AllocStatus{{ID: allocID, ClientStatus: api.AllocClientComplete}}})
	}
	work := state.GC{Allocs: []state.ID{alloc}, Evals: []string{evalID}}
	workAndJob := work
	workAndJob.Jobs = []state.JobName{{Namespace: "default", ID: "web"}}
	tests := []struct {
		rule  string
		build func(*history)
		after time.Duration
		want  []state.Command
	}{
		{"fresh work stays", func(h *history) { finished(h, false, true) }, keepEvals - time.Minute, nil},
		{"finished work of a stopped service goes after an hour", func(h *history) { finished(h, false, true) }, keepEvals + time.Minute, []state.Command{work}},
		{"its job after four", func(h *history) { finished(h, false, true) }, keepJobs + time.Minute, []state.Command{workAndJob}},
		{"batch stays for a day", func(h *history) { finished(h, true, false) }, keepBatchEvals - time.Minute, nil},
		{"and goes after it", func(h *history) { finished(h, true, false) }, keepBatchEvals + time.Minute, []state.Command{workAndJob}},
		{"an open evaluation keeps its job", func(h *history) {
			h.apply(start, state.RegisterJob{Job: testJob("web"), Eval: evalOf("web")})
		}, 100 * time.Hour, nil},
		{"a node that is down for a day goes", func(h *history) {
			h.apply(start, state.PutNode{Node: testNode(nodeID, "n1")})
			h.apply(start, state.NodeStatus{IDs: []string{nodeID}, Status: api.NodeStatusDown})
		}, keepNodes + time.Minute, []state.Command{state.DeleteNodes{IDs: []string{nodeID}}}},
		{"a node that is ready stays", func(h *history) {
			n := testNode(nodeID, "n1")
			n.Status = api.NodeStatusReady
			h.apply(start, state.PutNode{Node: n})
		}, 1000 * time.Hour, nil},
		{"an expired join token goes after an hour", func(h *history) {
			h.apply(start, state.PutJoinToken{Token: &api.JoinToken{ID: "x", Uses: 1, Expires: start.UnixNano(), SecretHash: make([]byte, 32)}})
		}, keepTokens + time.Minute, []state.Command{state.GC{JoinTokens: []string{"x"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			h := &history{t: t, store: state.New()}
			tt.build(h)
			got := garbage(h.store.Snapshot(), start.Add(tt.after))
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("garbage (-want +got):\n%s", diff)
			}
		})
	}
}
