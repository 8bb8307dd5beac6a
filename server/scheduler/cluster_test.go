package scheduler

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/brumehq/brume/api"
)

// start is when every test begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newNode returns a ready node with 4,000 MHz, 8,192 MiB of memory and 100 GiB of disk on which raw_exec works.
func newNode(ordinal uint32, change ...func(*api.Node)) *api.Node {
	n := &api.Node{
		ID:                    fmt.Sprintf("00000000-0000-8000-8000-%012d", ordinal),
		Name:                  fmt.Sprintf("n%d", ordinal),
		Ordinal:               ordinal,
		Datacenter:            "dc1",
		NodePool:              "default",
		Status:                api.NodeStatusReady,
		SchedulingEligibility: api.NodeEligible,
		Attributes:            map[string]string{"kernel.name": "linux", "cpu.arch": "amd64", "unique.hostname": fmt.Sprint("host", ordinal)},
		Meta:                  map[string]string{},
		Drivers:               map[string]*api.DriverStatus{"raw_exec": {Detected: true, Healthy: true}},
	}
	n.NodeResources.Cpu.CpuShares = 4000
	n.NodeResources.Memory.MemoryMB = 8192
	n.NodeResources.Disk.DiskMB = 100 << 10
	for _, c := range change {
		c(n)
	}
	n.ComputedClass = n.Class()
	return n
}

// newJob returns a job "web" with one group "api" of one raw_exec task (100 MHz, 300 MiB, 300 MiB of disk).
func newJob(jobType string, count int, change ...func(*api.Job, *api.Group)) *api.Job {
	j := api.NewJob(jobType)
	j.ID, j.Name, j.CreateIndex = "web", "web", 1
	g := j.NewGroup()
	g.Name, g.Count = "api", count
	task := g.NewTask()
	task.Name, task.Driver = "main", "raw_exec"
	task.Config = map[string]any{"command": "sleep"}
	g.Tasks = []*api.Task{task}
	j.TaskGroups = []*api.Group{g}
	for _, c := range change {
		c(j, g)
	}
	return j
}

// nextVersion returns a copy of j with a change, registered after it.
func nextVersion(j *api.Job, change func(*api.Job, *api.Group)) *api.Job {
	next := *j
	g := *j.TaskGroups[0]
	task := *g.Tasks[0]
	g.Tasks = []*api.Task{&task}
	next.TaskGroups = []*api.Group{&g}
	next.Version++
	change(&next, &g)
	return &next
}

func command(s string) func(*api.Job, *api.Group) {
	return func(_ *api.Job, g *api.Group) { g.Tasks[0].Config = map[string]any{"command": s} }
}

// tester is a test or a property's run.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// cluster plays the part of the hub around Schedule: it keeps the allocations, commits plans to them and tells the view
// what becomes of them.
type cluster struct {
	t       tester
	view    *View
	job     *api.Job
	allocs  []Alloc
	blocked *api.Evaluation
	now     time.Time
	seq     uint64
	trigger string
	evalID  string
}

func newCluster(t tester, job *api.Job, nodes ...*api.Node) *cluster {
	c := &cluster{t: t, view: NewView(), job: job, now: start, trigger: api.EvalTriggerJobRegister}
	for _, n := range nodes {
		c.view.PutNode(n)
	}
	return c
}

func nodes(n int, change ...func(*api.Node)) []*api.Node {
	all := make([]*api.Node, n)
	for i := range all {
		all[i] = newNode(uint32(i+1), change...)
	}
	return all
}

func (c *cluster) request() Request {
	c.seq++
	req := Request{
		Eval: &api.Evaluation{
			ID: c.evalID, Namespace: "default", JobID: "web", Type: "service", Priority: 50, TriggeredBy: c.trigger,
		},
		Job: c.job, Allocs: c.allocs, Blocked: c.blocked, Now: c.now,
	}
	if req.Eval.ID == "" {
		req.Eval.ID = fmt.Sprintf("eeeeeeee-0000-4000-8000-%012d", c.seq)
	}
	binary.LittleEndian.PutUint64(req.Seed[:], c.seq)
	return req
}

// schedule makes a plan and commits it.
func (c *cluster) schedule() *Plan {
	c.t.Helper()
	req := c.request()
	plan := Schedule(c.view, req)
	c.commit(plan)
	return plan
}

func (c *cluster) commit(plan *Plan) {
	for _, s := range plan.Stop {
		a := c.alloc(s.ID)
		a.DesiredStatus = api.AllocDesiredStop
		if s.ClientStatus != "" {
			c.end(a, s.ClientStatus)
		}
	}
	for _, id := range plan.InPlace {
		c.alloc(id).Job = c.job
	}
	for _, w := range plan.Wait {
		c.alloc(w.ID).FollowUp = w.FollowUp
	}
	for _, p := range plan.Place {
		c.allocs = append(c.allocs, Alloc{
			ID: p.ID, Group: p.Group, Index: p.Index, Node: p.Node, Job: c.job, Ports: p.Ports, Tracker: p.Tracker,
			DesiredStatus: api.AllocDesiredRun, ClientStatus: api.AllocClientPending, CreateTime: c.now.UnixNano(),
		})
	}
	if plan.Blocked != nil {
		c.blocked = plan.Blocked
	}
	if plan.Cancelled != nil {
		c.blocked = nil
	}
}

func (c *cluster) alloc(id ID) *Alloc {
	c.t.Helper()
	for i := range c.allocs {
		if c.allocs[i].ID == id {
			return &c.allocs[i]
		}
	}
	c.t.Fatalf("no allocation %s", id)
	return nil
}

// running returns the allocations that are wanted and not terminal, and names of them sorted as they were placed.
func (c *cluster) running() []*Alloc {
	var live []*Alloc
	for i := range c.allocs {
		if a := &c.allocs[i]; a.DesiredStatus == api.AllocDesiredRun && !a.terminal() {
			live = append(live, a)
		}
	}
	return live
}

// named returns the wanted, not terminal allocation with an index.
func (c *cluster) named(index int) *Alloc {
	c.t.Helper()
	for _, a := range c.running() {
		if a.Index == index {
			return a
		}
	}
	c.t.Fatalf("no allocation with index %d", index)
	return nil
}

// end makes an allocation terminal, as its node reports it.
func (c *cluster) end(a *Alloc, status string) {
	if a.terminal() {
		return
	}
	a.ClientStatus, a.FinishedAt = status, c.now.UnixNano()
	c.view.Release(a.Node, UsageOf(a.Job.Group(a.Group), a.Ports))
}

// settle lets agents act: what is wanted runs and is healthy, what is not wanted has stopped.
func (c *cluster) settle() {
	yes := true
	for i := range c.allocs {
		a := &c.allocs[i]
		switch {
		case a.terminal():
		case a.DesiredStatus != api.AllocDesiredRun:
			c.end(a, api.AllocClientComplete)
		default:
			a.ClientStatus, a.Healthy = api.AllocClientRunning, &yes
		}
	}
}
