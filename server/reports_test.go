package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

func TestGather(t *testing.T) {
	rep := func(node string, rows, size int) *report {
		return &report{node: node, statuses: make([]*api.AllocStatus, rows), size: size}
	}
	tests := []struct {
		rule    string
		waiting []*report
		busy    []string
		want    string // nodes in the batch
		rest    int
	}{
		{"all that fits", []*report{rep("a", 1, 1), rep("b", 1, 1)}, nil, "[a b]", 0},
		{"one a node", []*report{rep("a", 1, 1), rep("a", 1, 1), rep("b", 1, 1)}, nil, "[a b]", 1},
		{"none of a node in flight", []*report{rep("a", 1, 1), rep("b", 1, 1)}, []string{"a"}, "[b]", 1},
		{"rows are bounded", []*report{rep("a", maxReported, 1), rep("b", 1, 1)}, nil, "[a]", 1},
		{"bytes are bounded", []*report{rep("a", 1, maxReportBytes), rep("b", 1, 1)}, nil, "[a]", 1},
		{"a large one goes alone", []*report{rep("a", 1, 10*maxReportBytes)}, nil, "[a]", 0},
		{"what does not fit keeps its place", []*report{rep("a", 1, 1), rep("b", 1, maxReportBytes), rep("b", 1, 1)}, nil, "[a]", 2},
		{"nothing", nil, nil, "[]", 0},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			busy := map[string]bool{}
			for _, n := range tt.busy {
				busy[n] = true
			}
			b, rest := gather(tt.waiting, busy)
			nodes := []string{}
			if b != nil {
				for _, r := range b.reports {
					nodes = append(nodes, r.node)
				}
			}
			if fmt.Sprint(nodes) != tt.want || len(rest) != tt.rest {
				t.Errorf("batch of %v, %d left; want %s, %d", nodes, len(rest), tt.want, tt.rest)
			}
		})
	}
}

// A report that cannot be written is refused alone, and its node's next one is taken.
func TestBadReportHarmsItsSenderOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("n1", behaviour{}), w.join("n2", behaviour{})
		defer a.unlink()
		defer b.unlink()
		w.run(testJob("web", count(2)))
		settle(time.Second)
		idOf := func(f *fakeAgent) string { return w.rows("web", on(f, w))[0].ID().String() }
		from := func(f *fakeAgent, task string) *report {
			r, err := w.hub.checkReport(f.key.NodeID(), []*api.AllocStatus{{
				ID: idOf(f), ClientStatus: api.AllocClientRunning, ClientDescription: "x",
				TaskStates: map[string]*api.TaskState{"main": {State: task}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		bad, good := from(a, "dancing"), from(b, api.TaskStateRunning)
		busy := map[string]bool{}
		batch, _ := gather([]*report{bad, good}, busy)
		flying := w.hub.reports.send(batch, busy)
		if flying == nil || len(flying.reports) != 1 || flying.reports[0] != good {
			t.Fatalf("in flight is %v, want the sound report alone", flying)
		}
		if _, _, err := flying.flight.wait(); err != nil {
			t.Errorf("sound report: %v", err)
		}
		if d := <-bad.done; !errors.Is(d.err, api.ErrInvalid) {
			t.Errorf("bad report: %v, want invalid", d.err)
		}
		if busy[a.key.NodeID()] {
			t.Error("the refused node stays busy for ever")
		}
		var reply api.WriteReply
		next := api.StatusReport{Allocs: []*api.AllocStatus{{ID: idOf(a), ClientStatus: api.AllocClientRunning, ClientDescription: "y"}}}
		if err := a.call(context.Background(), http.MethodPut, api.LinkStatusesPath, next, &reply); err != nil {
			t.Errorf("next report of the refused node: %v", err)
		}
	})
}

func TestWhatAReportCallsFor(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		rule   string
		job    string // type
		status api.AllocStatus
		old    bool // an allocation of an older version is to run as well
		want   string
	}{
		{"failed: another one", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientFailed}, false, api.EvalTriggerRetryFailedAlloc},
		{"failed batch: another one", api.JobTypeBatch, api.AllocStatus{ClientStatus: api.AllocClientFailed}, false, api.EvalTriggerRetryFailedAlloc},
		{"completed service: another one", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientComplete}, false, api.EvalTriggerRetryFailedAlloc},
		{"completed batch: done", api.JobTypeBatch, api.AllocStatus{ClientStatus: api.AllocClientComplete}, false, ""},
		{"running: nothing", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientRunning}, true, ""},
		{"healthy: the update goes on", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientRunning, Healthy: &yes}, true, api.EvalTriggerDeploymentWatcher},
		{"healthy with nothing to update", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientRunning, Healthy: &yes}, false, ""},
		{"unhealthy: nothing", api.JobTypeService, api.AllocStatus{ClientStatus: api.AllocClientRunning, Healthy: &no}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			h := &history{t: t, store: state.New()}
			at := time.Unix(1_700_000_000, 0)
			n := testNode("00000000-0000-8000-8000-000000000001", "n1")
			n.Status = api.NodeStatusReady
			h.apply(at, state.PutNode{Node: n})
			place := func(id string) {
				alloc, err := state.ParseID(id)
				if err != nil {
					t.Fatal(err)
				}
				h.apply(at, state.Plan{Place: []state.PlaceGroup{{
					Job: state.RefOf(h.store.Snapshot().Job("default", "web")), Group: "web", EvalID: "00000000-0000-4000-8000-000000000009",
					Rows: []state.Placement{{ID: alloc, Node: 1}},
				}}})
			}
			j := testJob("web")
			j.Type = tt.job
			h.apply(at, state.RegisterJob{Job: j})
			if tt.old {
				place("00000000-0000-4000-8000-000000000001")
				j.Meta = map[string]string{"v": "2"}
				h.apply(at, state.RegisterJob{Job: j})
			}
			place("00000000-0000-4000-8000-000000000002")
			tt.status.ID = "00000000-0000-4000-8000-000000000002"
			evals := evalsOfReport(h.store.Snapshot(), []*api.AllocStatus{&tt.status})
			got := ""
			if len(evals) > 0 {
				got = evals[0].TriggeredBy
			}
			if got != tt.want || len(evals) > 1 {
				t.Errorf("%d evaluations, first by %q; want %q", len(evals), got, tt.want)
			}
		})
	}
}
