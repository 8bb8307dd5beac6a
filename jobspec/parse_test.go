package jobspec_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/jobspec"
)

// parse parses a file of no surprises.
func parse(t *testing.T, src string, opts jobspec.Options) *api.Job {
	t.Helper()
	job, warnings, err := jobspec.Parse("test.hcl", []byte(src), opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	return job
}

func wholeJob() *api.Job {
	j := api.NewJob("service")
	j.ID, j.Name, j.Priority, j.NodePool = "shop/web", "Shop", 70, "big"
	j.Datacenters = []string{"dc1", "eu-*"}
	j.Meta = map[string]string{"team": "shop"}
	j.Constraints = []api.Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "linux"}}
	j.Update.MaxParallel, j.Update.MinHealthyTime = 2, 0

	g := j.NewGroup()
	g.Name, g.Count, g.ShutdownDelay = "web", 3, 4*time.Second
	g.RestartPolicy = api.Restart{Attempts: 5, Delay: 3 * time.Second, Interval: 10 * time.Minute, Mode: "delay"}
	g.ReschedulePolicy.Delay = time.Minute
	g.Networks = []*api.Network{{
		Mode:          "host",
		ReservedPorts: []api.Port{{Label: "admin", Value: 9000}},
		DynamicPorts:  []api.Port{{Label: "http", To: 8080}},
	}}
	g.Services = []*api.Service{{
		Name: "Shop-web", PortLabel: "http", Provider: "nomad", Tags: []string{"a", "b"},
		Meta: map[string]string{"weight": "1"},
		Checks: []api.ServiceCheck{{
			Type: "http", Path: "/health", Interval: 10 * time.Second, Timeout: 2 * time.Second,
			Header: map[string][]string{"Accept": {"text/plain"}},
		}},
	}}
	g.Constraints = []api.Constraint{
		{Operand: "distinct_hosts", RTarget: "true"},
		{LTarget: "${attr.nomad.version}", Operand: "semver", RTarget: ">= 1.5"},
		{LTarget: "${meta.rack}", Operand: "distinct_property", RTarget: "2"},
		{LTarget: "${meta.ssd}", Operand: "is_set"},
		{LTarget: "${attr.os.name}", Operand: "regexp", RTarget: "^(debian|ubuntu)$"},
	}
	server := g.NewTask()
	server.Name, server.Driver, server.User, server.Leader = "server", "raw_exec", "www", true
	server.KillTimeout, server.KillSignal = 90*time.Second, "SIGINT"
	server.Config = map[string]any{
		"command": "/bin/web-v1",
		"args":    []any{"--port", "${NOMAD_PORT_http}", "--ratio", 0.5},
		"mount":   []any{map[string]any{"type": "bind"}, map[string]any{"type": "tmpfs"}},
		"logging": map[string]any{"driver": "none"},
		"labels":  map[string]any{"a": int64(1)},
	}
	server.Env = map[string]string{"PORT": "80", "DEBUG": "true"}
	server.Meta = map[string]string{"owner": "shop"}
	server.Constraints = []api.Constraint{{LTarget: "${attr.cpu.arch}", Operand: "set_contains_any", RTarget: "amd64,arm64"}}
	server.Resources = api.Resources{CPU: 500, MemoryMB: 256}
	server.RestartPolicy.Attempts, server.RestartPolicy.Mode = 0, "fail"
	server.LogConfig = api.LogConfig{MaxFiles: 3, MaxFileSizeMB: 20}
	side := g.NewTask()
	side.Name, side.Driver = "side", "raw_exec"
	g.Tasks = []*api.Task{server, side}

	alone := j.NewGroup()
	alone.Name = "alone"
	task := alone.NewTask()
	task.Name, task.Driver = "alone", "fake"
	alone.Tasks = []*api.Task{task}
	j.TaskGroups = []*api.Group{g, alone}
	return j
}

func TestEverythingAcceptedIsDecoded(t *testing.T) {
	src, err := os.ReadFile("testdata/whole.hcl")
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, string(src), jobspec.Options{})
	if diff := cmp.Diff(wholeJob(), got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	raw, err := json.Marshal(map[string]any{"Job": got})
	if err != nil {
		t.Fatal(err)
	}
	again, err := jobspec.ParseJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("through JSON (-want +got):\n%s", diff)
	}
}

func TestParseJSON(t *testing.T) {
	const job = `{"ID":"a","TaskGroups":[{"Name":"g","Tasks":[{"Name":"t","Driver":"fake"}]}]}`
	for _, src := range []string{job, `{"Job":` + job + `}`, `{"job":` + job + `}`} {
		got, err := jobspec.ParseJSON([]byte(src))
		if err != nil || got.ID != "a" || got.TaskGroups[0].Tasks[0].KillTimeout != api.DefaultKillTimeout {
			t.Errorf("ParseJSON(%s) = %+v, %v", src, got, err)
		}
	}
	for src, want := range map[string]string{
		`job "a" {}`:                         "not a JSON object",
		`{"job":{"web":{"group":{}}}}`:       "HCL's own JSON syntax is not supported",
		`{"Job":{"ID":"a"}}`:                 "group: a job needs at least one",
		`{"ID":"a","Affinities":[{}]}`:       "Affinities: not supported yet",
		`{"Job":null}`:                       "want an object",
		strings.Repeat(" ", 1<<20) + `{}`:    "at most",
		`{"ID":"a","TaskGroups":[{"x":1}]}`:  "group: name: missing",
		`{"Job":{"TaskGroups":"web"}}`:       "TaskGroups: want a list",
		`{"Job":{"ID":"a"},"TaskGroups":[]}`: "group: a job needs at least one",
	} {
		_, err := jobspec.ParseJSON([]byte(src))
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, api.ErrInvalid) {
			t.Errorf("ParseJSON(%.60s): %v, want %s", src, err, want)
		}
	}
}

