package state

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func (h *history) job() *api.Job { return h.snap().Job(api.DefaultNamespace, apitest.JobID) }

func TestRegisterJob(t *testing.T) {
	h := newHistory(t)
	first := h.register(apitest.Job(t))
	if want := (Registered{JobModifyIndex: 1, Version: 0, Changed: true, EvalID: "eval-1", EvalCreateIndex: 1}); first != want {
		t.Fatalf("first registration: %+v, want %+v", first, want)
	}
	j := h.job()
	if j.SubmitTime != testStart+1e9 || j.CreateIndex != 1 || j.ModifyIndex != 1 || j.Status != api.JobStatusPending {
		t.Errorf("registered job has time %d, create %d, modify %d, status %s", j.SubmitTime, j.CreateIndex, j.ModifyIndex, j.Status)
	}
	e := h.snap().Eval("eval-1")
	if e.JobID != j.ID || e.Namespace != j.Namespace || e.Type != j.Type || e.Priority != j.Priority || e.JobModifyIndex != 1 || e.CreateTime != testStart+1e9 {
		t.Errorf("its evaluation is %+v", e)
	}

	same := h.register(apitest.Job(t))
	if want := (Registered{JobModifyIndex: 1, Version: 0, EvalID: "eval-2", EvalCreateIndex: 2}); same != want {
		t.Errorf("an equal registration: %+v, want %+v", same, want)
	}
	changed := h.register(apitest.Job(t, apitest.Priority(70)))
	if want := (Registered{JobModifyIndex: 3, Version: 1, Changed: true, EvalID: "eval-3", EvalCreateIndex: 3}); changed != want {
		t.Errorf("a changed registration: %+v, want %+v", changed, want)
	}
	if j := h.job(); j.CreateIndex != 1 || j.Priority != 70 {
		t.Errorf("the changed job was created at %d with priority %d, want 1 and 70", j.CreateIndex, j.Priority)
	}
	if old := h.snap().JobVersion(api.DefaultNamespace, apitest.JobID, 0); old == nil || old.Priority != 50 {
		t.Errorf("version 0 is %+v, want the first registration", old)
	}
}

func TestEnforceIndex(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		exists bool
		index  uint64
		want   string
	}{
		{"0 registers a new job", false, 0, ""},
		{"0 refuses a job that exists", true, 0, "Enforcing job modify index 0: job already exists"},
		{"an index refuses a job that does not exist", false, 7, "Enforcing job modify index 7: job does not exist"},
		{"another index is refused", true, 7, "Enforcing job modify index 7: job exists with conflicting job modify index: 1"},
		{"the job's index registers", true, 1, ""},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			h := newHistory(t)
			if tc.exists {
				h.register(apitest.Job(t))
			}
			before := view(h.snap())
			_, err := h.try(RegisterJob{Job: apitest.Job(t, apitest.Priority(3)), Eval: h.newEval(), EnforceIndex: true, JobModifyIndex: tc.index})
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || err.Error() != tc.want || !errors.Is(err, api.ErrConflict) {
				t.Fatalf("error %v, want conflict %q", err, tc.want)
			}
			after := view(h.snap())
			after["index"] = before["index"]
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("a refused registration changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestDeregisterJob(t *testing.T) {
	h := newHistory(t)
	if _, err := h.try(DeregisterJob{Namespace: "default", ID: "web"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("deregistering no job: %v, want not found", err)
	}
	nodes := h.addNodes(1)
	h.register(apitest.Job(t))
	created := h.job().CreateIndex
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}, Evals: []*api.Evaluation{{ID: "eval-3", Namespace: "default", JobID: "web", Status: api.EvalStatusComplete}}})

	h.do(DeregisterJob{Namespace: "default", ID: "web"})
	if j := h.job(); !j.Stop || j.Version != 1 || j.CreateIndex != created || j.Status != api.JobStatusRunning {
		t.Errorf("a stopped job with a running allocation: stop %t, version %d, status %s", j.Stop, j.Version, j.Status)
	}
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 0)}})
	if j := h.job(); j.Status != api.JobStatusDead {
		t.Errorf("it is %s when all has ended, want dead", j.Status)
	}
	if r := h.register(apitest.Job(t)); r.Version != 2 || h.job().Stop {
		t.Errorf("registered again after a stop it has version %d, want 2", r.Version)
	}

	h.do(DeregisterJob{Namespace: "default", ID: "web", Purge: true, Eval: h.newEval()})
	if h.job() != nil || h.snap().Summary("default", "web") != nil {
		t.Error("a purged job is still there")
	}
	if a := h.snap().Alloc(g.Rows[0].ID.String()); a == nil || a.Job == nil || a.Job.Version != 0 {
		t.Errorf("the allocation of a purged job is %+v, want its job's version 0", a)
	}
	if r := h.register(apitest.Job(t)); r.Version != 0 || h.job().CreateIndex == created {
		t.Errorf("registered again after a purge: %+v created at %d, want a new job", r, h.job().CreateIndex)
	}
	if s := h.snap().Summary("default", "web").Summary[apitest.GroupName]; s != (api.GroupSummary{}) {
		t.Errorf("the new job counts the old one's allocations: %+v", s)
	}
	h.do(GC{Allocs: []ID{g.Rows[0].ID}})
	if n := h.snap().versions.len(); n != 1 {
		t.Errorf("%d versions are kept, want the present one alone", n)
	}
}

