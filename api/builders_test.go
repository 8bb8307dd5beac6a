package api

import "testing"

// Tests of this package cannot use apitest, which imports it, and the codec generator wants one package per directory.

func testJob(t testing.TB, opts ...func(*Job)) *Job {
	t.Helper()
	j := NewJob(JobTypeService)
	j.ID = "web"
	g := j.NewGroup()
	g.Name = "api"
	g.Tasks = []*Task{testTask(g, "server")}
	j.TaskGroups = []*Group{g}
	for _, opt := range opts {
		opt(j)
	}
	j.Complete()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	return j
}

func testTask(g *Group, name string) *Task {
	task := g.NewTask()
	task.Name, task.Driver = name, "fake"
	return task
}

func withID(id string) func(*Job) { return func(j *Job) { j.ID, j.Name = id, id } }

func asking(cpu, memory int) func(*Job) {
	return func(j *Job) {
		r := &j.TaskGroups[0].Tasks[0].Resources
		r.CPU, r.MemoryMB = cpu, memory
	}
}

func withPort(label string) func(*Job) {
	return func(j *Job) {
		n := testNetwork(j)
		n.DynamicPorts = append(n.DynamicPorts, Port{Label: label})
	}
}

func withStaticPort(label string, value int) func(*Job) {
	return func(j *Job) {
		n := testNetwork(j)
		n.ReservedPorts = append(n.ReservedPorts, Port{Label: label, Value: value})
	}
}

func testNetwork(j *Job) *Network {
	g := j.TaskGroups[0]
	if len(g.Networks) == 0 {
		g.Networks = []*Network{{}}
	}
	return g.Networks[0]
}
