// Package apitest builds valid values of the model for tests, one builder a noun: what a test does not say is a
// sensible default. Ids are derived from the test's name, so that runs repeat.
package apitest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"testing"

	"github.com/brumehq/brume/api"
)

// JobID, and the names of the one group and the one task that Job makes.
const (
	JobID     = "web"
	GroupName = "api"
	TaskName  = "server"
)

// Job returns a valid service job of one group with one task of the fake driver, after the options are applied to it.
// It fails the test if they make it invalid.
func Job(t testing.TB, opts ...func(*api.Job)) *api.Job {
	t.Helper()
	return job(t, api.JobTypeService, opts)
}

// BatchJob is Job with the type batch.
func BatchJob(t testing.TB, opts ...func(*api.Job)) *api.Job {
	t.Helper()
	return job(t, api.JobTypeBatch, opts)
}

func job(t testing.TB, kind string, opts []func(*api.Job)) *api.Job {
	t.Helper()
	j := api.NewJob(kind)
	j.ID = JobID
	g := j.NewGroup()
	g.Name = GroupName
	g.Tasks = []*api.Task{NewTask(g, TaskName)}
	j.TaskGroups = []*api.Group{g}
	for _, opt := range opts {
		opt(j)
	}
	j.Complete()
	if err := j.Validate(); err != nil {
		t.Fatalf("job: %v", err)
	}
	return j
}

// NewTask returns a task of the fake driver that runs until it is stopped. It is not added to the group.
func NewTask(g *api.Group, name string) *api.Task {
	task := g.NewTask()
	task.Name = name
	task.Driver = "fake"
	task.Config = map[string]any{"run_for": "24h"}
	return task
}

// ID names the job.
func ID(id string) func(*api.Job) { return func(j *api.Job) { j.ID, j.Name = id, id } }

// Count sets the count of the job's first group.
func Count(n int) func(*api.Job) { return func(j *api.Job) { j.TaskGroups[0].Count = n } }

// Priority sets the job's priority.
func Priority(n int) func(*api.Job) { return func(j *api.Job) { j.Priority = n } }

// Constrain adds a constraint to the job.
func Constrain(left, operand, right string) func(*api.Job) {
	return func(j *api.Job) {
		j.Constraints = append(j.Constraints, api.Constraint{LTarget: left, Operand: operand, RTarget: right})
	}
}

// Ask sets what the first task asks for, in MHz and MB.
func Ask(cpu, memory int) func(*api.Job) {
	return func(j *api.Job) {
		r := &j.TaskGroups[0].Tasks[0].Resources
		r.CPU, r.MemoryMB = cpu, memory
	}
}

// Ports gives the first group dynamic ports of these labels.
func Ports(labels ...string) func(*api.Job) {
	return func(j *api.Job) {
		n := network(j)
		for _, l := range labels {
			n.DynamicPorts = append(n.DynamicPorts, api.Port{Label: l})
		}
	}
}

// StaticPort gives the first group a port of this value.
func StaticPort(label string, value int) func(*api.Job) {
	return func(j *api.Job) {
		n := network(j)
		n.ReservedPorts = append(n.ReservedPorts, api.Port{Label: label, Value: value})
	}
}

func network(j *api.Job) *api.Network {
	g := j.TaskGroups[0]
	if len(g.Networks) == 0 {
		g.Networks = []*api.Network{{}}
	}
	return g.Networks[0]
}