func TestVersionsAreKept(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	h.register(apitest.Job(t))
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}})
	for p := range 10 {
		h.register(apitest.Job(t, apitest.Priority(p+1)))
	}
	kept := func() (versions []uint64) {
		for j := range h.snap().JobVersions("default", "web") {
			versions = append(versions, j.Version)
		}
		return versions
	}
	if want := []uint64{0, 5, 6, 7, 8, 9, 10}; !slices.Equal(kept(), want) {
		t.Errorf("kept %v, want the last six and the one that runs: %v", kept(), want)
	}
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 0)}})
	h.do(GC{Allocs: []ID{g.Rows[0].ID}})
	if want := []uint64{5, 6, 7, 8, 9, 10}; !slices.Equal(kept(), want) {
		t.Errorf("kept %v, want %v", kept(), want)
	}
}

func TestJobStatus(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	status := func(want, when string) {
		t.Helper()
		if got := h.job().Status; got != want {
			t.Errorf("the job is %s %s, want %s", got, when, want)
		}
	}
	eval := func(s string) Command {
		return PutEvals{[]*api.Evaluation{{ID: "eval-2", Namespace: "default", JobID: "web", Status: s}}}
	}
	h.register(apitest.BatchJob(t))
	status(api.JobStatusPending, "when registered")
	registered := h.job().JobModifyIndex
	h.do(eval(api.EvalStatusBlocked))
	status(api.JobStatusPending, "while blocked")
	h.do(eval(api.EvalStatusComplete))
	status(api.JobStatusDead, "with nothing placed and nothing to do")
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}})
	status(api.JobStatusRunning, "with an allocation")
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 0)}})
	status(api.JobStatusDead, "when all has ended")
	if j := h.job(); j.JobModifyIndex != registered || j.ModifyIndex != h.snap().Index() {
		t.Errorf("status changes moved JobModifyIndex to %d (registered at %d), ModifyIndex to %d", j.JobModifyIndex, registered, j.ModifyIndex)
	}
}

func TestSummary(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(3)
	h.register(apitest.Job(t))
	g := h.place(h.job(), append(nodes, nodes...)...)
	done := &api.Evaluation{ID: "eval-4", Namespace: "default", JobID: "web", Status: api.EvalStatusComplete,
		QueuedAllocations: map[string]int{apitest.GroupName: 2}}
	h.do(Plan{Place: []PlaceGroup{g}, Evals: []*api.Evaluation{done}})
	unknown := running(g.Rows[4].ID, testStart)
	unknown.ClientStatus = api.AllocClientUnknown
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{
		running(g.Rows[0].ID, testStart), ended(g.Rows[1].ID, testStart, 0), ended(g.Rows[2].ID, testStart, 1), unknown}})
	h.do(Plan{Stop: []Stop{{ID: g.Rows[3].ID, ClientStatus: api.AllocClientLost}}})

	want := &api.JobSummary{JobID: "web", Namespace: "default", Children: &api.JobChildrenSummary{}, CreateIndex: h.job().CreateIndex,
		ModifyIndex: h.snap().Index(), Summary: map[string]api.GroupSummary{
			apitest.GroupName: {Queued: 2, Starting: 1, Running: 1, Complete: 1, Failed: 1, Lost: 1, Unknown: 1}}}
	if diff := cmp.Diff(want, h.snap().Summary("default", "web")); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestStable(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(2)
	h.register(apitest.Job(t, apitest.Count(2)))
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}})
	healthy := func(i int) {
		s := running(g.Rows[i].ID, testStart)
		s.Healthy = new(bool)
		*s.Healthy = true
		h.do(AllocStatuses{Statuses: []*api.AllocStatus{s}})
	}
	healthy(0)
	if h.job().Stable {
		t.Error("the job is stable with one of two healthy")
	}
	healthy(1)
	if !h.job().Stable {
		t.Error("the job is not stable with all healthy")
	}
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 1)}})
	if !h.job().Stable {
		t.Error("a failure later took back that the version was stable")
	}
	h.register(apitest.Job(t, apitest.Count(2), apitest.Priority(60)))
	if h.job().Stable {
		t.Error("a new version is stable before anything of it runs")
	}
}

func TestJobsByPrefix(t *testing.T) {
	h := newHistory(t)
	for _, id := range []string{"api", "web", "web-2", "wing"} {
		h.register(apitest.Job(t, apitest.ID(id)))
	}
	other := apitest.Job(t, apitest.ID("web-3"))
	other.Namespace = "other"
	h.register(other)
	for _, tc := range []struct {
		namespace, prefix string
		want              []string
	}{
		{"default", "", []string{"api", "web", "web-2", "wing"}},
		{"default", "web", []string{"web", "web-2"}},
		{"default", "x", nil},
		{api.AllNamespaces, "web", []string{"web", "web-2", "web-3"}},
		{"none", "", nil},
	} {
		var got []string
		for j := range h.snap().Jobs(tc.namespace, tc.prefix) {
			got = append(got, j.ID)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("Jobs(%q, %q) = %v, want %v", tc.namespace, tc.prefix, got, tc.want)
		}
	}
}
