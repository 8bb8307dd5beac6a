package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/brumehq/brume/api"
)

// A job is settled when all that was asked for is healthy or complete, and failed when one allocation of its version is.
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
	stopped := alloc(2, api.AllocClientComplete, nil)
	stopped.DesiredStatus = api.AllocDesiredStop
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
		{"what was stopped does not run", job(service, 1), []*api.AllocationListStub{stopped}, false, undecided},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			if _, got := judge(tt.job, tt.allocs, tt.blocked); got != tt.want {
				t.Errorf("judge = %d, want %d", got, tt.want)
			}
		})
	}
}

// A job is followed through restarts of the hub, and no longer than it is wanted.
func TestRunFollows(t *testing.T) {
	web := oneGroup(api.JobTypeService, 1)
	good := stub(0, api.AllocClientRunning, "")
	good.DeploymentStatus = healthy(true)
	stopped, newer := *web, *web
	stopped.Stop, stopped.Version = true, 1
	newer.Version = 1
	tests := []struct {
		rule    string
		away    bool     // the hub is being started again: of each path the first answer breaks off, the second knows no leader
		now     *api.Job // the job once it is followed; nil: it is gone
		allocs  []*api.AllocationListStub
		evalErr bool // the evaluation was removed
		want    []string
	}{
		{"through a restart of the hub", true, web, []*api.AllocationListStub{good}, false, []string{"asking again", "runs and is healthy"}},
		{"without its evaluation", false, web, []*api.AllocationListStub{good}, true, []string{"runs and is healthy"}},
		{"until it is stopped", false, &stopped, nil, false, []string{`job "web" was stopped meanwhile`}},
		{"until it is removed", false, nil, nil, false, []string{`job "web" was removed meanwhile`}},
		{"until there is a newer version", false, &newer, []*api.AllocationListStub{good}, false, []string{"a newer version was submitted meanwhile"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			mux := http.NewServeMux()
			answer := func(path string, f func(n int64) any) {
				var asked atomic.Int64
				mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
					n := asked.Add(1)
					if tt.away {
						n -= 2
					}
					switch n {
					case -1:
						panic(http.ErrAbortHandler)
					case 0:
						http.Error(w, "No cluster leader", http.StatusInternalServerError)
						return
					}
					body := f(n)
					if body == nil {
						w.Header().Set(api.HeaderError, "not-found")
						http.Error(w, "not found", http.StatusNotFound)
						return
					}
					w.Header().Set(api.HeaderIndex, "7")
					if err := json.NewEncoder(w).Encode(body); err != nil {
						t.Error(err)
					}
				})
			}
			mux.HandleFunc("PUT /v1/jobs", func(w http.ResponseWriter, _ *http.Request) {
				if err := json.NewEncoder(w).Encode(&api.JobRegisterResponse{EvalID: evalA}); err != nil {
					t.Error(err)
				}
			})
			answer("GET /v1/job/web", func(n int64) any {
				switch {
				case n == 1:
					return web
				case tt.now == nil:
					return nil
				}
				return tt.now
			})
			answer("GET /v1/evaluation/{id}", func(int64) any {
				if tt.evalErr {
					return nil
				}
				return &api.Evaluation{ID: evalA, Status: api.EvalStatusComplete}
			})
			answer("GET /v1/job/web/allocations", func(int64) any { return tt.allocs })
			srv := httptest.NewServer(mux)
			t.Cleanup(srv.Close)
			got := said(t, srv.URL, 0, "job", "run", "testdata/follow.hcl")
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is missing in:\n%s", w, got)
				}
			}
		})
	}
}