func TestTextForTheNodeStaysAsItIs(t *testing.T) {
	for expr, want := range map[string]string{
		`"${attr.kernel.name}"`:                   "${attr.kernel.name}",
		`attr.kernel.name`:                        "${attr.kernel.name}",
		`"a-${NOMAD_ALLOC_INDEX}-${var.x}-$${z}"`: "a-${NOMAD_ALLOC_INDEX}-X-${z}",
		`"${meta.my-key}"`:                        "${meta.my-key}",
		`"${env["HOME"]}"`:                        `${env["HOME"]}`,
		`upper("${NOMAD_DC}")`:                    "${NOMAD_DC}",
		`join(",", [NOMAD_DC, local.y])`:          "${NOMAD_DC},Y",
		`join(",", [for k in ["a", "b"] : "${k}=${NOMAD_PORT_http}"])`: "a=${NOMAD_PORT_http},b=${NOMAD_PORT_http}",
		`{ for k, v in { a = "${NOMAD_DC}" } : k => v }["a"]`:          "${NOMAD_DC}",
		`[{ a = meta.x }][0].a`:                                        "${meta.x}",
		`(true ? attr.a : attr.b)`:                                     "${attr.a}",
		`join("", [{ n = attr.a }, { n = "b" }][*].n)`:                 "${attr.a}b",
		`"%{ for x in ["1", "2"] }${x}${NOMAD_DC}%{ endfor }"`:         "1${NOMAD_DC}2${NOMAD_DC}",
		`"%{ if var.x == "X" }${NOMAD_DC}%{ endif }"`:                  "${NOMAD_DC}",
		"<<-EOT\n    ${NOMAD_DC}\n      indented\n    EOT\n":           "${NOMAD_DC}\n  indented\n",
		`local.z`:         "z ${NOMAD_TASK_DIR}",
		`var.d`:           "${node.datacenter}",
		`"${ NOMAD_DC }"`: "${NOMAD_DC}",
	} {
		job := parse(t, `
variable "x" { default = "X" }
variable "d" { default = "${node.datacenter}" }
locals {
  y = "Y"
  z = "z ${NOMAD_TASK_DIR}"
}
job "j" {
  task "t" {
    driver = "fake"
    config {
      v = `+expr+`
    }
  }
}`, jobspec.Options{})
		if got := job.TaskGroups[0].Tasks[0].Config["v"]; got != want {
			t.Errorf("%s = %#v, want %q", expr, got, want)
		}
	}
}

func TestAnUnknownNameIsLeftForTheNodeWithAWarning(t *testing.T) {
	_, warnings, err := jobspec.Parse("a.hcl", []byte(`job "j" {
  task "t" {
    driver = "fake"
    env {
      A = "${vars.x}"
      B = "${HOME}"
    }
  }
}`), jobspec.Options{})
	want := []string{`a.hcl:5,14: Left for the node: "vars" is no name of this file, so ${vars.x} stays as text; did you mean "var"?`}
	if err != nil || !cmp.Equal(warnings, want) {
		t.Errorf("warnings %q, %v\nwant %q", warnings, err, want)
	}
}

func TestDynamicBlocks(t *testing.T) {
	job := parse(t, `
variable "ports" {
  type    = map(number)
  default = { http = 80, admin = 0 }
}
job "j" {
  dynamic "group" {
    for_each = ["a", "b"]
    iterator = g
    labels   = ["${g.key}-${g.value}"]
    content {
      network {
        dynamic "port" {
          for_each = { for k, v in var.ports : k => v == 0 ? 0 : v + g.key }
          labels   = [port.key]
          content {
            static = port.value
          }
        }
      }
      dynamic "constraint" {
        for_each = []
        content {}
      }
      task "t" {
        driver = "fake"
        config {
          dynamic "mount" {
            for_each = [1, 2]
            content {
              n    = mount.value
              path = "${NOMAD_TASK_DIR}/${g.value}${mount.key}"
            }
          }
        }
      }
    }
  }
}`, jobspec.Options{})
	var names []string
	for _, g := range job.TaskGroups {
		names = append(names, g.Name)
	}
	if diff := cmp.Diff([]string{"0-a", "1-b"}, names); diff != "" {
		t.Fatalf("groups (-want +got):\n%s", diff)
	}
	b := job.TaskGroups[1]
	network := []*api.Network{{
		ReservedPorts: []api.Port{{Label: "http", Value: 81}}, DynamicPorts: []api.Port{{Label: "admin"}},
	}}
	if diff := cmp.Diff(network, b.Networks); diff != "" {
		t.Errorf("network (-want +got):\n%s", diff)
	}
	config := map[string]any{"mount": []any{
		map[string]any{"n": int64(1), "path": "${NOMAD_TASK_DIR}/b0"},
		map[string]any{"n": int64(2), "path": "${NOMAD_TASK_DIR}/b1"},
	}}
	if diff := cmp.Diff(config, b.Tasks[0].Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}
