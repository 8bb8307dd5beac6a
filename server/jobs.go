package server

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// registerJob validates a job and commits it with an evaluation. Its defaults were filled by who decoded it.
func (h *Hub) registerJob(ctx context.Context, req *api.JobRegisterRequest) (*api.JobRegisterResponse, error) {
	if req.Job == nil {
		return nil, api.E(api.ErrInvalid, "Job must be specified")
	}
	j := *req.Job
	j.Complete()
	if err := j.Validate(); err != nil {
		return nil, err
	}
	if !h.inRegion(j.Region) {
		return nil, errRegion
	}
	if err := checkPriority(req.EvalPriority); err != nil {
		return nil, err
	}
	if req.PreserveCounts {
		h.preserveCounts(&j)
	}
	eval := &api.Evaluation{
		ID: uuid.NewString(), Priority: cmp.Or(req.EvalPriority, j.Priority),
		TriggeredBy: api.EvalTriggerJobRegister, Status: api.EvalStatusPending,
	}
	index, result, err := h.apply(ctx, state.RegisterJob{
		Job: &j, Eval: eval, EnforceIndex: req.EnforceIndex, JobModifyIndex: req.JobModifyIndex,
	})
	if err != nil {
		return nil, err
	}
	h.log.Debug("job registered", "job", j.ID, "index", index)
	r := registered(index, result)
	r.Warnings = strings.Join(j.Warnings(), "\n")
	return r, nil
}

func registered(index uint64, result any) *api.JobRegisterResponse {
	r := result.(state.Registered)
	return &api.JobRegisterResponse{
		EvalID: r.EvalID, EvalCreateIndex: r.EvalCreateIndex, JobModifyIndex: r.JobModifyIndex, Index: index,
	}
}

func checkPriority(p int) error {
	if p < 0 || p > 100 {
		return api.E(api.ErrInvalid, fmt.Sprintf("evaluation priority %d: want 1 to 100", p))
	}
	return nil
}

// preserveCounts keeps the counts of groups that are registered already.
func (h *Hub) preserveCounts(j *api.Job) {
	known := h.store.Snapshot().Job(j.Namespace, j.ID)
	if known == nil {
		return
	}
	groups := make([]*api.Group, len(j.TaskGroups))
	for i, g := range j.TaskGroups {
		c := *g
		if k := known.Group(g.Name); k != nil {
			c.Count = k.Count
		}
		groups[i] = &c
	}
	j.TaskGroups = groups
}

// deregistration asks for a job to be stopped, and forgotten if Purge.
type deregistration struct {
	Namespace, ID string
	Purge         bool
	EvalPriority  int // 0: the job's
}

// deregisterJob commits that a job is stopped: api.ErrNotFound if there is none.
func (h *Hub) deregisterJob(ctx context.Context, d deregistration) (*api.JobRegisterResponse, error) {
	if err := checkPriority(d.EvalPriority); err != nil {
		return nil, err
	}
	eval := &api.Evaluation{
		ID: uuid.NewString(), Priority: d.EvalPriority,
		TriggeredBy: api.EvalTriggerJobDeregister, Status: api.EvalStatusPending,
	}
	index, result, err := h.apply(ctx, state.DeregisterJob{Namespace: d.Namespace, ID: d.ID, Purge: d.Purge, Eval: eval})
	if err != nil {
		return nil, err
	}
	h.log.Debug("job deregistered", "job", d.ID, "purge", d.Purge, "index", index)
	return registered(index, result), nil
}

// stopAlloc stops one allocation, for which the job gets another one: api.ErrNotFound if there is none.
func (h *Hub) stopAlloc(ctx context.Context, allocID string) (*api.AllocStopResponse, error) {
	id, err := state.ParseID(allocID)
	if err != nil {
		return nil, api.E(api.ErrNotFound, "alloc not found")
	}
	row := h.store.Snapshot().Row(id)
	if row == nil {
		return nil, api.E(api.ErrNotFound, "alloc not found")
	}
	eval := newEval(row.Job(), api.EvalTriggerAllocStop)
	index, _, err := h.apply(ctx, state.StopAllocs{IDs: []state.ID{id}, Evals: []*api.Evaluation{eval}})
	if err != nil {
		return nil, err
	}
	return &api.AllocStopResponse{EvalID: eval.ID, Index: index}, nil
}
