package state

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestPlacementIsDropped(t *testing.T) {
	for _, tc := range []struct {
		rule    string
		between func(h *history) // what is committed between scheduling and the plan
		want    bool
	}{
		{"never without cause", func(*history) {}, false},
		{"when the node is down", func(h *history) {
			h.do(NodeStatus{IDs: []string{testID("node", 0).String()}, Status: api.NodeStatusDown})
		}, true},
		{"when the node is deleted", func(h *history) { h.do(DeleteNodes{IDs: []string{testID("node", 0).String()}}) }, true},
		{"when the job is stopped", func(h *history) { h.do(DeregisterJob{Namespace: "default", ID: "web"}) }, true},
		{"when the job is purged", func(h *history) { h.do(DeregisterJob{Namespace: "default", ID: "web", Purge: true}) }, true},
		{"when the job is another one of that name", func(h *history) {
			h.do(DeregisterJob{Namespace: "default", ID: "web", Purge: true})
			h.register(apitest.Job(h.t))
		}, true},
		{"not for a newer version: its evaluation replaces it", func(h *history) { h.register(apitest.Job(h.t, apitest.Priority(9))) }, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			h := newHistory(t)
			nodes := h.addNodes(1)
			evalID := h.register(apitest.Job(t)).EvalID
			g := h.place(h.job(), nodes...)
			g.EvalID = evalID
			tc.between(h)
			done := &api.Evaluation{ID: evalID, Namespace: "default", JobID: "web", Status: api.EvalStatusComplete}
			got := h.do(Plan{Place: []PlaceGroup{g}, Evals: []*api.Evaluation{done}}).(Planned)

			var want Planned
			status := api.EvalStatusComplete
			if tc.want {
				want, status = Planned{Dropped: []ID{g.Rows[0].ID}, Requeued: []string{evalID}}, api.EvalStatusPending
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if placed := h.snap().Row(g.Rows[0].ID) != nil; placed == tc.want {
				t.Errorf("placed: %t, want %t", placed, !tc.want)
			}
			if e := h.snap().Eval(evalID); e.Status != status {
				t.Errorf("its evaluation is %s, want %s", e.Status, status)
			}
		})
	}
}

func TestDroppedPlacementRequeuesAnEvaluationOfAnEarlierEntry(t *testing.T) {
	h := newHistory(t)
	h.addNodes(1)
	evalID := h.register(apitest.Job(t)).EvalID
	h.do(PutEvals{[]*api.Evaluation{{ID: evalID, Namespace: "default", JobID: "web", Status: api.EvalStatusComplete}}})
	g := h.place(h.job(), 99)
	g.EvalID = evalID
	h.do(Plan{Place: []PlaceGroup{g}})
	if e := h.snap().Eval(evalID); e.Status != api.EvalStatusPending || h.job().Status != api.JobStatusPending {
		t.Errorf("evaluation is %s and the job %s, want both pending", e.Status, h.job().Status)
	}
}

func TestAllocationShape(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	j := apitest.Job(t, apitest.Ports("http", "admin"), apitest.StaticPort("ssh", 22), apitest.Ask(250, 64))
	h.register(j)
	g := h.place(h.job(), nodes...)
	g.Metric = &api.AllocMetric{NodesEvaluated: 3}
	g.Rows[0].Index, g.Rows[0].Ports = 4, []uint16{22, 20007, 31999}
	h.do(Plan{Place: []PlaceGroup{g}})
	s := h.snap()
	got := s.Alloc(g.Rows[0].ID.String())
	node := s.NodeByOrdinal(nodes[0])
	ip := refOfNode(node).ip
	want := &api.Allocation{
		ID: g.Rows[0].ID.String(), Namespace: "default", EvalID: "eval-1", Name: "web.api[4]", NodeID: node.ID, NodeName: "n0",
		JobID: "web", Job: h.job(), TaskGroup: "api", DesiredStatus: api.AllocDesiredRun, ClientStatus: api.AllocClientPending,
		AllocatedResources: &api.AllocatedResources{
			Tasks: map[string]*api.AllocatedTaskResources{apitest.TaskName: {Cpu: api.AllocatedCPU{CpuShares: 250}, Memory: api.AllocatedMemory{MemoryMB: 64}}},
			Shared: api.AllocatedSharedResources{DiskMB: int64(j.TaskGroups[0].EphemeralDisk.SizeMB), Ports: []api.PortMapping{
				{Label: "ssh", Value: 22, HostIP: ip}, {Label: "http", Value: 20007, HostIP: ip}, {Label: "admin", Value: 31999, HostIP: ip}}},
		},
		Metrics: got.Metrics, LeaseNonce: got.LeaseNonce, CreateIndex: 3, ModifyIndex: 3, AllocModifyIndex: 3,
		CreateTime: testStart + 3e9, ModifyTime: testStart + 3e9,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allocation (-want +got):\n%s", diff)
	}
	if ip == "" || got.Metrics.NodesEvaluated != 3 || len(got.LeaseNonce) != 32 {
		t.Errorf("ip %q, metrics %+v, nonce %q", ip, got.Metrics, got.LeaseNonce)
	}
	h.do(DeleteNodes{IDs: []string{node.ID}})
	if after := h.snap().Alloc(got.ID); after.NodeName != "n0" || after.NodeID != node.ID {
		t.Errorf("with its node deleted the allocation is on %q (%s)", after.NodeName, after.NodeID)
	}
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 0)}})
	h.do(GC{Allocs: []ID{g.Rows[0].ID}})
	if n := h.snap().nodeRefs.len(); n != 0 {
		t.Errorf("%d deleted nodes are remembered after their last allocation is gone", n)
	}
}

