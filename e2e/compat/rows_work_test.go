package compat

import (
	"cmp"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// Allocations, evaluations, and what an allocation's node answers.
var workRows = []row{
	read("GET /v1/allocations", func(w *world) ([]*public.AllocationListStub, *public.QueryMeta, error) {
		all, meta, err := w.Allocations().List(nil)
		slices.SortFunc(all, func(a, b *public.AllocationListStub) int { return cmp.Compare(a.Name, b.Name) })
		return all, meta, err
	}, func(t *testing.T, w *world, got []*public.AllocationListStub) []*public.AllocationListStub {
		return []*public.AllocationListStub{
			w.onceStub(t, at(got, 0)), w.webStub(t, "web.g[0]", at(got, 1)), w.webStub(t, "web.g[1]", at(got, 2)),
		}
	}),
	read("GET /v1/allocations", func(w *world) ([]*public.AllocationListStub, *public.QueryMeta, error) {
		return w.Allocations().List(&public.QueryOptions{
			Prefix: w.done.ID, Params: map[string]string{"resources": "true", "task_states": "false"},
		})
	}, func(t *testing.T, w *world, got []*public.AllocationListStub) []*public.AllocationListStub {
		want := w.onceStub(t, w.done)
		want.TaskStates = nil
		want.AllocatedResources = &public.AllocatedResources{
			Tasks: map[string]*public.AllocatedTaskResources{"main": {
				Cpu: public.AllocatedCpuResources{CpuShares: 100}, Memory: public.AllocatedMemoryResources{MemoryMB: 300},
			}},
			Shared: public.AllocatedSharedResources{DiskMB: 300},
		}
		return []*public.AllocationListStub{want}
	}).as("with resources and without states"),
	read("GET /v1/allocation/{id}", func(w *world) (*public.Allocation, *public.QueryMeta, error) {
		return w.Allocations().Info(w.alloc.ID, nil)
	}, func(t *testing.T, w *world, got *public.Allocation) *public.Allocation { return w.allocation(t, got) }),
	absent("GET /v1/allocation/{id}", "alloc not found", func(w *world) error { return fails(w.Allocations().Info(noID, nil)) }),
	read("GET /v1/evaluations", func(w *world) ([]*public.Evaluation, *public.QueryMeta, error) {
		evals, meta, err := w.Evaluations().List(&public.QueryOptions{Filter: `JobID != "tmp"`})
		slices.SortFunc(evals, func(a, b *public.Evaluation) int {
			return cmp.Or(cmp.Compare(a.JobID, b.JobID), cmp.Compare(b.Status, a.Status))
		})
		return evals, meta, err
	}, func(t *testing.T, w *world, got []*public.Evaluation) []*public.Evaluation {
		return []*public.Evaluation{
			w.evaluation(t, w.once, at(got, 0)), w.stuckEval(t, at(got, 1)), w.blockedEval(t, at(got, 2)), w.evaluation(t, w.web, at(got, 3)),
		}
	}),
	read("GET /v1/evaluations/count", func(w *world) (*public.EvalCountResponse, *public.QueryMeta, error) {
		return w.Evaluations().Count(&public.QueryOptions{Filter: `JobID == "stuck"`})
	}, is(&public.EvalCountResponse{Count: 2})),
	read("GET /v1/evaluation/{id}", func(w *world) (*public.Evaluation, *public.QueryMeta, error) {
		return w.Evaluations().Info(w.stuck.reply.EvalID, nil)
	}, func(t *testing.T, w *world, got *public.Evaluation) *public.Evaluation {
		want := w.stuckEval(t, got)
		want.RelatedEvals = []*public.EvaluationStub{stubOf(w.blockedEval(t, w.info(t, w.blocked)))}
		return want
	}),
	read("GET /v1/evaluation/{id}", func(w *world) (*public.Evaluation, *public.QueryMeta, error) {
		return raw[*public.Evaluation](w, "/v1/evaluation/"+w.blocked)
	}, func(t *testing.T, w *world, got *public.Evaluation) *public.Evaluation { return w.blockedEval(t, got) }).as("without its relations"),
	absent("GET /v1/evaluation/{id}", "eval not found", func(w *world) error { return fails(w.Evaluations().Info(noID, nil)) }),
	read("GET /v1/evaluation/{id}/allocations", func(w *world) ([]*public.AllocationListStub, *public.QueryMeta, error) {
		return w.Evaluations().Allocations(w.once.reply.EvalID, nil)
	}, func(t *testing.T, w *world, got []*public.AllocationListStub) []*public.AllocationListStub {
		return []*public.AllocationListStub{w.onceStub(t, at(got, 0))}
	}),
	write("PUT /v1/allocation/{id}/stop", func(w *world) (string, *public.WriteMeta, error) {
		reply, err := w.Allocations().Stop(&public.Allocation{ID: w.done.ID}, nil)
		return reply.EvalID, &public.WriteMeta{LastIndex: reply.LastIndex}, err
	}, func(t *testing.T, w *world, got string) string {
		if e := w.info(t, got); e.TriggeredBy != "alloc-stop" || e.JobID != "once" || e.CreateIndex != w.wire.index(t) {
			t.Errorf("evaluation %+v, want that of stopping once at the index of the write", e)
		}
		return id(t, "evaluation", got)
	}),
	refusal("PUT /v1/allocation/{id}/stop", http.StatusNotFound, "alloc not found", func(w *world) error {
		return fails(w.Allocations().Stop(&public.Allocation{ID: noID}, nil))
	}).as("of nothing"),

	answer("GET /v1/client/fs/{verb}/{id}", func(w *world) (string, error) {
		body, err := w.Raw().Response("/v1/client/fs/logs/"+w.done.ID, &public.QueryOptions{
			Params: map[string]string{"task": "main", "type": "stdout", "plain": "true"},
		})
		if err != nil {
			return "", err
		}
		defer body.Close()
		text, err := io.ReadAll(body)
		return string(text), err
	}, is("done\n")),
	absent("GET /v1/client/fs/{verb}/{id}", `Unknown allocation "`+noID+`"`, func(w *world) error {
		return fails(w.Raw().Response("/v1/client/fs/logs/"+noID, nil))
	}),
	refusal("GET /v1/client/allocation/{id}/{verb}", http.StatusNotImplemented, "not supported yet", func(w *world) error {
		return fails(w.Allocations().Stats(&public.Allocation{ID: w.alloc.ID}, nil))
	}),
	refusal("PUT /v1/client/allocation/{id}/{verb}", http.StatusNotImplemented, "not supported yet", func(w *world) error {
		return w.Allocations().Restart(&public.Allocation{ID: w.alloc.ID}, "main", nil)
	}),
}

// allocation is one of web's, as it runs.
func (w *world) allocation(t *testing.T, got *public.Allocation) *public.Allocation {
	t.Helper()
	stub := w.webStub(t, w.alloc.Name, got.Stub())
	want := &public.Allocation{
		ID: stub.ID, Namespace: stub.Namespace, EvalID: stub.EvalID, Name: stub.Name, NodeID: stub.NodeID, NodeName: stub.NodeName,
		JobID: stub.JobID, TaskGroup: stub.TaskGroup, DesiredStatus: stub.DesiredStatus, ClientStatus: stub.ClientStatus,
		ClientDescription: stub.ClientDescription, TaskStates: stub.TaskStates, DeploymentStatus: stub.DeploymentStatus,
		CreateIndex: stub.CreateIndex, ModifyIndex: stub.ModifyIndex, CreateTime: stub.CreateTime, ModifyTime: stub.ModifyTime,
		AllocModifyIndex: stub.CreateIndex,
		Metrics:          fits(t, w, got.Metrics),
	}
	if got.Job == nil || got.AllocatedResources == nil || len(got.AllocatedResources.Shared.Ports) != 1 {
		t.Fatalf("allocation without its job or its port: %+v", got)
	}
	want.Job = served(t, w.web, got.Job)
	port := got.AllocatedResources.Shared.Ports[0]
	if port.Value < 20000 || port.Value > 32000 {
		t.Errorf("port %d, want 20000 to 32000", port.Value)
	}
	want.AllocatedResources = &public.AllocatedResources{
		Tasks: map[string]*public.AllocatedTaskResources{"main": {
			Cpu: public.AllocatedCpuResources{CpuShares: 20}, Memory: public.AllocatedMemoryResources{MemoryMB: 16},
		}},
		Shared: public.AllocatedSharedResources{DiskMB: 300, Ports: []public.PortMapping{
			{Label: "http", Value: port.Value, To: 8080, HostIP: w.node.Address},
		}},
	}
	return want
}

func (w *world) webStub(t *testing.T, name string, got *public.AllocationListStub) *public.AllocationListStub {
	t.Helper()
	want := w.placed(t, w.web, name, got)
	want.ClientStatus, want.ClientDescription = "running", "Tasks are running"
	state := stateOf(t, got, "main")
	want.TaskStates = map[string]*public.TaskState{"main": {
		State: "running", StartedAt: w.about(t, "StartedAt", state.StartedAt), Events: w.history(t, state.Events, started()...),
	}}
	if got.DeploymentStatus == nil {
		t.Fatal("web is not healthy")
	}
	want.DeploymentStatus = &public.AllocDeploymentStatus{
		Healthy: new(true), Timestamp: w.about(t, "healthy", got.DeploymentStatus.Timestamp),
		ModifyIndex: since(t, "healthy", got.DeploymentStatus.ModifyIndex, got.CreateIndex),
	}
	return want
}

func (w *world) onceStub(t *testing.T, got *public.AllocationListStub) *public.AllocationListStub {
	t.Helper()
	want := w.placed(t, w.once, "once.g[0]", got)
	want.ClientStatus, want.ClientDescription = "complete", "All tasks have completed"
	state := stateOf(t, got, "main")
	ended := &public.TaskEvent{
		Type: "Terminated", Message: "Exit code 0", Details: map[string]string{"exit_code": "0", "signal": "0", "oom_killed": "false"},
	}
	want.TaskStates = map[string]*public.TaskState{"main": {
		State: "dead", StartedAt: w.about(t, "StartedAt", state.StartedAt), FinishedAt: w.about(t, "FinishedAt", state.FinishedAt),
		Events: w.history(t, state.Events, append(started(), ended)...),
	}}
	if state.FinishedAt.Before(state.StartedAt) {
		t.Errorf("finished at %s, before it started at %s", state.FinishedAt, state.StartedAt)
	}
	return want
}

// placed is an allocation that runs, without what its node says of it.
func (w *world) placed(t *testing.T, r *registered, name string, got *public.AllocationListStub) *public.AllocationListStub {
	t.Helper()
	return &public.AllocationListStub{
		ID: id(t, name, got.ID), EvalID: r.reply.EvalID, Name: name, Namespace: "default", NodeID: w.node.ID, NodeName: w.node.Name,
		JobID: *r.job.ID, JobType: *r.job.Type, TaskGroup: "g", DesiredStatus: "run",
		CreateIndex: since(t, "CreateIndex", got.CreateIndex, r.reply.EvalCreateIndex),
		ModifyIndex: since(t, "ModifyIndex", got.ModifyIndex, got.CreateIndex),
		CreateTime:  w.recent(t, "CreateTime", got.CreateTime), ModifyTime: w.recent(t, "ModifyTime", got.ModifyTime),
	}
}

func stateOf(t *testing.T, a *public.AllocationListStub, task string) *public.TaskState {
	t.Helper()
	s := a.TaskStates[task]
	if s == nil {
		t.Fatalf("%s: no state of task %s", a.Name, task)
	}
	return s
}

// history is what is expected of a task's events, whose times are checked not to go back, and taken.
func (w *world) history(t *testing.T, got []*public.TaskEvent, want ...*public.TaskEvent) []*public.TaskEvent {
	t.Helper()
	last := int64(0)
	for i, e := range want {
		e.DisplayMessage = e.Message
		if e.Time = w.recent(t, e.Type, at(got, i).Time); e.Time < last {
			t.Errorf("event %s goes back in time", e.Type)
		}
		last = e.Time
	}
	return want
}

// started are the events of a task that starts.
func started() []*public.TaskEvent {
	return []*public.TaskEvent{
		{Type: "Received", Message: "Task received by the node"},
		{Type: "Task Setup", Message: "Building the task's directory"},
		{Type: "Started", Message: "Task started by driver raw_exec"},
	}
}

// about checks that a time lies within the test, and returns it.
func (w *world) about(t *testing.T, what string, at time.Time) time.Time {
	t.Helper()
	w.recent(t, what, at.UnixNano())
	return at
}

// evaluation is that of a registration which placed all.
func (w *world) evaluation(t *testing.T, r *registered, got *public.Evaluation) *public.Evaluation {
	t.Helper()
	want := w.evalBase(t, r, got)
	want.SnapshotIndex = since(t, "SnapshotIndex", got.SnapshotIndex, r.reply.EvalCreateIndex)
	return want
}

func (w *world) evalBase(t *testing.T, r *registered, got *public.Evaluation) *public.Evaluation {
	t.Helper()
	return &public.Evaluation{
		ID: r.reply.EvalID, Priority: priority(r), Type: *r.job.Type, TriggeredBy: "job-register", Namespace: "default", JobID: *r.job.ID,
		JobModifyIndex: r.reply.JobModifyIndex, Status: "complete", QueuedAllocations: map[string]int{"g": 0},
		CreateIndex: r.reply.EvalCreateIndex, ModifyIndex: since(t, "ModifyIndex", got.ModifyIndex, r.reply.EvalCreateIndex),
		CreateTime: w.recent(t, "CreateTime", got.CreateTime), ModifyTime: w.recent(t, "ModifyTime", got.ModifyTime),
	}
}

func priority(r *registered) int {
	if r.job.Priority == nil {
		return 50
	}
	return *r.job.Priority
}

// stuckEval is the evaluation that could place nothing.
func (w *world) stuckEval(t *testing.T, got *public.Evaluation) *public.Evaluation {
	t.Helper()
	want := w.evaluation(t, w.stuck, got)
	want.QueuedAllocations["g"] = 2
	want.BlockedEval = id(t, "BlockedEval", got.BlockedEval)
	want.FailedTGAllocs = map[string]*public.AllocationMetric{"g": noPlace(w, got)}
	return want
}

// blockedEval waits for a node on which stuck fits.
func (w *world) blockedEval(t *testing.T, got *public.Evaluation) *public.Evaluation {
	t.Helper()
	want := w.evalBase(t, w.stuck, got)
	want.ID, want.Status, want.TriggeredBy, want.PreviousEval = w.blocked, "blocked", "queued-allocs", w.stuck.reply.EvalID
	want.StatusDescription, want.QueuedAllocations = "waits for capacity", map[string]int{"g": 2}
	want.CreateIndex = since(t, "CreateIndex", got.CreateIndex, w.stuck.reply.EvalCreateIndex)
	want.FailedTGAllocs = map[string]*public.AllocationMetric{"g": noPlace(w, got)}
	want.SnapshotIndex = got.SnapshotIndex // nothing was computed on it
	if len(got.ClassEligibility) != 1 {
		t.Errorf("%d node classes, want that of the one node", len(got.ClassEligibility))
	}
	want.ClassEligibility = map[string]bool{}
	for class := range got.ClassEligibility {
		want.ClassEligibility[class] = false
	}
	return want
}

// fits is how a placement on the one node is explained; its score is taken as it is, if there is one.
func fits(t *testing.T, w *world, got *public.AllocationMetric) *public.AllocationMetric {
	t.Helper()
	if got == nil || len(got.ScoreMetaData) != 1 || got.ScoreMetaData[0].NormScore == 0 || got.ScoreMetaData[0].Scores["binpack"] == 0 {
		t.Fatalf("metrics %+v, want the score of one node", got)
	}
	return &public.AllocationMetric{
		NodesEvaluated: 1, NodesInPool: 1, NodesAvailable: map[string]int{"dc1": 1}, AllocationTime: got.AllocationTime,
		ScoreMetaData: []*public.NodeScoreMeta{{NodeID: w.node.ID, Scores: got.ScoreMetaData[0].Scores, NormScore: got.ScoreMetaData[0].NormScore}},
	}
}

func noPlace(w *world, got *public.Evaluation) *public.AllocationMetric {
	want := &public.AllocationMetric{
		NodesEvaluated: 1, NodesFiltered: 1, NodesInPool: 1, NodesAvailable: map[string]int{"dc1": 1},
		ConstraintFiltered: map[string]int{"${attr.kernel.name} = plan9": 1}, CoalescedFailures: 1,
	}
	if m := got.FailedTGAllocs["g"]; m != nil {
		want.AllocationTime = m.AllocationTime
	}
	return want
}

func (w *world) info(t *testing.T, evalID string) *public.Evaluation {
	t.Helper()
	e, _, err := w.plain.Evaluations().Info(evalID, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func stubOf(e *public.Evaluation) *public.EvaluationStub {
	return &public.EvaluationStub{
		ID: e.ID, Priority: e.Priority, Type: e.Type, TriggeredBy: e.TriggeredBy, Namespace: e.Namespace, JobID: e.JobID, Status: e.Status,
		StatusDescription: e.StatusDescription, PreviousEval: e.PreviousEval, BlockedEval: e.BlockedEval, NextEval: e.NextEval,
		CreateIndex: e.CreateIndex, ModifyIndex: e.ModifyIndex, CreateTime: e.CreateTime, ModifyTime: e.ModifyTime,
	}
}
