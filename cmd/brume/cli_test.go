package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// noon is the clock of every test.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

const (
	allocA = "0a000000-0000-4000-8000-00000000000a"
	allocB = "0b000000-0000-4000-8000-00000000000b"
	evalA  = "ea000000-0000-4000-8000-00000000000a"
	nodeA  = "da000000-0000-8000-8000-00000000000a"
)

// hub answers with fixed values: path -> body.
func hub(t *testing.T, answers map[string]any) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.Header().Set(api.HeaderError, "not-found")
			http.Error(w, "nothing at "+r.URL.Path, http.StatusNotFound)
			return
		}
		w.Header().Set(api.HeaderIndex, "7")
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// said runs a command line against a hub and returns what it printed.
func said(t *testing.T, address string, width int, args ...string) string {
	t.Helper()
	t.Setenv("BRUME_ADDR", address)
	t.Setenv("BRUME_CONTEXT", filepath.Join(t.TempDir(), "none"))
	var out, errOut bytes.Buffer
	c := newCLI(strings.NewReader(""), &out, &errOut)
	c.now, c.width = func() time.Time { return noon }, width
	root := c.root()
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	if _, ok := errors.AsType[exitCode](err); ok {
		return out.String() + errOut.String() + err.Error() + "\n"
	}
	if err != nil {
		return out.String() + errOut.String() + "Error: " + err.Error() + "\n"
	}
	return out.String() + errOut.String()
}

// golden compares got with testdata/NAME.txt.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n--- got\n%s--- want\n%s", path, got, want)
	}
}

func healthy(b bool) *api.AllocDeploymentStatus { return &api.AllocDeploymentStatus{Healthy: &b} }