func TestLeaseNoncesDiffer(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(3)
	h.register(apitest.Job(t))
	a, b := h.place(h.job(), nodes...), h.place(h.job(), nodes...)
	for i := range b.Rows {
		b.Rows[i].ID = testID("second", i)
	}
	h.do(Plan{Place: []PlaceGroup{a, b}})
	seen := map[string]bool{}
	for r := range h.snap().Rows("") {
		seen[r.LeaseNonce()] = true
	}
	if len(seen) != 6 {
		t.Errorf("six placements have %d nonces", len(seen))
	}
}

func TestPlanChangesAllocations(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(2)
	h.register(apitest.Job(t))
	v0 := RefOf(h.job())
	g := h.place(h.job(), nodes[0], nodes[0], nodes[0], nodes[0])
	h.do(Plan{Place: []PlaceGroup{g}})
	id := func(i int) ID { return g.Rows[i].ID }
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(id(1), testStart, 1), running(id(2), testStart)}})
	h.register(apitest.Job(t, apitest.Priority(60)))
	next := h.place(h.job(), nodes[1])
	next.Rows[0].Previous = id(1)
	next.Rows[0].Tracker = &api.RescheduleTracker{LastReschedule: "ok", Events: []*api.RescheduleEvent{
		{RescheduleTime: testStart, PrevAllocID: id(1).String(), PrevNodeID: "n", Delay: 30}}}
	h.do(Plan{
		Stop:    []Stop{{ID: id(0), Description: "not needed"}, {ID: id(3), Description: "its node is down", ClientStatus: api.AllocClientLost}, {ID: testID("stranger", 0)}},
		InPlace: []InPlace{{Job: RefOf(h.job()), IDs: []ID{id(1), id(2), testID("stranger", 0)}}},
		Wait:    []Wait{{ID: id(1), FollowUp: "eval-later"}},
		Place:   []PlaceGroup{next},
	})
	s := h.snap()
	now := s.Index()
	if a := s.Alloc(id(0).String()); a.DesiredStatus != api.AllocDesiredStop || a.DesiredDescription != "not needed" || a.ClientStatus != api.AllocClientPending || a.AllocModifyIndex != now {
		t.Errorf("stopped: %+v", a)
	}
	if a := s.Alloc(id(3).String()); a.ClientStatus != api.AllocClientLost || a.ClientDescription != "its node is down" || a.DesiredStatus != api.AllocDesiredStop {
		t.Errorf("lost: %+v", a)
	}
	if r := s.Row(id(2)); r.Job().Version != 1 || r.AllocModifyIndex() != now || r.ClientStatus() != api.AllocClientRunning {
		t.Errorf("updated in place: version %d, index %d, %s", r.Job().Version, r.AllocModifyIndex(), r.ClientStatus())
	}
	failed := s.Row(id(1))
	if failed.FollowupEval() != "eval-later" || failed.Next() != next.Rows[0].ID || failed.Job().Version != v0.Version || failed.AllocModifyIndex() == now {
		t.Errorf("the failed one: follow-up %q, next %s, version %d", failed.FollowupEval(), failed.Next(), failed.Job().Version)
	}
	placed := s.Row(next.Rows[0].ID)
	if diff := cmp.Diff(next.Rows[0].Tracker, placed.Tracker()); diff != "" || placed.Previous() != id(1) {
		t.Errorf("its replacement remembers %s and (-want +got):\n%s", placed.Previous(), diff)
	}
}

