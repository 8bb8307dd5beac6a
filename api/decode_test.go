package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The JSON files are what the public Go client sends after Job.Canonicalize: all fields, null or at its defaults.
func TestJobOfPublicClientIsAccepted(t *testing.T) {
	for name, want := range map[string]func(*Job){
		"service": func(j *Job) {
			j.ID, j.Name, j.Datacenters = "web", "web", []string{"*"}
			j.Constraints = []Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "linux"}}
			g := j.NewGroup()
			g.Name, g.Count = "web", 3
			g.Networks = []*Network{{
				ReservedPorts: []Port{{Label: "admin", Value: 9000}}, DynamicPorts: []Port{{Label: "http"}},
			}}
			g.Services = []*Service{{
				Name: "web", PortLabel: "http", Provider: "consul", AddressMode: "auto",
				Checks: []ServiceCheck{{Type: "http", Path: "/", Interval: 10 * time.Second, Timeout: 2 * time.Second}},
			}}
			task := g.NewTask()
			task.Name, task.Driver = "server", "raw_exec"
			task.Config = map[string]any{"command": "/bin/web", "args": []any{"-v"}}
			task.Env = map[string]string{"A": "b"}
			g.Tasks, j.TaskGroups = []*Task{task}, []*Group{g}
		},
		"batch": func(j *Job) {
			j.ID, j.Name, j.Datacenters, j.Priority = "work", "work", []string{"dc1"}, 20
			g := j.NewGroup()
			g.Name = "work"
			task := g.NewTask()
			task.Name, task.Driver = "once", "raw_exec"
			g.Tasks, j.TaskGroups = []*Task{task}, []*Group{g}
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/client-" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var req JobRegisterRequest
			if err := json.Unmarshal(raw, &req); err != nil {
				t.Fatal(err)
			}
			job := NewJob(name)
			want(job)
			if diff := cmp.Diff(job, req.Job); diff != "" {
				t.Errorf("decoded job (-want +got):\n%s", diff)
			}
			if err := req.Job.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAbsentAndNullAreDefaultsAndZeroStaysZero(t *testing.T) {
	for rule, row := range map[string]struct {
		json string
		want func(*Job)
	}{
		"nothing at all": {`{}`, func(*Job) {}},
		"null scalars":   {`{"Type":null,"Priority":null,"Datacenters":null,"Update":null}`, func(*Job) {}},
		"zeros":          {`{"Priority":0,"Datacenters":[]}`, func(j *Job) { j.Priority, j.Datacenters = 0, []string{} }},
		"keys in any letter case": {`{"id":"a","PRIORITY":7,"datacenters":["x"]}`, func(j *Job) {
			j.ID, j.Name, j.Priority, j.Datacenters = "a", "a", 7, []string{"x"}
		}},
		"escaped keys":             {`{"\u0049D":"a"}`, func(j *Job) { j.ID, j.Name = "a", "a" }},
		"unknown keys are ignored": {`{"Colour":"red","TaskGroups":[]}`, func(*Job) {}},
		"empty means the default where there is no other meaning": {
			`{"Namespace":"","Region":"","NodePool":"","Type":""}`, func(*Job) {},
		},
		"a type after what depends on it": {
			`{"TaskGroups":[{"Name":"g","Tasks":[{"Name":"t"}]}],"Type":"batch"}`, func(j *Job) {
				*j = *NewJob("batch")
				g := j.NewGroup()
				g.Name = "g"
				task := g.NewTask()
				task.Name = "t"
				g.Tasks, j.TaskGroups = []*Task{task}, []*Group{g}
			},
		},
		"an update of zeros in a batch job": {`{"Type":"batch","Update":{"MaxParallel":0,"HealthCheck":""}}`, func(j *Job) {
			*j = *NewJob("batch")
		}},
		"children inherit whatever the order": {
			`{"TaskGroups":[{"Tasks":[{"RestartPolicy":{"Delay":1}}],"RestartPolicy":{"Attempts":0},
			   "Update":{"MinHealthyTime":0}, "ReschedulePolicy":{"Unlimited":false}}],
			  "Update":{"MaxParallel":4},"Reschedule":{"Delay":60000000000}}`, func(j *Job) {
				j.Update.MaxParallel = 4
				j.Reschedule = NewReschedule("service")
				j.Reschedule.Delay = time.Minute
				g := j.NewGroup()
				g.RestartPolicy.Attempts = 0
				g.Update.MinHealthyTime = 0
				g.ReschedulePolicy.Unlimited = false
				task := g.NewTask()
				task.RestartPolicy.Delay = 1
				g.Tasks, j.TaskGroups = []*Task{task}, []*Group{g}
			},
		},
		"operators in one spelling": {`{"Constraints":[{"Operand":"is"},{"Operand":"not"},{},{"Operand":"=="}]}`, func(j *Job) {
			j.Constraints = []Constraint{{Operand: "="}, {Operand: "!="}, {Operand: "="}, {Operand: "="}}
		}},
	} {
		t.Run(rule, func(t *testing.T) {
			want := NewJob("")
			row.want(want)
			got := &Job{ID: "stale", Priority: 99}
			if err := json.Unmarshal([]byte(row.json), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Unmarshal(%s) (-want +got):\n%s", row.json, diff)
			}
		})
	}
}

func TestDriverConfigKeepsItsValues(t *testing.T) {
	const text = `{"a":1,"b":2.5,"c":9007199254740993,"d":1e3,"e":[1,{"f":null}],"g":true,"h":"1"}`
	job, err := DecodeJob([]byte(`{"TaskGroups":[{"Tasks":[{"Config":` + text + `}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": int64(1), "b": 2.5, "c": int64(9007199254740993), "d": int64(1000),
		"e": []any{int64(1), map[string]any{"f": nil}}, "g": true, "h": "1",
	}
	if diff := cmp.Diff(want, job.TaskGroups[0].Tasks[0].Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// group wraps a group's members, task a task's, into a job.
func group(members string) string { return `{"TaskGroups":[{"Name":"web",` + members + `}]}` }
func task(members string) string  { return group(`"Tasks":[{"Name":"nginx",` + members + `}]`) }

func TestUnbuiltFieldsAreRefusedUnlessTheyChangeNothing(t *testing.T) {
	wrap := map[reflect.Type]func(string) string{
		reflect.TypeFor[Job]():       func(m string) string { return `{` + m + `}` },
		reflect.TypeFor[Group]():     group,
		reflect.TypeFor[Task]():      task,
		reflect.TypeFor[Resources](): func(m string) string { return task(`"Resources":{` + m + `}`) },
		reflect.TypeFor[Network]():   func(m string) string { return group(`"Networks":[{` + m + `}]`) },
		reflect.TypeFor[Port]():      func(m string) string { return group(`"Networks":[{"DynamicPorts":[{` + m + `}]}]`) },
		reflect.TypeFor[Restart]():   func(m string) string { return group(`"RestartPolicy":{` + m + `}`) },
		reflect.TypeFor[Update]():    func(m string) string { return `{"Update":{` + m + `}}` },
		reflect.TypeFor[Service]():   func(m string) string { return group(`"Services":[{` + m + `}]`) },
		reflect.TypeFor[ServiceCheck](): func(m string) string {
			return group(`"Services":[{"Checks":[{` + m + `}]}]`)
		},
	}
	for typ, in := range wrap {
		fields := UnbuiltIn(typ)
		if len(fields) == 0 {
			t.Errorf("%v has no unbuilt fields: drop it from this test", typ)
		}
		for _, u := range fields {
			if u.Field == "" {
				continue
			}
			t.Run(typ.Name()+"."+u.Field, func(t *testing.T) {
				for _, v := range []string{`"x"`, `{"X":1}`, `[0]`, `7`, `true`} {
					_, err := DecodeJob([]byte(in(fmt.Sprintf("%q:%s", u.Field, v))))
					if !errors.Is(err, ErrInvalid) || !strings.HasSuffix(err.Error(), u.Field+": not supported yet") {
						t.Errorf("%s %s: %v, want \"not supported yet\"", u.Field, v, err)
					}
				}
				for _, v := range []string{`null`, `""`, `0`, `false`, `[]`, `{}`, `{"X":null}`, u.Default} {
					if v == "" {
						continue
					}
					if _, err := DecodeJob([]byte(in(fmt.Sprintf("%q:%s", u.Field, v)))); err != nil {
						t.Errorf("%s %s: %v, want it accepted", u.Field, v, err)
					}
				}
			})
		}
	}
}

func TestAnAgentReadsTheJobOfANewerHub(t *testing.T) {
	var job Job
	if err := json.Unmarshal([]byte(`{"ID":"a","Affinities":[{"LTarget":"x"}]}`), &job); err != nil {
		t.Errorf("Unmarshal: %v, want unbuilt fields ignored", err)
	}
}

func TestDecodingErrorsNameTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                         "job: want an object",
		`{`:                          "job: not JSON: unexpected end of JSON input",
		`{"Priority":"high"}`:        "Priority: want a whole number, not string",
		`{"Type":5}`:                 "Type: want a string, not number",
		`{"Priority":1.5}`:           "Priority: want a whole number, not number 1.5",
		`{"Datacenters":"dc1"}`:      "Datacenters: want a list, not string",
		`{"TaskGroups":{}}`:          "TaskGroups: want a list",
		`{"TaskGroups":[7]}`:         "TaskGroups[0]: want an object",
		group(`"Count":"3"`):         `group "web": Count: want a whole number, not string`,
		task(`"KillTimeout":"5s"`):   `group "web" task "nginx": KillTimeout: want nanoseconds as a whole number, not string`,
		task(`"Config":{"n":1e999}`): `group "web" task "nginx": Config.n: number 1e999: out of range`,
		task(`"Template":1,"Templates":[{}],"Env":[]`): `group "web" task "nginx": Templates: not supported yet
group "web" task "nginx": Env: want an object, not array`,
		group(`"Networks":[{},{"DNS":{"Servers":["1.1.1.1"]}}]`): `group "web": Networks[1].DNS: not supported yet`,
	} {
		_, err := DecodeJob([]byte(text))
		if err == nil || err.Error() != want || !errors.Is(err, ErrInvalid) {
			t.Errorf("DecodeJob(%s):\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestRegisterRequestDecodesItsJobStrictly(t *testing.T) {
	var req JobRegisterRequest
	err := json.Unmarshal([]byte(`{"EnforceIndex":true,"JobModifyIndex":7,"Job":{"ID":"a"}}`), &req)
	if err != nil || req.Job == nil || req.Job.Priority != DefaultPriority || !req.EnforceIndex || req.JobModifyIndex != 7 {
		t.Errorf("request %+v, %v", req, err)
	}
	if err := json.Unmarshal([]byte(`{"Job":{"Periodic":{"Enabled":true}}}`), &req); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unbuilt field: %v, want ErrInvalid", err)
	}
	req = JobRegisterRequest{Job: NewJob("")}
	if err := json.Unmarshal([]byte(`{"ID":"a"}`), &req); err != nil || req.Job != nil {
		t.Errorf("without a job: %+v, %v; want none", req.Job, err)
	}
}

// jobs generates valid jobs.
func jobs() *rapid.Generator[*Job] {
	return rapid.Custom(func(t *rapid.T) *Job {
		j := NewJob(rapid.SampledFrom([]string{"service", "batch"}).Draw(t, "type"))
		j.ID = rapid.StringMatching(`[a-z][a-z0-9-]{0,20}`).Draw(t, "id")
		j.Priority = rapid.IntRange(1, 100).Draw(t, "priority")
		j.Meta = rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "meta")
		for i := range rapid.IntRange(1, 3).Draw(t, "groups") {
			g := j.NewGroup()
			g.Name = fmt.Sprintf("g%d", i)
			g.Count = rapid.IntRange(0, 100).Draw(t, "count")
			if rapid.Bool().Draw(t, "network") {
				g.Networks = []*Network{{
					ReservedPorts: []Port{{Label: "a", Value: rapid.IntRange(1, 65535).Draw(t, "static")}},
					DynamicPorts:  []Port{{Label: "b", To: rapid.IntRange(0, 65535).Draw(t, "to")}},
				}}
				g.Services = []*Service{{PortLabel: "a", Tags: rapid.SliceOf(rapid.String()).Draw(t, "tags")}}
			}
			task := g.NewTask()
			task.Name, task.Driver = "t", "fake"
			task.Config = rapid.MapOf(rapid.String(), rapid.OneOf(
				rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int64().AsAny(),
				rapid.Float64().Filter(func(f float64) bool { return f != float64(int64(f)) }).AsAny(),
			)).Draw(t, "config")
			task.Env = rapid.MapOf(rapid.StringMatching(`[A-Z_]{1,9}`), rapid.String()).Draw(t, "env")
			task.KillTimeout = time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "kill_timeout"))
			g.Tasks = []*Task{task}
			j.TaskGroups = append(j.TaskGroups, g)
		}
		j.Complete()
		return j
	})
}

func TestJSONRoundTripLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := jobs().Draw(t, "job")
		if err := job.Validate(); err != nil {
			t.Fatalf("generated job: %v", err)
		}
		raw, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeJob(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(job, got); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

func FuzzJobJSON(f *testing.F) {
	for _, name := range []string{"service", "batch"} {
		raw, err := os.ReadFile("testdata/client-" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		var req struct{ Job json.RawMessage }
		if err := json.Unmarshal(raw, &req); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(req.Job))
	}
	for _, s := range []string{`{}`, `null`, `{"ID":"a\u0000"}`, task(`"Config":{"a":[1,2.0,{"b":1e300}]}`), `{"a":"\"}{"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		job, err := DecodeJob(raw)
		if err != nil {
			return
		}
		_ = job.Validate()
		_ = job.Warnings()
		out, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeJob(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(job, again); diff != "" {
			t.Errorf("round trip of %s (-want +got):\n%s", out, diff)
		}
	})
}

func BenchmarkDecodeJob(b *testing.B) {
	raw, err := json.Marshal(testJob(b, withPort("http")))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeJob(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// A few megabytes of "{}," would make gigabytes of groups.
func TestAJobHasABoundedNumberOfBlocks(t *testing.T) {
	tasks := strings.TrimSuffix(strings.Repeat("{},", maxBlocks), ",")
	_, err := DecodeJob([]byte(`{"ID":"a","TaskGroups":[{"Name":"g","Tasks":[` + tasks + `]}]}`))
	want := `group "g": Tasks: a job has at most 20000 blocks`
	if !errors.Is(err, ErrInvalid) || err.Error() != want {
		t.Errorf("error %.200v, want %s", err, want)
	}
}
