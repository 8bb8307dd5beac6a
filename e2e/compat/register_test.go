package compat

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	public "github.com/hashicorp/nomad/api"
)

// A registration that enforces an index is refused unless the job is the one that its author saw.
func TestRegistrationEnforcesIndex(t *testing.T) {
	t.Parallel()
	c := hub(t)
	refusal := func(err error, text string) {
		t.Helper()
		refused(t, err, http.StatusInternalServerError, public.RegisterEnforceIndexErrPrefix+" "+text)
	}
	refusal(fails(c.Jobs().EnforceRegister(nowhere("a"), 7, nil)), "7: job does not exist")
	first, _, err := c.Jobs().EnforceRegister(nowhere("a"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	refusal(fails(c.Jobs().EnforceRegister(nowhere("a"), 0, nil)), "0: job already exists")
	now := strconv.FormatUint(first.JobModifyIndex, 10)
	refusal(fails(c.Jobs().EnforceRegister(nowhere("a"), 1, nil)), "1: job exists with conflicting job modify index: "+now)
	changed := nowhere("a")
	changed.Priority = new(10)
	second, _, err := c.Jobs().EnforceRegister(changed, first.JobModifyIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	if second.JobModifyIndex <= first.JobModifyIndex {
		t.Errorf("job at index %d after %d, want a greater one", second.JobModifyIndex, first.JobModifyIndex)
	}
	refusal(fails(c.Jobs().EnforceRegister(changed, first.JobModifyIndex, nil)),
		now+": job exists with conflicting job modify index: "+strconv.FormatUint(second.JobModifyIndex, 10))
}

// A changed job is a new version, an unchanged one is not, and each registration is evaluated.
func TestRegistrationsMakeVersions(t *testing.T) {
	t.Parallel()
	c := hub(t)
	jobs := []*public.Job{nowhere("a"), nowhere("a"), nowhere("a")}
	jobs[2].Meta["owner"] = "dev"
	var replies []*public.JobRegisterResponse
	for _, j := range jobs {
		replies = append(replies, c.register(j))
	}
	if replies[1].JobModifyIndex != replies[0].JobModifyIndex || replies[2].JobModifyIndex <= replies[1].JobModifyIndex {
		t.Errorf("job at %d, again at %d, changed at %d, want the same, then a greater one",
			replies[0].JobModifyIndex, replies[1].JobModifyIndex, replies[2].JobModifyIndex)
	}
	if replies[0].EvalID == replies[1].EvalID || replies[1].EvalCreateIndex <= replies[0].EvalCreateIndex {
		t.Errorf("evaluations %+v, want one for each registration", replies)
	}
	got, _, _, err := c.Jobs().Versions("a", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []*public.Job{
		served(t, &registered{job: jobs[2], reply: replies[2]}, at(got, 0)), served(t, &registered{job: jobs[0], reply: replies[0]}, at(got, 1)),
	}
	want[0].Version, want[0].CreateIndex = new(uint64(1)), &replies[0].JobModifyIndex
	if d := diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// A registration can keep the counts that are in force, and say how urgent its evaluation is.
func TestRegistrationOptions(t *testing.T) {
	t.Parallel()
	c := hub(t)
	c.register(nowhere("a"))
	job := nowhere("a")
	job.TaskGroups[0].Count, job.Priority = new(9), new(10)
	reply, _, err := c.Jobs().RegisterOpts(job, &public.RegisterOptions{PreserveCounts: true, EvalPriority: 90}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := c.Jobs().Info("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.TaskGroups[0].Count != 2 || *got.Priority != 10 {
		t.Errorf("count %d and priority %d, want 2 and 10", *got.TaskGroups[0].Count, *got.Priority)
	}
	if e := c.eval(reply.EvalID); e.Priority != 90 {
		t.Errorf("evaluation of priority %d, want 90", e.Priority)
	}
	refused(t, fails(c.Jobs().RegisterOpts(job, &public.RegisterOptions{EvalPriority: 101}, nil)), 500,
		"1 error occurred:\n\t* evaluation priority 101: want 1 to 100")
}

// An option that Brume does not do yet is refused rather than ignored, and nothing is done.
func TestUnbuiltOptionsAreRefused(t *testing.T) {
	t.Parallel()
	c := hub(t)
	c.register(nowhere("a"))
	_, before, err := c.Jobs().Info("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	job := nowhere("a")
	job.Priority = new(10)
	refused(t, fails(c.Jobs().RegisterOpts(job, &public.RegisterOptions{PreserveResources: true}, nil)), 501, "PreserveResources: not supported yet")
	const delay = "no_shutdown_delay: not supported yet"
	refused(t, fails(c.Jobs().DeregisterOpts("a", &public.DeregisterOptions{NoShutdownDelay: true}, nil)), 501, delay)
	refused(t, fails(c.Allocations().Stop(&public.Allocation{ID: noID}, &public.QueryOptions{Params: map[string]string{"no_shutdown_delay": "true"}})), 501, delay)
	if _, after, err := c.Jobs().Info("a", nil); err != nil || after.LastIndex != before.LastIndex {
		t.Errorf("job at %+v, error %v, want it as it was at %d", after, err, before.LastIndex)
	}
}

// A job that is deregistered is stopped and remembered, or with purge forgotten; its evaluations stay.
func TestDeregistration(t *testing.T) {
	t.Parallel()
	c := hub(t)
	c.register(nowhere("a"))
	read := func(evalID string) *public.Job {
		t.Helper()
		if e := c.eval(evalID); e.TriggeredBy != "job-deregister" || e.JobID != "a" {
			t.Errorf("evaluation of %q by %q, want of a by job-deregister", e.JobID, e.TriggeredBy)
		}
		job, _, err := c.Jobs().Info("a", nil)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	evalID, meta, err := c.Jobs().DeregisterOpts("a", &public.DeregisterOptions{EvalPriority: 80}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stopped := read(evalID)
	if !*stopped.Stop || *stopped.Status != "dead" || *stopped.ModifyIndex < meta.LastIndex {
		t.Errorf("stop %t, status %s, index %d, want a dead job at %d or later", *stopped.Stop, *stopped.Status, *stopped.ModifyIndex, meta.LastIndex)
	}
	if e := c.eval(evalID); e.Priority != 80 {
		t.Errorf("evaluation of priority %d, want 80", e.Priority)
	}
	c.register(nowhere("a"))
	if job, _, err := c.Jobs().Info("a", nil); err != nil || *job.Stop || *job.Version <= *stopped.Version {
		t.Errorf("registered again: %+v, error %v, want a newer version that is not stopped", job, err)
	}

	if evalID, _, err = c.Jobs().Deregister("a", true, nil); err != nil {
		t.Fatal(err)
	}
	if e := c.eval(evalID); e.JobID != "a" {
		t.Errorf("evaluation %+v, want that of the purged job", e)
	}
	refused(t, fails(c.Jobs().Info("a", nil)), 404, "job not found")
	if jobs, _, err := c.Jobs().List(nil); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs, error %v, want none", len(jobs), err)
	}
	c.register(nowhere("a"))
	if job, _, err := c.Jobs().Info("a", nil); err != nil || *job.Version != 0 {
		t.Errorf("registered after a purge: %+v, error %v, want version 0", job, err)
	}
}

// refusals are jobs that cannot be registered, and what the hub says of them.
var refusals = []struct {
	rule   string
	spoil  func(*public.Job)
	errors []string
}{
	{"no groups", func(j *public.Job) { j.TaskGroups = nil }, []string{"group: a job needs at least one"}},
	{"several faults", func(j *public.Job) {
		j.Priority, j.TaskGroups[0].Tasks[0].Driver = new(101), ""
	}, []string{"priority: must be 1 to 100, not 101", `group "g" task "main": driver: missing`}},
	{"a type that is not built", func(j *public.Job) { j.Type, j.Update = new("system"), nil }, []string{`type: "system": not supported yet`}},
}

// A job that cannot run is refused with all that is wrong with it, in the form of a list that clients know.
func TestInvalidJobsAreRefused(t *testing.T) {
	t.Parallel()
	c := hub(t)
	for _, tt := range refusals {
		t.Run(tt.rule, func(t *testing.T) {
			job := nowhere("a")
			tt.spoil(job)
			text := "1 error occurred:\n"
			if n := len(tt.errors); n > 1 {
				text = strconv.Itoa(n) + " errors occurred:\n"
			}
			for _, e := range tt.errors {
				text += "\t* " + e + "\n"
			}
			got, _, err := c.Jobs().Validate(job, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := &public.JobValidateResponse{DriverConfigValidated: true, ValidationErrors: tt.errors, Error: text, Warnings: got.Warnings}
			if d := diff(want, got); d != "" {
				t.Errorf("validate: -want +got:\n%s", d)
			}
			refused(t, fails(c.Jobs().Register(job, nil)), 500, text[:len(text)-1]) // the client trims
		})
	}
	if jobs, _, err := c.Jobs().List(nil); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs, error %v, want none", len(jobs), err)
	}
}

// What the vocabulary has and Brume does not do yet is refused by name, not ignored.
func TestUnbuiltFieldsAreRefused(t *testing.T) {
	t.Parallel()
	c := hub(t)
	for _, tt := range []struct {
		text string
		ask  func(*public.Job)
	}{
		{"Affinities: not supported yet", func(j *public.Job) { j.AddAffinity(public.NewAffinity("${node.class}", "=", "big", 50)) }},
		{"Periodic: not supported yet", func(j *public.Job) { j.Periodic = &public.PeriodicConfig{Spec: new("@daily")} }},
		{"ParameterizedJob: not supported yet", func(j *public.Job) { j.ParameterizedJob = &public.ParameterizedJobConfig{Payload: "required"} }},
		{`group "g": Volumes: not supported yet`, func(j *public.Job) {
			j.TaskGroups[0].Volumes = map[string]*public.VolumeRequest{"v": {Name: "v", Type: "host"}}
		}},
		{`group "g" task "main": Templates: not supported yet`, func(j *public.Job) {
			j.TaskGroups[0].Tasks[0].Templates = []*public.Template{{EmbeddedTmpl: new("x"), DestPath: new("f")}}
		}},
	} {
		t.Run(tt.text, func(t *testing.T) {
			job := nowhere("a")
			tt.ask(job)
			refused(t, fails(c.Jobs().Register(job, nil)), 400, tt.text)
			refused(t, fails(c.Jobs().Validate(job, nil)), 400, tt.text)
		})
	}
}

// A job file is parsed with values for its variables, and reads no files of the hub.
func TestParse(t *testing.T) {
	t.Parallel()
	c := hub(t)
	for _, canonicalize := range []bool{false, true} {
		got, err := c.Jobs().ParseHCLOpts(&public.JobsParseRequest{JobHCL: parsedHCL, Variables: "count = 4", Canonicalize: canonicalize})
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(parsedJob(t), got); d != "" {
			t.Errorf("canonicalize=%t: -want +got:\n%s", canonicalize, d)
		}
		c.register(got)
	}
	const failed = "Failed to parse job: input.hcl:"
	refusedLike(t, fails(c.Jobs().ParseHCL(parsedHCL, true)), 400, failed+"2,1: ")
	refusedLike(t, fails(c.Jobs().ParseHCL("job {", true)), 400, failed+"1,")
	for _, name := range []string{"file", "filebase64", "fileexists", "fileset", "abspath", "basename", "dirname", "pathexpand"} {
		text := strings.Replace(parsedHCL, `"raw_exec"`, `"${`+name+`("/etc/passwd")}"`, 1)
		refusedLike(t, fails(c.Jobs().ParseHCLOpts(&public.JobsParseRequest{JobHCL: text, Variables: "count = 4"})), 400,
			failed+`9,19: Error in function call: Call to function "`+name+`" failed: `+name+`: files cannot be read here`)
	}
}