func TestStopRequest(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	h.register(apitest.Job(t))
	g := h.place(h.job(), nodes[0], nodes[0])
	h.do(Plan{Place: []PlaceGroup{g}})
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[1].ID, testStart, 0)}})
	ids := []ID{g.Rows[0].ID, g.Rows[1].ID, testID("stranger", 0)}
	if n := h.do(StopAllocs{IDs: ids, Evals: []*api.Evaluation{h.newEval()}}); n != 1 {
		t.Errorf("%v stops were noted, want the one that can be", n)
	}
	r := h.snap().Row(g.Rows[0].ID)
	if !r.StopRequested() || r.DesiredStatus() != api.AllocDesiredRun || h.snap().Row(g.Rows[1].ID).StopRequested() {
		t.Errorf("requested %t, desired %s", r.StopRequested(), r.DesiredStatus())
	}
	h.do(Plan{Stop: []Stop{{ID: g.Rows[0].ID}}})
	if h.snap().Row(g.Rows[0].ID).StopRequested() {
		t.Error("a stop is still requested after it was planned")
	}
}

func TestRowsOfNodeSince(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(2)
	h.register(apitest.Job(t))
	a := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{a}})
	first := h.snap().Index()
	b := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{b}})
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{running(a.Rows[0].ID, testStart)}})
	rows := func(after uint64) (got []ID) {
		for r := range h.snap().RowsOfNode(nodes[0], after) {
			got = append(got, r.ID())
		}
		return got
	}
	if want := []ID{a.Rows[0].ID, b.Rows[0].ID}; !slices.Equal(rows(0), want) {
		t.Errorf("all of the node: %v, want %v", rows(0), want)
	}
	if want := []ID{b.Rows[0].ID}; !slices.Equal(rows(first), want) {
		t.Errorf("after %d: %v, want %v", first, rows(first), want)
	}
	h.do(Plan{Stop: []Stop{{ID: a.Rows[0].ID}}})
	if want := []ID{b.Rows[0].ID, a.Rows[0].ID}; !slices.Equal(rows(first), want) {
		t.Errorf("after %d, one stopped: %v, want %v", first, rows(first), want)
	}
}

func TestRowsByPrefixAndEval(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	evalID := h.register(apitest.Job(t)).EvalID
	g := h.place(h.job(), make([]uint32, 300)...)
	g.EvalID = evalID
	for i := range g.Rows {
		g.Rows[i].Node = nodes[0]
	}
	h.do(Plan{Place: []PlaceGroup{g}})
	s := h.snap()
	if n := len(slices.Collect(s.RowsOfEval(s.Eval(evalID)))); n != 300 {
		t.Errorf("the evaluation placed %d, want 300", n)
	}
	whole := g.Rows[0].ID.String()
	for n := range len(whole) + 1 {
		prefix := whole[:n]
		var want []ID
		for r := range s.Rows("") {
			if strings.HasPrefix(r.ID().String(), prefix) {
				want = append(want, r.ID())
			}
		}
		var got []ID
		for r := range s.Rows(prefix) {
			got = append(got, r.ID())
		}
		if !slices.Equal(got, want) {
			t.Errorf("Rows(%q) has %d, want %d", prefix, len(got), len(want))
		}
	}
	for _, bad := range []string{"x", "12-", "0123456789", whole + "0"} {
		for r := range s.Rows(bad) {
			t.Fatalf("Rows(%q) found %s", bad, r.ID())
		}
	}
	if !slices.Equal(slices.Collect(s.Rows(strings.ToUpper(whole))), []*Row{s.Row(g.Rows[0].ID)}) {
		t.Error("an id in upper case finds nothing")
	}
}

func TestPlanThatCannotBeWritten(t *testing.T) {
	id := testID("alloc", 1)
	for rule, p := range map[string]Plan{
		"a placement without id":     {Place: []PlaceGroup{{Rows: []Placement{{}}}}},
		"a negative index":           {Place: []PlaceGroup{{Rows: []Placement{{ID: id, Index: -1}}}}},
		"different numbers of ports": {Place: []PlaceGroup{{Rows: []Placement{{ID: id, Ports: []uint16{1}}, {ID: id}}}}},
		"an unknown client status":   {Stop: []Stop{{ID: id, ClientStatus: "gone"}}},
		"a tracker of what is no id": {Place: []PlaceGroup{{Rows: []Placement{{ID: id, Tracker: &api.RescheduleTracker{Events: []*api.RescheduleEvent{{PrevAllocID: "x"}}}}}}}},
	} {
		if _, err := Encode(Header{}, p); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", rule, err)
		}
	}
}