// world is a small cluster: one node, a job with one healthy allocation, one failed, and one that fits nowhere.
func world() map[string]any {
	ago := func(d time.Duration) int64 { return noon.Add(-d).UnixNano() }
	job := api.NewJob(api.JobTypeService)
	job.ID, job.Name, job.Status, job.Version = "web", "web", api.JobStatusRunning, 3
	job.SubmitTime = ago(90 * time.Minute)
	g := job.NewGroup()
	g.Name, g.Count = "front", 3
	task := g.NewTask()
	task.Name, task.Driver = "server", "raw_exec"
	g.Tasks = []*api.Task{task}
	job.TaskGroups = []*api.Group{g}

	held := &api.AllocatedResources{
		Tasks:  map[string]*api.AllocatedTaskResources{"server": {Cpu: api.AllocatedCPU{CpuShares: 200}, Memory: api.AllocatedMemory{MemoryMB: 256}}},
		Shared: api.AllocatedSharedResources{Ports: []api.PortMapping{{Label: "http", Value: 20080, HostIP: "192.0.2.7"}}},
	}
	events := []*api.TaskEvent{
		{Type: api.TaskReceived, Time: ago(time.Minute), DisplayMessage: "Task received by the agent"},
		{Type: api.TaskTerminated, Time: ago(30 * time.Second), DisplayMessage: "Exit code: 3", ExitCode: 3},
		{Type: api.TaskNotRestarting, Time: ago(29 * time.Second), DisplayMessage: "2 restarts in 30m0s used up", FailsTask: true},
	}
	states := map[string]*api.TaskState{"server": {State: api.TaskStateDead, Failed: true, Restarts: 2, Events: events,
		StartedAt: noon.Add(-time.Minute), FinishedAt: noon.Add(-30 * time.Second), LastRestart: noon.Add(-40 * time.Second)}}
	stubs := []*api.AllocationListStub{
		{ID: allocA, Name: "web.front[0]", JobID: "web", JobVersion: 3, NodeID: nodeA, NodeName: "n1", EvalID: evalA, TaskGroup: "front", AllocatedResources: held,
			DesiredStatus: "run", ClientStatus: "running", DeploymentStatus: healthy(true), CreateTime: ago(time.Hour), ModifyTime: ago(time.Minute), CreateIndex: 5},
		{ID: allocB, Name: "web.front[1]", JobID: "web", JobVersion: 3, NodeID: nodeA, NodeName: "n1", EvalID: evalA, TaskGroup: "front", TaskStates: states,
			DesiredStatus: "run", ClientStatus: "failed", ClientDescription: "task \"server\" failed", CreateTime: ago(time.Hour), ModifyTime: ago(29 * time.Second), CreateIndex: 6},
	}
	failedAlloc := &api.Allocation{ID: allocB, Name: "web.front[1]", JobID: "web", Job: job, NodeID: nodeA, NodeName: "n1", EvalID: evalA, TaskGroup: "front", Namespace: "default",
		AllocatedResources: held, TaskStates: states, DesiredStatus: "run", ClientStatus: "failed", ClientDescription: "task \"server\" failed",
		CreateTime: ago(time.Hour), ModifyTime: ago(29 * time.Second)}
	eval := &api.Evaluation{ID: evalA, JobID: "web", Type: "service", TriggeredBy: "job-register", Status: "blocked", Priority: 50, CreateTime: ago(time.Hour), CreateIndex: 4,
		QueuedAllocations: map[string]int{"front": 1},
		FailedTGAllocs: map[string]*api.AllocMetric{"front": {NodesEvaluated: 2, NodesFiltered: 1, NodesExhausted: 1,
			ConstraintFiltered: map[string]int{"${attr.kernel.name} = plan9": 1}, DimensionExhausted: map[string]int{"memory": 1}, NearestMiss: "n1: memory short by 212 MiB"}}}
	node := &api.Node{ID: nodeA, Name: "n1", Datacenter: "dc1", NodePool: "default", Status: "ready", SchedulingEligibility: "eligible", Version: "0.1.0",
		StatusUpdatedAt: noon.Add(-2 * time.Hour).Unix(),
		Attributes: map[string]string{"os.name": "debian", "os.version": "12", "kernel.name": "linux", "kernel.version": "6.1", "cpu.arch": "amd64",
			"cpu.modelname": "Example CPU", "unique.network.ip-address": "192.0.2.7"},
		Drivers: map[string]*api.DriverStatus{"raw_exec": {Detected: true, Healthy: true, HealthDescription: "no limits are enforced"},
			"docker": {HealthDescription: "no engine"}}}
	node.NodeResources.Cpu = api.NodeCPU{CpuShares: 8000, TotalCpuCores: 4}
	node.NodeResources.Memory.MemoryMB, node.NodeResources.Disk.DiskMB = 16000, 200000
	running := *failedAlloc
	running.ID, running.Name, running.ClientStatus, running.TaskStates = allocA, "web.front[0]", "running", nil
	return map[string]any{
		"GET /v1/jobs":                                 []*api.JobListStub{{ID: "web", Type: "service", Priority: 50, Status: "running", SubmitTime: job.SubmitTime, Namespace: "default", Datacenters: []string{"*"}, JobSummary: &api.JobSummary{Summary: map[string]api.GroupSummary{"front": {Running: 1, Failed: 1, Queued: 1}}}}},
		"GET /v1/job/web":                              job,
		"GET /v1/job/web/summary":                      &api.JobSummary{JobID: "web", Summary: map[string]api.GroupSummary{"front": {Running: 1, Failed: 1, Queued: 1}}},
		"GET /v1/job/web/allocations":                  stubs,
		"GET /v1/job/web/evaluations":                  []*api.Evaluation{eval},
		"GET /v1/allocations":                          stubs[1:],
		"GET /v1/allocation/" + allocB:                 failedAlloc,
		"GET /v1/evaluations":                          []*api.Evaluation{eval},
		"GET /v1/evaluation/" + evalA:                  eval,
		"GET /v1/evaluation/" + evalA + "/allocations": stubs,
		"GET /v1/nodes":                                []*api.NodeListStub{{ID: nodeA, Name: "n1", Status: "ready", SchedulingEligibility: "eligible", Drivers: node.Drivers, NodeResources: &node.NodeResources, Attributes: node.Attributes, Address: "192.0.2.7", Datacenter: "dc1", NodePool: "default"}},
		"GET /v1/node/" + nodeA:                        node,
		"GET /v1/node/" + nodeA + "/allocations":       []*api.Allocation{&running, failedAlloc},
	}
}