// Node returns a ready, eligible Linux node of 4,000 MHz and 8 GiB on which the fake and raw_exec drivers are healthy.
func Node(t testing.TB, opts ...func(*api.Node)) *api.Node {
	t.Helper()
	n := &api.Node{
		ID:         uuid(t.Name() + "/node"),
		Name:       "node",
		Datacenter: api.DefaultDatacenter,
		NodePool:   api.DefaultNodePool,
		Attributes: map[string]string{
			"kernel.name": "linux", "cpu.arch": "amd64", "cpu.numcores": "4", "os.name": "debian",
			"driver.fake": "1", "driver.raw_exec": "1", "nomad.version": api.CompatVersion,
			"unique.hostname": "node",
		},
		Meta: map[string]string{},
		Drivers: map[string]*api.DriverStatus{
			"fake":     {Detected: true, Healthy: true},
			"raw_exec": {Detected: true, Healthy: true},
		},
		NodeResources: api.NodeResources{
			Cpu:            api.NodeCPU{CpuShares: 4000, TotalCpuCores: 4},
			Memory:         api.NodeMemory{MemoryMB: 8192},
			Disk:           api.NodeDisk{DiskMB: 100 * 1024},
			Networks:       []*api.NodeNetwork{{Device: "lo", IP: "127.0.0.1", CIDR: "127.0.0.1/8", Mode: "host"}},
			MinDynamicPort: api.MinDynamicPort,
			MaxDynamicPort: api.MaxDynamicPort,
		},
		Status:                api.NodeStatusReady,
		SchedulingEligibility: api.NodeEligible,
		Version:               api.CompatVersion,
	}
	for _, opt := range opts {
		opt(n)
	}
	n.ComputedClass = n.Class()
	return n
}

// Nodes returns n nodes that differ in id and name: node-0, node-1, …
func Nodes(t testing.TB, n int, opts ...func(*api.Node)) []*api.Node {
	t.Helper()
	nodes := make([]*api.Node, n)
	for i := range nodes {
		nodes[i] = Node(t, append([]func(*api.Node){func(node *api.Node) {
			node.ID = uuid(fmt.Sprintf("%s/node/%d", t.Name(), i))
			node.Name = fmt.Sprintf("node-%d", i)
			node.Attributes["unique.hostname"] = node.Name
		}}, opts...)...)
	}
	return nodes
}

// Capacity sets what a node has, in MHz and MB.
func Capacity(cpu, memory int64) func(*api.Node) {
	return func(n *api.Node) {
		n.NodeResources.Cpu.CpuShares, n.NodeResources.Memory.MemoryMB = cpu, memory
	}
}

// Attributes adds attributes to a node.
func Attributes(attrs map[string]string) func(*api.Node) {
	return func(n *api.Node) { maps.Copy(n.Attributes, attrs) }
}

// Alloc returns the first instance of the job's first group, placed on the node and running.
func Alloc(t testing.TB, j *api.Job, n *api.Node, opts ...func(*api.Allocation)) *api.Allocation {
	t.Helper()
	g := j.TaskGroups[0]
	a := &api.Allocation{
		ID:            uuid(t.Name() + "/alloc/" + j.ID),
		EvalID:        uuid(t.Name() + "/eval/" + j.ID),
		Namespace:     j.Namespace,
		Name:          fmt.Sprintf("%s.%s[0]", j.ID, g.Name),
		NodeID:        n.ID,
		NodeName:      n.Name,
		JobID:         j.ID,
		Job:           j,
		TaskGroup:     g.Name,
		DesiredStatus: api.AllocDesiredRun,
		ClientStatus:  api.AllocClientRunning,
		AllocatedResources: &api.AllocatedResources{
			Tasks:  make(map[string]*api.AllocatedTaskResources),
			Shared: api.AllocatedSharedResources{DiskMB: int64(g.EphemeralDisk.SizeMB)},
		},
	}
	for _, task := range g.Tasks {
		a.AllocatedResources.Tasks[task.Name] = &api.AllocatedTaskResources{
			Cpu:    api.AllocatedCPU{CpuShares: int64(task.Resources.CPU)},
			Memory: api.AllocatedMemory{MemoryMB: int64(task.Resources.MemoryMB)},
		}
	}
	for _, opt := range opts {
		opt(a)
	}
	return a
}

// Eval returns a pending evaluation of the job, as its registration makes one.
func Eval(t testing.TB, j *api.Job, opts ...func(*api.Evaluation)) *api.Evaluation {
	t.Helper()
	e := &api.Evaluation{
		ID:          uuid(t.Name() + "/eval/" + j.ID),
		Namespace:   j.Namespace,
		Priority:    j.Priority,
		Type:        j.Type,
		TriggeredBy: api.EvalTriggerJobRegister,
		JobID:       j.ID,
		Status:      api.EvalStatusPending,
	}
	for _, opt := range opts {
		opt(e)
	}
	return e
}

// uuid derives a version-8 UUID from a text.
func uuid(text string) string {
	h := fnv.New128a()
	h.Write([]byte(text))
	b := h.Sum(nil)
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
