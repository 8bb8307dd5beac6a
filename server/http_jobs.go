package server

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/jobspec"
	"github.com/brumehq/brume/server/state"
)

var jobRoutes = []route{
	{path: "/v1/jobs", get: reads(query{keys: jobTables, find: listJobs}), put: registerJob},
	{path: "/v1/jobs/parse", put: parseJob},
	{path: "/v1/validate/job", put: validateJob},
	{path: "/v1/job/{id}", get: reads(query{keys: jobKeys, find: readJob}), put: registerJob, del: deregisterJob},
	{path: "/v1/job/{id}/summary", get: reads(query{keys: summaryKeys, find: readSummary})},
	{path: "/v1/job/{id}/versions", get: reads(query{keys: jobKeys, find: readVersions})},
	{path: "/v1/job/{id}/allocations", get: reads(query{keys: jobAllocKeys, find: listJobAllocs})},
	{path: "/v1/job/{id}/evaluations", get: reads(query{keys: jobEvalKeys, find: listJobEvals})},
}

// filteredJob is a job as filters see it: fields that have nothing behind them yet are nil.
func filteredJob(j *api.Job) any {
	fields := map[string]any{}
	for f, v := range reflect.ValueOf(j).Elem().Fields() {
		fields[f.Name] = v.Interface()
	}
	for _, absent := range []string{"Periodic", "ParameterizedJob", "Multiregion"} {
		fields[absent] = (*struct{})(nil)
	}
	return fields
}

func jobTables(*read) []state.Key {
	return []state.Key{state.TableKey(state.Jobs), state.TableKey(state.Summaries)}
}

// job is the namespace and id of the job that a path names.
func (q *read) job() (namespace, id string) {
	ns := q.namespace
	if ns == api.AllNamespaces {
		ns = api.DefaultNamespace
	}
	return ns, q.PathValue("id")
}

func jobKeys(q *read) []state.Key { return []state.Key{state.JobKey(q.job())} }
func summaryKeys(q *read) []state.Key {
	return []state.Key{state.SummaryKey(q.job()), state.JobKey(q.job())}
}
func jobAllocKeys(q *read) []state.Key {
	return []state.Key{state.AllocsOfJob(q.job()), state.JobKey(q.job())}
}
func jobEvalKeys(q *read) []state.Key {
	return []state.Key{state.EvalsOfJob(q.job()), state.JobKey(q.job())}
}

func findJob(snap *state.Snapshot, q *read) (*api.Job, error) {
	if job := snap.Job(q.job()); job != nil {
		return job, nil
	}
	return nil, api.E(api.ErrNotFound, "job not found")
}

func listJobs(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	withMeta := flag(q.URL.Query(), "meta")
	rows, next, err := list(q, listing[*api.Job, *api.JobListStub]{
		objects: snap.Jobs(q.namespace, q.prefix),
		key:     func(j *api.Job) string { return j.Namespace + "/" + j.ID },
		full:    filteredJob,
		row: func(j *api.Job) *api.JobListStub {
			return jobStub(j, snap.Summary(j.Namespace, j.ID), withMeta)
		},
	})
	return answer{rows, max(snap.TableIndex(state.Jobs), snap.TableIndex(state.Summaries)), next}, err
}

// jobStub is the row of a job in lists.
func jobStub(j *api.Job, s *api.JobSummary, withMeta bool) *api.JobListStub {
	stub := &api.JobListStub{
		ID: j.ID, ParentID: j.ParentID, Name: j.Name, Namespace: j.Namespace, Datacenters: j.Datacenters, NodePool: j.NodePool,
		Type: j.Type, Priority: j.Priority, Stop: j.Stop, Status: j.Status, StatusDescription: j.StatusDescription, JobSummary: s,
		CreateIndex: j.CreateIndex, ModifyIndex: j.ModifyIndex, JobModifyIndex: j.JobModifyIndex, SubmitTime: j.SubmitTime, Version: j.Version,
	}
	if withMeta {
		stub.Meta = j.Meta
	}
	return stub
}

func readJob(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	job, err := findJob(snap, q)
	if err != nil {
		return answer{}, err
	}
	return answer{body: job, index: job.ModifyIndex}, nil
}

