package compat

import (
	"encoding/json"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// serviceJob is a service that says something in every block that is built.
func serviceJob(id string) *public.Job {
	return &public.Job{
		ID: new(id), Name: new(id + " by name"), Type: new("service"), Priority: new(70), Datacenters: []string{"dc*"},
		Constraints: []*public.Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "linux"}},
		Meta:        map[string]string{"owner": "ops", "html": "<a&b>"},
		Update:      &public.UpdateStrategy{MaxParallel: new(2), MinHealthyTime: new(20 * time.Millisecond)},
		Reschedule:  &public.ReschedulePolicy{Delay: new(7 * time.Second), DelayFunction: new("fibonacci"), MaxDelay: new(90 * time.Second)},
		TaskGroups: []*public.TaskGroup{{
			Name: new("g"), Count: new(2), ShutdownDelay: new(time.Duration(0)),
			Meta:          map[string]string{"group": "meta"},
			RestartPolicy: &public.RestartPolicy{Attempts: new(5), Interval: new(10 * time.Minute), Delay: new(time.Second), Mode: new("delay")},
			Networks: []*public.NetworkResource{{
				Mode:          "host",
				ReservedPorts: []public.Port{{Label: "fixed", Value: 31999}},
				DynamicPorts:  []public.Port{{Label: "http", To: 8080}},
			}},
			Services: []*public.Service{{
				Name: id, PortLabel: "http", Provider: "nomad", Tags: []string{"a", "b=c"}, Meta: map[string]string{"k": "v"},
				Checks: []public.ServiceCheck{{Name: "alive", Type: "http", Path: "/", Interval: 10 * time.Second, Timeout: 2 * time.Second}},
			}},
			Tasks: []*public.Task{{
				Name: "main", Driver: "raw_exec", User: "nobody", Leader: true,
				Config:      map[string]any{"command": "/bin/sleep", "args": []any{"3600"}, "nested": map[string]any{"n": 1.5, "b": true}},
				Env:         map[string]string{"A": "${NOMAD_PORT_http}", "EMPTY": ""},
				Meta:        map[string]string{"task": "meta"},
				Constraints: []*public.Constraint{{LTarget: "${attr.cpu.numcores}", Operand: ">=", RTarget: "1"}},
				Resources:   &public.Resources{CPU: new(20), MemoryMB: new(16)},
				KillTimeout: new(3 * time.Second), KillSignal: "SIGINT", ShutdownDelay: time.Second,
				LogConfig: &public.LogConfig{MaxFiles: new(2), MaxFileSizeMB: new(1)},
			}},
		}},
	}
}

// batchJob is a batch job that leaves nearly all to the defaults.
func batchJob(id, script string) *public.Job {
	return &public.Job{
		ID: new(id), Type: new("batch"), Region: new("global"), Namespace: new("default"),
		TaskGroups: []*public.TaskGroup{{
			Name: new("g"),
			Tasks: []*public.Task{{
				Name: "main", Driver: "raw_exec", Config: map[string]any{"command": "/bin/sh", "args": []any{"-c", script}},
			}},
		}},
	}
}

// difference is where a job that is read differs from the job that was submitted, made canonical by the public client.
type difference struct {
	field, why string
	apply      func(*public.Job)
}

func groups(f func(*public.TaskGroup)) func(*public.Job) {
	return func(j *public.Job) {
		for _, g := range j.TaskGroups {
			f(g)
		}
	}
}

func tasks(f func(*public.Task)) func(*public.Job) {
	return groups(func(g *public.TaskGroup) {
		for _, t := range g.Tasks {
			f(t)
		}
	})
}

