package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/brumehq/brume/api"
)

// jobPath is the path of a job, whose id may hold slashes.
func jobPath(id, rest string) string { return "/v1/job/" + url.PathEscape(id) + rest }

// RegisterJob submits a job or a new version of it.
func (c *Client) RegisterJob(ctx context.Context, req *api.JobRegisterRequest) (*api.JobRegisterResponse, error) {
	var out api.JobRegisterResponse
	return &out, c.put(ctx, "/v1/jobs", Query{Namespace: req.Job.Namespace}, req, &out)
}

// ValidateJob asks the hub what is wrong with a job; problems are in the answer, not an error.
func (c *Client) ValidateJob(ctx context.Context, job *api.Job) (*api.JobValidateResponse, error) {
	var out api.JobValidateResponse
	body := &api.JobRegisterRequest{Job: job}
	return &out, c.put(ctx, "/v1/validate/job", Query{Namespace: job.Namespace}, body, &out)
}

// ParseJob has the hub read a job file; functions that read files are refused there.
func (c *Client) ParseJob(ctx context.Context, req *api.JobParseRequest) (*api.Job, error) {
	var out api.Job
	return &out, c.put(ctx, "/v1/jobs/parse", Query{}, req, &out)
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, q Query) ([]*api.JobListStub, Meta, error) {
	var out []*api.JobListStub
	meta, err := c.get(ctx, "/v1/jobs", q, &out)
	return out, meta, err
}

// Job reads one job; api.ErrNotFound if there is none.
func (c *Client) Job(ctx context.Context, id string, q Query) (*api.Job, Meta, error) {
	var out api.Job
	meta, err := c.get(ctx, jobPath(id, ""), q, &out)
	return &out, meta, err
}

// StopJob stops a job; with purge it is forgotten once its tasks have ended.
func (c *Client) StopJob(ctx context.Context, id string, purge bool, q Query) (*api.JobRegisterResponse, error) {
	var out api.JobRegisterResponse
	params := c.values(q)
	if purge {
		params.Set("purge", "true")
	}
	_, err := c.call(ctx, request{method: http.MethodDelete, path: jobPath(id, ""), query: params}, &out)
	return &out, err
}

// JobAllocations lists a job's allocations.
func (c *Client) JobAllocations(ctx context.Context, id string, q Query) ([]*api.AllocationListStub, Meta, error) {
	var out []*api.AllocationListStub
	meta, err := c.get(ctx, jobPath(id, "/allocations"), q, &out)
	return out, meta, err
}

// JobEvaluations lists a job's evaluations.
func (c *Client) JobEvaluations(ctx context.Context, id string, q Query) ([]*api.Evaluation, Meta, error) {
	var out []*api.Evaluation
	meta, err := c.get(ctx, jobPath(id, "/evaluations"), q, &out)
	return out, meta, err
}

// JobSummary counts a job's allocations.
func (c *Client) JobSummary(ctx context.Context, id string, q Query) (*api.JobSummary, Meta, error) {
	var out api.JobSummary
	meta, err := c.get(ctx, jobPath(id, "/summary"), q, &out)
	return &out, meta, err
}