func readSummary(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	s := snap.Summary(q.job())
	if s == nil {
		return answer{}, api.E(api.ErrNotFound, "job not found")
	}
	return answer{body: s, index: s.ModifyIndex}, nil
}

// jobVersions answers /v1/job/:id/versions: newest first; differences are not built.
type jobVersions struct {
	Versions []*api.Job
	Diffs    []any
}

func readVersions(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	job, err := findJob(snap, q)
	if err != nil {
		return answer{}, err
	}
	v := jobVersions{Versions: slices.Collect(snap.JobVersions(q.job()))}
	slices.Reverse(v.Versions)
	return answer{body: v, index: job.ModifyIndex}, nil
}

func registerJob(h *Hub, w http.ResponseWriter, r *http.Request) error {
	var req api.JobRegisterRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Job == nil {
		return api.E(api.ErrInvalid, "Job must be specified")
	}
	if id := r.PathValue("id"); id != "" && id != req.Job.ID {
		return api.E(api.ErrInvalid, "Job ID does not match name")
	}
	if _, err := writeNamespace(r); err != nil {
		return err
	}
	if req.PreserveResources {
		return optionNotBuilt("PreserveResources")
	}
	resp, err := h.registerJob(r.Context(), &req)
	if err != nil {
		return withStatus(http.StatusInternalServerError, problems(err)) // clients know refusals of a job as 500
	}
	return writeIndexed(w, r, resp.Index, resp)
}

func deregisterJob(h *Hub, w http.ResponseWriter, r *http.Request) error {
	ns, err := writeNamespace(r)
	if err != nil {
		return err
	}
	if flag(r.URL.Query(), "no_shutdown_delay") {
		return optionNotBuilt("no_shutdown_delay")
	}
	d := deregistration{Namespace: ns, ID: r.PathValue("id"), Purge: flag(r.URL.Query(), "purge")}
	if s := r.URL.Query().Get("eval_priority"); s != "" {
		if d.EvalPriority, err = strconv.Atoi(s); err != nil {
			return api.E(api.ErrInvalid, "Invalid eval_priority")
		}
	}
	resp, err := h.deregisterJob(r.Context(), d)
	if err != nil {
		return err
	}
	return writeIndexed(w, r, resp.Index, resp)
}

func parseJob(_ *Hub, w http.ResponseWriter, r *http.Request) error {
	var req api.JobParseRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.JobHCL == "" {
		return api.E(api.ErrInvalid, "Job spec is empty")
	}
	opts := jobspec.Options{}
	if req.Variables != "" {
		opts.VarFiles = []jobspec.File{{Name: "variables", Source: []byte(req.Variables)}}
	}
	job, _, err := jobspec.Parse("input.hcl", []byte(req.JobHCL), opts)
	if err != nil {
		return api.E(api.ErrInvalid, "Failed to parse job: "+err.Error())
	}
	return writeJSON(w, r, job)
}

func validateJob(_ *Hub, w http.ResponseWriter, r *http.Request) error {
	var req api.JobRegisterRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Job == nil {
		return api.E(api.ErrInvalid, "Job must be specified")
	}
	resp := api.JobValidateResponse{DriverConfigValidated: true, Warnings: strings.Join(req.Job.Warnings(), "\n")}
	if err := req.Job.Validate(); err != nil {
		resp.ValidationErrors = strings.Split(err.Error(), "\n")
		resp.Error = problems(err).Error()
	}
	return writeJSON(w, r, resp)
}

// problemList is an error in the form in which clients know a list of problems.
type problemList struct {
	text string
	err  error
}

func (p *problemList) Error() string { return p.text }
func (p *problemList) Unwrap() error { return p.err }

// problems gives the refusal of a job that form; other errors stay as they are.
func problems(err error) error {
	if !errors.Is(err, api.ErrInvalid) {
		return err
	}
	lines := strings.Split(err.Error(), "\n")
	head := "1 error occurred:"
	if len(lines) > 1 {
		head = strconv.Itoa(len(lines)) + " errors occurred:"
	}
	return &problemList{head + "\n\t* " + strings.Join(lines, "\n\t* ") + "\n", err}
}
