package main

import (
	"testing"

	"github.com/brumehq/brume/api"
)

// A job is settled when all that was asked for is healthy or complete, failed when one allocation of its version is, and
// superseded when a newer version appears.
func TestJudgeOfAllocations(t *testing.T) {
	job := func(kind string, count int) *api.Job {
		j := api.NewJob(kind)
		j.Version = 2
		g := j.NewGroup()
		g.Count = count
		j.TaskGroups = []*api.Group{g}
		return j
	}
	alloc := func(version uint64, status string, h *api.AllocDeploymentStatus) *api.AllocationListStub {
		return &api.AllocationListStub{JobVersion: version, ClientStatus: status, DesiredStatus: api.AllocDesiredRun, DeploymentStatus: h}
	}
	replaced := alloc(2, api.AllocClientFailed, nil)
	replaced.NextAllocation = "x"
	service, batch := api.JobTypeService, api.JobTypeBatch
	tests := []struct {
		rule    string
		job     *api.Job
		allocs  []*api.AllocationListStub
		blocked bool
		want    verdict
	}{
		{"nothing placed yet", job(service, 1), nil, false, undecided},
		{"running is not healthy yet", job(service, 1), []*api.AllocationListStub{alloc(2, "running", nil)}, false, undecided},
		{"healthy", job(service, 1), []*api.AllocationListStub{alloc(2, "running", healthy(true))}, false, settled},
		{"one of two healthy", job(service, 2), []*api.AllocationListStub{alloc(2, "running", healthy(true)), alloc(2, "running", nil)}, false, undecided},
		{"old versions do not count", job(service, 1), []*api.AllocationListStub{alloc(1, "running", healthy(true))}, false, undecided},
		{"old failures do not count", job(service, 1), []*api.AllocationListStub{alloc(1, "failed", nil), alloc(2, "running", healthy(true))}, false, settled},
		{"failed", job(service, 2), []*api.AllocationListStub{alloc(2, "running", healthy(true)), alloc(2, "failed", nil)}, false, failed},
		{"a replaced failure does not count", job(service, 1), []*api.AllocationListStub{replaced, alloc(2, "running", healthy(true))}, false, settled},
		{"batch completes", job(batch, 1), []*api.AllocationListStub{alloc(2, "complete", nil)}, false, settled},
		{"batch still runs", job(batch, 2), []*api.AllocationListStub{alloc(2, "complete", nil), alloc(2, "running", nil)}, false, undecided},
		{"blocked: the placed ones are enough", job(service, 2), []*api.AllocationListStub{alloc(2, "running", healthy(true))}, true, settled},
		{"blocked: nothing placed", job(service, 2), nil, true, settled},
		{"count 0 is settled", job(service, 0), nil, false, settled},
		{"newer version", job(service, 1), []*api.AllocationListStub{alloc(3, "running", nil)}, false, superseded},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			if _, got := judge(tt.job, tt.allocs, tt.blocked); got != tt.want {
				t.Errorf("judge = %d, want %d", got, tt.want)
			}
		})
	}
}