// copyOf is a deep copy, through JSON as the wire makes it.
func copyOf[T any](t *testing.T, v T) T {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// served is how a job is read that was submitted and registered once: canonical, the differences applied, with the
// indexes of the reply. What changes as the job goes on is checked in got and taken from it.
func served(t *testing.T, r *registered, got *public.Job) *public.Job {
	t.Helper()
	want := copyOf(t, r.job)
	modes := addressModes(want)
	want.Canonicalize()
	setAddressModes(want, modes) // kept as written: services are not registered yet
	for _, d := range differences {
		d.apply(want)
	}
	want.CreateIndex, want.JobModifyIndex = &r.reply.JobModifyIndex, &r.reply.JobModifyIndex
	want.ModifyIndex = new(since(t, "ModifyIndex", *got.ModifyIndex, r.reply.JobModifyIndex))
	if at := time.Unix(0, *got.SubmitTime); time.Since(at) > patience*2 || time.Since(at) < 0 {
		t.Errorf("submitted at %s, want just now", at)
	}
	want.SubmitTime, want.Stable = got.SubmitTime, &r.stable
	switch *got.Status {
	case "pending", "running", "dead":
		want.Status = got.Status
	default:
		t.Errorf("status %q, want pending, running or dead", *got.Status)
	}
	return want
}

// differences of what is served from what the public client would make of the same job. Nor does the hub add, as others
// do, a default identity to tasks or a constraint for services.
var differences = []difference{
	{"Job.Datacenters", "the hub fills the default", func(j *public.Job) {
		if j.Datacenters == nil {
			j.Datacenters = []string{"*"}
		}
	}},
	{"Job.NodePool", "the hub fills the default", func(j *public.Job) {
		if *j.NodePool == "" {
			j.NodePool = new("default")
		}
	}},
	{"Job.Reschedule", "the hub completes the block", func(j *public.Job) { j.Reschedule.Canonicalize(*j.Type) }},
	{"Job.ConsulNamespace, VaultNamespace, NomadTokenID", "there is nothing behind them", func(j *public.Job) {
		j.ConsulNamespace, j.VaultNamespace, j.NomadTokenID = nil, nil, nil
	}},
	{"TaskGroup.ShutdownDelay", "no delay is a delay of zero", groups(func(g *public.TaskGroup) {
		if g.ShutdownDelay == nil {
			g.ShutdownDelay = new(time.Duration(0))
		}
	})},
	{"TaskGroup.Migrate", "draining is not built", groups(func(g *public.TaskGroup) { g.Migrate = nil })},
	{"RestartPolicy.RenderTemplates", "templates are not built", func(j *public.Job) {
		groups(func(g *public.TaskGroup) { g.RestartPolicy.RenderTemplates = nil })(j)
		tasks(func(k *public.Task) { k.RestartPolicy.RenderTemplates = nil })(j)
	}},
	{"Resources.MemoryMaxMB, DiskMB", "none is zero", tasks(func(k *public.Task) {
		k.Resources.MemoryMaxMB, k.Resources.DiskMB = new(0), new(0)
	})},
	{"Service.OnUpdate, Cluster, ServiceCheck.OnUpdate", "checks and Consul clusters are not built", services(func(s *public.Service) {
		s.OnUpdate, s.Cluster = "", ""
		for i := range s.Checks {
			s.Checks[i].OnUpdate = ""
		}
	})},
}

func addressModes(j *public.Job) (modes []string) {
	services(func(s *public.Service) { modes = append(modes, s.AddressMode) })(j)
	return modes
}

func setAddressModes(j *public.Job, modes []string) {
	services(func(s *public.Service) { s.AddressMode, modes = modes[0], modes[1:] })(j)
}

func services(f func(*public.Service)) func(*public.Job) {
	return func(j *public.Job) {
		groups(func(g *public.TaskGroup) {
			for _, s := range g.Services {
				f(s)
			}
		})(j)
		tasks(func(k *public.Task) {
			for _, s := range k.Services {
				f(s)
			}
		})(j)
	}
}

// A job is read as it was submitted, but for the differences listed.
func TestJobIsReadAsSubmitted(t *testing.T) {
	t.Parallel()
	c := hub(t)
	canonical := serviceJob("canonical")
	canonical.Canonicalize()
	for _, job := range []*public.Job{serviceJob("as-written"), canonical, batchJob("batch", "true"), batchJob("a/b%d?", "true")} {
		t.Run(*job.ID, func(t *testing.T) {
			c.t = t
			r := &registered{job: job, reply: c.register(job)}
			got, _, err := c.Jobs().Info(*job.ID, nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(served(t, r, got), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			again, _, err := c.Jobs().Register(got, nil)
			if err != nil {
				t.Fatal(err)
			}
			if again.JobModifyIndex != r.reply.JobModifyIndex {
				t.Errorf("what was read was registered as a new version, at %d, want %d", again.JobModifyIndex, r.reply.JobModifyIndex)
			}
		})
	}
}