// What people see of a cluster stays as the golden files have it, on wide and narrow terminals.
func TestTablesReadAsRecorded(t *testing.T) {
	tests := []struct {
		name  string
		width int
		args  []string
	}{
		{"job_list", 0, []string{"job", "status"}},
		{"job_list_wide", 0, []string{"job", "status", "-o", "wide"}},
		{"job_status", 0, []string{"job", "status", "web"}},
		{"job_status_narrow", 60, []string{"job", "status", "web"}},
		{"alloc_status", 0, []string{"alloc", "status", "0b"}},
		{"node_list", 0, []string{"node", "status"}},
		{"node_status", 0, []string{"node", "status", "n1"}},
		{"node_status_wide", 0, []string{"node", "status", "n1", "-o", "wide"}},
		{"eval_list", 0, []string{"eval", "status"}},
		{"eval_status", 0, []string{"eval", "status", "ea"}},
		{"unknown_job", 0, []string{"job", "status", "nope"}},
		{"unknown_format", 0, []string{"job", "status", "-o", "xml"}},
	}
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answers := world()
			if tt.name == "unknown_job" {
				answers["GET /v1/jobs"] = []*api.JobListStub{}
			}
			golden(t, tt.name, said(t, hub(t, answers), tt.width, tt.args...))
		})
	}
}

// A job is stopped by the beginning of its id, but forgotten only by the whole of it.
func TestPurgeWantsTheWholeName(t *testing.T) {
	answers := world()
	answers["DELETE /v1/job/web"] = &api.JobRegisterResponse{EvalID: evalA}
	delete(answers, "GET /v1/job/we")
	if got, want := said(t, hub(t, answers), 0, "job", "stop", "--purge", "we"), "Error: name the job in full to purge it: \"web\"\n"; got != want {
		t.Errorf("job stop --purge we said %q, want %q", got, want)
	}
	if got, want := said(t, hub(t, answers), 0, "job", "stop", "--detach", "we"), "Job \"web\" is stopping, evaluation ea000000\n"; got != want {
		t.Errorf("job stop we said %q, want %q", got, want)
	}
}

// -o json prints what the API answered, and nothing else.
func TestJSONOutputIsJSONAlone(t *testing.T) {
	for _, args := range [][]string{{"job", "status"}, {"job", "status", "web"}, {"alloc", "status", "0b"}, {"node", "status"}, {"node", "status", "n1"}, {"eval", "status"}, {"eval", "status", "ea"}, {"version"}} {
		out := said(t, hub(t, world()), 0, append(args, "-o", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("brume %s -o json is not JSON:\n%s", strings.Join(args, " "), out)
		}
	}
}

// The context's token and authority go to the context's own address, never to another.
func TestContextTokenGoesToItsOwnAddressOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "context")
	if err := saveContext(path, savedContext{Address: "https://hub:4646", Token: "secret", CACert: "pem"}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the context has mode %v, want 0600", st.Mode().Perm())
	}
	tests := []struct {
		rule                     string
		env                      map[string]string
		address, wantAddr, token string
	}{
		{"context alone", nil, "", "https://hub:4646", "secret"},
		{"same address by flag", nil, "https://hub:4646", "https://hub:4646", "secret"},
		{"another address by flag", nil, "https://evil:4646", "https://evil:4646", ""},
		{"another address by environment", map[string]string{"BRUME_ADDR": "http://other:1"}, "", "http://other:1", ""},
		{"compatible variable is read last", map[string]string{"BRUME_ADDR": "http://a:1", "NOMAD_ADDR": "http://b:1"}, "", "http://a:1", ""},
		{"token by environment wins", map[string]string{"BRUME_TOKEN": "mine"}, "", "https://hub:4646", "mine"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCLI(nil, nil, nil)
			c.address = tt.address
			cfg, err := c.clientConfig(func(k string) string {
				if k == "BRUME_CONTEXT" {
					return path
				}
				return tt.env[k]
			})
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Address != tt.wantAddr || cfg.Token != tt.token {
				t.Errorf("asks %s with token %q, want %s with %q", cfg.Address, cfg.Token, tt.wantAddr, tt.token)
			}
			if (cfg.CACert != nil) != (cfg.Address == "https://hub:4646") {
				t.Errorf("authority of the context used for %s", cfg.Address)
			}
		})
	}
}
