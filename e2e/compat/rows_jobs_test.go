package compat

import (
	"testing"

	public "github.com/hashicorp/nomad/api"
)

// warning is what the hub says of webJob's service.
const warning = `group "g" service: check: not run yet`

// Jobs. Rows that write use jobs of their own, after the reads.
var jobRows = []row{
	read("GET /v1/jobs", func(w *world) ([]*public.JobListStub, *public.QueryMeta, error) {
		return w.Jobs().List(nil)
	}, func(t *testing.T, w *world, got []*public.JobListStub) []*public.JobListStub {
		return []*public.JobListStub{
			w.stub(t, w.once, at(got, 0), "dead", public.TaskGroupSummary{Complete: 1}),
			w.stub(t, w.stuck, at(got, 1), "pending", public.TaskGroupSummary{Queued: 2}),
			w.stub(t, w.web, at(got, 2), "running", public.TaskGroupSummary{Running: 2}),
		}
	}),
	read("GET /v1/job/{id}", func(w *world) (*public.Job, *public.QueryMeta, error) {
		return w.Jobs().Info("web", nil)
	}, func(t *testing.T, w *world, got *public.Job) *public.Job { return served(t, w.web, got) }),
	read("GET /v1/job/{id}/summary", func(w *world) (*public.JobSummary, *public.QueryMeta, error) {
		return w.Jobs().Summary("web", nil)
	}, func(t *testing.T, w *world, got *public.JobSummary) *public.JobSummary {
		return summary(t, w.web, got, public.TaskGroupSummary{Running: 2})
	}),
	read("GET /v1/job/{id}/versions", func(w *world) ([]*public.Job, *public.QueryMeta, error) {
		jobs, diffs, meta, err := w.Jobs().Versions("web", false, nil)
		if len(diffs) != 0 {
			w.t.Errorf("%d differences were not asked for", len(diffs))
		}
		return jobs, meta, err
	}, func(t *testing.T, w *world, got []*public.Job) []*public.Job {
		return []*public.Job{served(t, w.web, at(got, 0))}
	}),
	read("GET /v1/job/{id}/allocations", func(w *world) ([]*public.AllocationListStub, *public.QueryMeta, error) {
		return w.Jobs().Allocations("once", true, nil)
	}, func(t *testing.T, w *world, got []*public.AllocationListStub) []*public.AllocationListStub {
		return []*public.AllocationListStub{w.onceStub(t, at(got, 0))}
	}),
	read("GET /v1/job/{id}/evaluations", func(w *world) ([]*public.Evaluation, *public.QueryMeta, error) {
		return w.Jobs().Evaluations("web", nil)
	}, func(t *testing.T, w *world, got []*public.Evaluation) []*public.Evaluation {
		return []*public.Evaluation{w.evaluation(t, w.web, at(got, 0))}
	}),

	answer("PUT /v1/jobs/parse", func(w *world) (*public.Job, error) {
		return w.Jobs().ParseHCLOpts(&public.JobsParseRequest{JobHCL: parsedHCL, Variables: `count = 4`, Canonicalize: true})
	}, func(t *testing.T, _ *world, got *public.Job) *public.Job { return parsedJob(t) }),
	answer("PUT /v1/validate/job", func(w *world) (*public.JobValidateResponse, error) {
		v, _, err := w.Jobs().Validate(webJob("valid"), nil)
		return v, err
	}, is(&public.JobValidateResponse{DriverConfigValidated: true, Warnings: warning})),
	write("PUT /v1/jobs", func(w *world) (*public.JobRegisterResponse, *public.WriteMeta, error) {
		return w.Jobs().Register(nowhere("tmp"), nil)
	}, registration),
	write("PUT /v1/job/{id}", func(w *world) (*public.JobRegisterResponse, *public.WriteMeta, error) {
		job := nowhere("tmp")
		job.Priority = new(10)
		var reply public.JobRegisterResponse
		meta, err := w.Raw().Write("/v1/job/tmp", &public.JobRegisterRequest{Job: job}, &reply, nil)
		return &reply, meta, err
	}, registration),
	write("DELETE /v1/job/{id}", func(w *world) (*public.JobDeregisterResponse, *public.WriteMeta, error) {
		var reply public.JobDeregisterResponse
		meta, err := w.Raw().Delete("/v1/job/tmp", &reply, nil)
		return &reply, meta, err
	}, func(t *testing.T, w *world, got *public.JobDeregisterResponse) *public.JobDeregisterResponse {
		index := w.wire.index(t)
		return &public.JobDeregisterResponse{EvalID: id(t, "evaluation", got.EvalID), EvalCreateIndex: index, JobModifyIndex: index}
	}).as("keeping it"),
	write("DELETE /v1/job/{id}", func(w *world) (string, *public.WriteMeta, error) {
		return w.Jobs().Deregister("tmp", true, nil)
	}, func(t *testing.T, _ *world, got string) string { return id(t, "evaluation", got) }).as("purging it"),
	refusal("GET /v1/job/{id}", 404, "job not found", func(w *world) error { return fails(w.Jobs().Info("tmp", nil)) }).as("purged"),
}

// at is the element of got at i, or one without a value so that the comparison tells what is missing.
func at[T any](got []*T, i int) *T {
	if i < len(got) {
		return got[i]
	}
	return new(T)
}

// nowhere is a job that fits on no node.
func nowhere(id string) *public.Job {
	j := webJob(id)
	j.Constraints = []*public.Constraint{{LTarget: "${attr.kernel.name}", RTarget: "plan9", Operand: "="}}
	return j
}

// registration checks what is only known from the reply itself.
func registration(t *testing.T, w *world, got *public.JobRegisterResponse) *public.JobRegisterResponse {
	index := w.wire.index(t)
	return &public.JobRegisterResponse{
		EvalID: id(t, "evaluation", got.EvalID), EvalCreateIndex: index, JobModifyIndex: index, Warnings: warning,
	}
}

func (w *world) stub(t *testing.T, r *registered, got *public.JobListStub, status string, sum public.TaskGroupSummary) *public.JobListStub {
	t.Helper()
	want := copyOf(t, r.job)
	want.Canonicalize()
	dcs := want.Datacenters
	if dcs == nil {
		dcs = []string{"*"}
	}
	return &public.JobListStub{
		ID: *want.ID, Name: *want.Name, Namespace: "default", Datacenters: dcs, Type: *want.Type, Priority: *want.Priority,
		Status: status, JobSummary: summary(t, r, got.JobSummary, sum),
		CreateIndex: r.reply.JobModifyIndex, JobModifyIndex: r.reply.JobModifyIndex,
		ModifyIndex: since(t, "ModifyIndex", got.ModifyIndex, r.reply.JobModifyIndex),
		SubmitTime:  w.recent(t, "SubmitTime", got.SubmitTime),
	}
}

func summary(t *testing.T, r *registered, got *public.JobSummary, sum public.TaskGroupSummary) *public.JobSummary {
	t.Helper()
	if got == nil {
		got = &public.JobSummary{}
	}
	return &public.JobSummary{
		JobID: *r.job.ID, Namespace: "default", Summary: map[string]public.TaskGroupSummary{"g": sum},
		Children: &public.JobChildrenSummary{}, CreateIndex: r.reply.JobModifyIndex,
		ModifyIndex: since(t, "summary", got.ModifyIndex, r.reply.JobModifyIndex),
	}
}
