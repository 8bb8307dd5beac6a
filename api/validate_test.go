package api

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// invalid is a job that differs from a valid one, and the problems that it has, one a line.
type invalid struct {
	change func(*Job)
	want   string
}

func checkInvalid(t *testing.T, rows map[string]invalid) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			job := testJob(t)
			row.change(job)
			err := job.Validate()
			got := ""
			if err != nil {
				got = err.Error()
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("%v is not ErrInvalid", err)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("Validate (-want +got):\n%s", diff)
			}
		})
	}
}

func inGroup(f func(*Group)) func(*Job) { return func(j *Job) { f(j.TaskGroups[0]) } }
func inTask(f func(*Task)) func(*Job)   { return func(j *Job) { f(j.TaskGroups[0].Tasks[0]) } }

func service(s Service) func(*Job) {
	return inGroup(func(g *Group) {
		g.Networks = []*Network{{DynamicPorts: []Port{{Label: "http"}}}}
		g.Services = []*Service{&s}
	})
}

func check(c ServiceCheck) func(*Job) {
	return service(Service{Name: "web", PortLabel: "http", Checks: []ServiceCheck{c}})
}

func rule(left, op, right string) func(*Job) {
	return func(j *Job) { j.Constraints = []Constraint{{LTarget: left, Operand: op, RTarget: right}} }
}

func TestValidateJob(t *testing.T) {
	long := strings.Repeat("x", 300)
	checkInvalid(t, map[string]invalid{
		"valid": {func(*Job) {}, ""},

		"id missing":         {func(j *Job) { j.ID = "" }, `id: missing`},
		"id with a space":    {func(j *Job) { j.ID = "a b" }, `id: "a b" must have no spaces and no control characters`},
		"id with a null":     {func(j *Job) { j.ID = "a\x00" }, "id: \"a\\x00\" must have no spaces and no control characters\nid: has a null character"},
		"id too long":        {func(j *Job) { j.ID = long }, `id: longer than 255 bytes`},
		"name with a null":   {func(j *Job) { j.Name = "\x00" }, `name: has a null character`},
		"another namespace":  {func(j *Job) { j.Namespace = "prod" }, `namespace: "prod": namespaces are not supported yet, only "default"`},
		"system job":         {func(j *Job) { j.Type = "system" }, `type: "system": not supported yet`},
		"sysbatch job":       {func(j *Job) { j.Type = "sysbatch" }, `type: "sysbatch": not supported yet`},
		"unknown type":       {func(j *Job) { j.Type = "cron" }, `type: "cron" is neither "service" nor "batch"`},
		"priority too low":   {func(j *Job) { j.Priority = 0 }, `priority: must be 1 to 100, not 0`},
		"priority too high":  {func(j *Job) { j.Priority = 101 }, `priority: must be 1 to 100, not 101`},
		"no datacenters":     {func(j *Job) { j.Datacenters = nil }, `datacenters: must name at least one ("*" for all)`},
		"empty datacenter":   {func(j *Job) { j.Datacenters = []string{""} }, `datacenters: "" is no name and no pattern`},
		"bad pattern":        {func(j *Job) { j.Datacenters = []string{"dc["} }, `datacenters: "dc[" is no name and no pattern`},
		"bad pool":           {func(j *Job) { j.NodePool = "a b" }, `node_pool: "a b" must be 1 to 128 letters, digits, dashes and underscores`},
		"all at once":        {func(j *Job) { j.AllAtOnce = true }, `all_at_once: not supported yet`},
		"no groups":          {func(j *Job) { j.TaskGroups = nil }, `group: a job needs at least one`},
		"groups of one name": {func(j *Job) { j.TaskGroups = append(j.TaskGroups, j.TaskGroups[0]) }, `group "api": there is another group of that name`},
		"too many instances": {func(j *Job) {
			g := j.TaskGroups[0]
			h := *g
			h.Name = "b"
			g.Count, h.Count = 50_000, 1
			j.TaskGroups = append(j.TaskGroups, &h)
		}, `group: counts add up to more than 50000`},
		"null group": {func(j *Job) { j.TaskGroups = []*Group{nil} }, `group: missing`},
	})
}

func TestValidateGroup(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"group without a name": {inGroup(func(g *Group) { g.Name = "" }), `group: name: missing`},
		"group with a slash":   {inGroup(func(g *Group) { g.Name = "a/b" }), `group "a/b": name: "a/b" must have no slashes and no control characters`},
		"negative count":       {inGroup(func(g *Group) { g.Count = -1 }), `group "api": count: must not be negative, is -1`},
		"no tasks":             {inGroup(func(g *Group) { g.Tasks = nil }), `group "api": task: a group needs at least one`},
		"null task":            {inGroup(func(g *Group) { g.Tasks = []*Task{nil} }), `group "api" task: missing`},
		"sticky disk":          {inGroup(func(g *Group) { g.EphemeralDisk.Sticky = true }), `group "api" ephemeral_disk: sticky: not supported yet`},
		"less than no disk":    {inGroup(func(g *Group) { g.EphemeralDisk.SizeMB = -1 }), `group "api" ephemeral_disk: size: must be at least 0 MB, is -1`},
		"tasks of one name":    {inGroup(func(g *Group) { g.Tasks = append(g.Tasks, g.Tasks[0]) }), `group "api" task "server": there is another task of that name in the group`},
		"two leaders": {inGroup(func(g *Group) {
			g.Tasks = append(g.Tasks, testTask(g, "b"))
			g.Tasks[0].Leader, g.Tasks[1].Leader = true, true
		}), `group "api" task "b": leader: a group has at most one leader`},
		"group's delay": {inGroup(func(g *Group) { g.ShutdownDelay = -1 }), `group "api": shutdown_delay: must not be negative, is -1ns`},
	})
}

func TestValidatePolicies(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"restart mode":     {inGroup(func(g *Group) { g.RestartPolicy.Mode = "x" }), `group "api" restart: mode: "x" is neither "fail" nor "delay"`},
		"restart interval": {inGroup(func(g *Group) { g.RestartPolicy = Restart{Attempts: 1, Interval: time.Second, Mode: "fail"} }), `group "api" restart: interval: must be at least 5s, is 1s`},
		"restart attempts": {inTask(func(x *Task) { x.RestartPolicy.Attempts = -2 }), `group "api" task "server" restart: attempts: must not be negative, is -2`},
		"restart delays longer than the interval": {inTask(func(x *Task) { x.RestartPolicy.Delay = time.Hour }),
			`group "api" task "server" restart: interval: 30m0s is too short for 2 attempts 1h0m0s apart`},
		"delay mode without attempts": {inTask(func(x *Task) { x.RestartPolicy.Attempts, x.RestartPolicy.Mode = 0, "delay" }),
			`group "api" task "server" restart: attempts: 0 with mode "delay" says nothing: use mode "fail"`},
		"never restarted":     {inTask(func(x *Task) { x.RestartPolicy = Restart{Mode: "fail"} }), ""},
		"never rescheduled":   {inGroup(func(g *Group) { g.ReschedulePolicy = &Reschedule{} }), ""},
		"reschedule attempts": {inGroup(func(g *Group) { g.ReschedulePolicy.Attempts = 3 }), `group "api" reschedule: attempts: 3 has no meaning with unlimited = true: set unlimited = false`},
		"negative reschedule": {inGroup(func(g *Group) { g.ReschedulePolicy.Attempts = -1 }), `group "api" reschedule: attempts: must not be negative, is -1`},
		"reschedule interval": {inGroup(func(g *Group) {
			r := g.ReschedulePolicy
			r.Unlimited, r.Attempts, r.Interval = false, 1, time.Second
		}), `group "api" reschedule: interval: must be at least 15s, is 1s`},
		"reschedule delay":      {inGroup(func(g *Group) { g.ReschedulePolicy.Delay = time.Second }), `group "api" reschedule: delay: must be at least 5s, is 1s`},
		"reschedule max delay":  {inGroup(func(g *Group) { g.ReschedulePolicy.MaxDelay = time.Second }), `group "api" reschedule: max_delay: 1s is less than delay 30s`},
		"reschedule function":   {inGroup(func(g *Group) { g.ReschedulePolicy.DelayFunction = "square" }), `group "api" reschedule: delay_function: "square" is none of "constant", "exponential" and "fibonacci"`},
		"job's reschedule":      {func(j *Job) { j.Reschedule = &Reschedule{Unlimited: true, DelayFunction: "constant"} }, `reschedule: delay: must be at least 5s, is 0s`},
		"update parallel":       {inGroup(func(g *Group) { g.Update.MaxParallel = -1 }), `group "api" update: max_parallel: must not be negative, is -1`},
		"update time":           {func(j *Job) { j.Update.MinHealthyTime = -1 }, `update: min_healthy_time: must not be negative, is -1ns`},
		"update canary":         {inGroup(func(g *Group) { g.Update.Canary = 1 }), `group "api" update: canary: not supported yet`},
		"update auto_revert":    {func(j *Job) { j.Update.AutoRevert = true }, `update: auto_revert: not supported yet`},
		"update of a batch job": {func(j *Job) { j.Type = "batch"; j.Update = nil }, `group "api": update: batch jobs have none`},
		"update of all at once": {inGroup(func(g *Group) { g.Update.MaxParallel = 0 }), ""},
	})
}

func TestValidateNetwork(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"two networks":             {inGroup(func(g *Group) { g.Networks = []*Network{{}, {}} }), `group "api": network: a group has at most one`},
		"bridge":                   {inGroup(func(g *Group) { g.Networks = []*Network{{Mode: "bridge"}} }), `group "api" network: mode: "bridge": not supported yet, only "host"`},
		"port label":               {withPort("a b"), `group "api" network port "a b": a label is 1 to 64 letters, digits, dashes and underscores`},
		"ports of one label":       {func(j *Job) { withPort("a")(j); withStaticPort("a", 1)(j) }, `group "api" network port "a": there is another port of that label`},
		"static ports collide":     {func(j *Job) { withStaticPort("a", 80)(j); withStaticPort("b", 80)(j) }, `group "api" network port "b": static: 80 is port "a" already`},
		"static port out of range": {withStaticPort("a", 65536), `group "api" network port "a": static: must be 1 to 65535, is 65536`},
		"static port of nothing":   {withStaticPort("a", 0), `group "api" network port "a": static: must be 1 to 65535, is 0`},
		"dynamic port with value": {func(j *Job) {
			withPort("a")(j)
			j.TaskGroups[0].Networks[0].DynamicPorts[0].Value = 5
		},
			`group "api" network port "a": static: a dynamic port has no value of its own, not 5`},
		"port inside": {func(j *Job) { withPort("a")(j); j.TaskGroups[0].Networks[0].DynamicPorts[0].To = -1 }, `group "api" network port "a": to: must be 1 to 65535, is -1`},
		"host network": {func(j *Job) {
			withPort("a")(j)
			j.TaskGroups[0].Networks[0].DynamicPorts[0].HostNetwork = "lan"
		}, `group "api" network port "a": host_network: not supported yet`},
	})
}

func TestValidateServices(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"service name":         {service(Service{Name: "a b"}), `group "api" service: name: "a b" must be 1 to 63 letters, digits, dashes, dots and underscores`},
		"service of node text": {service(Service{Name: "a-${NOMAD_DC}", PortLabel: "${NOMAD_META_port}"}), ""},
		"service provider":     {service(Service{Name: "a", Provider: "eureka"}), `group "api" service: provider: "eureka" is neither "nomad" nor "consul"`},
		"service address mode": {service(Service{Name: "a", AddressMode: "x"}), `group "api" service: address_mode: "x" is none of auto, host, driver, alloc and alloc_ipv6`},
		"service port":         {service(Service{Name: "a", PortLabel: "grpc"}), `group "api" service: port: the group's network has no port "grpc"`},
		"service port number":  {service(Service{Name: "a", PortLabel: "8080"}), ""},
		"service task":         {service(Service{Name: "a", TaskName: "x"}), `group "api" service: task: there is no task "x" in the group`},
		"null service":         {inTask(func(x *Task) { x.Services = []*Service{nil} }), `group "api" task "server" service: missing`},
		"check type":           {check(ServiceCheck{Type: "icmp", Interval: time.Second, Timeout: time.Second}), `group "api" service check: type: "icmp" is none of http, tcp, grpc and script`},
		"check path":           {check(ServiceCheck{Type: "http", Interval: time.Second, Timeout: time.Second}), `group "api" service check: path: missing`},
		"check command":        {check(ServiceCheck{Type: "script", Interval: time.Second, Timeout: time.Second}), `group "api" service check: command: missing`},
		"check times": {check(ServiceCheck{Type: "tcp", Interval: time.Millisecond}),
			"group \"api\" service check: interval: must be at least 1s, is 1ms\ngroup \"api\" service check: timeout: must be at least 1s, is 0s"},
		"check port and task": {check(ServiceCheck{Type: "tcp", Interval: time.Second, Timeout: time.Second, PortLabel: "x", TaskName: "y"}),
			"group \"api\" service check: port: the group's network has no port \"x\"\ngroup \"api\" service check: task: there is no task \"y\" in the group"},
	})
}

func TestValidateTask(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"driver missing":          {inTask(func(x *Task) { x.Driver = "" }), `group "api" task "server": driver: missing`},
		"task named alloc":        {inTask(func(x *Task) { x.Name = "alloc" }), `group "api" task "alloc": the name is taken: "alloc" is the directory that tasks share`},
		"task named dots":         {inTask(func(x *Task) { x.Name = ".." }), `group "api" task "..": name: ".." must have no slashes and no control characters`},
		"variable name":           {inTask(func(x *Task) { x.Env = map[string]string{"A=B": ""} }), `group "api" task "server": env: "A=B" cannot be the name of a variable`},
		"cpu":                     {asking(0, 300), `group "api" task "server" resources: cpu: must be at least 1 MHz, is 0`},
		"memory":                  {asking(100, 9), `group "api" task "server" resources: memory: must be at least 10 MB, is 9`},
		"cores":                   {inTask(func(x *Task) { x.Resources.Cores = 1 }), `group "api" task "server" resources: cores: not supported yet`},
		"memory_max":              {inTask(func(x *Task) { x.Resources.MemoryMaxMB = 400 }), `group "api" task "server" resources: memory_max: not supported yet`},
		"name too long for files": {inTask(func(x *Task) { x.Name = strings.Repeat("n", 201) }), `group "api" task "` + strings.Repeat("n", 201) + `": name: longer than 200 bytes: files are called after it`},
		"cpu that overflows":      {asking(math.MaxInt64, 300), `group "api" task "server" resources: cpu: must be at most 2147483647 MHz, is 9223372036854775807`},
		"memory that overflows":   {asking(100, math.MaxInt64), `group "api" task "server" resources: memory: must be at most 2147483647 MB, is 9223372036854775807`},
		"log size that overflows": {inTask(func(x *Task) { x.LogConfig = LogConfig{MaxFiles: 1, MaxFileSizeMB: 1 << 44} }), "group \"api\" task \"server\" logs: max_file_size: must be at most 2147483647 MB, is 17592186044416"},
		"log files":               {inTask(func(x *Task) { x.LogConfig = LogConfig{} }), "group \"api\" task \"server\" logs: max_files: must be at least 1, is 0\ngroup \"api\" task \"server\" logs: max_file_size: must be at least 1 MB, is 0"},
		"no logs":                 {inTask(func(x *Task) { x.LogConfig = LogConfig{Disabled: true} }), ""},
		"kill timeout":            {inTask(func(x *Task) { x.KillTimeout = -1 }), `group "api" task "server": kill_timeout: must not be negative, is -1ns`},
		"kill signal":             {inTask(func(x *Task) { x.KillSignal = "INT" }), `group "api" task "server": kill_signal: "INT" is no signal (SIGTERM, SIGINT, …)`},
		"known kill signal":       {inTask(func(x *Task) { x.KillSignal = "SIGINT" }), ""},
	})
}

func TestValidateConstraints(t *testing.T) {
	checkInvalid(t, map[string]invalid{
		"operator":                  {rule("${attr.x}", "~", "1"), `constraint: operator: "~" is unknown`},
		"attribute missing":         {rule("", "=", "1"), `constraint: attribute: missing`},
		"compared with nothing":     {rule("${attr.x}", "!=", ""), ""},
		"less than nothing":         {rule("${attr.x}", "<", ""), `constraint: value: missing`},
		"regexp":                    {rule("${attr.x}", "regexp", "a("), "constraint: value: error parsing regexp: missing closing ): `a(`"},
		"long regexp":               {rule("${attr.x}", "regexp", strings.Repeat("a", MaxPattern+1)), "constraint: value: longer than 1024 bytes"},
		"long version":              {rule("${attr.x}", "version", strings.Repeat(">= 1, ", MaxVersions)), "constraint: value: longer than 512 bytes"},
		"regexp of node text":       {rule("${attr.x}", "regexp", "(${meta.x}"), ""},
		"version":                   {rule("${attr.x}", "version", "one"), `constraint: value: "one" is no version constraint (">= 1.2, < 2.0")`},
		"version range":             {rule("${attr.x}", "version", ">= 1.2, < 2"), ""},
		"semver missing":            {rule("${attr.x}", "semver", ""), `constraint: value: missing`},
		"set_contains_any missing":  {rule("${attr.x}", "set_contains_any", ""), `constraint: value: missing`},
		"is_set with a value":       {rule("${attr.x}", "is_set", "1"), `constraint: value: is_set takes none`},
		"is_not_set":                {rule("${attr.x}", "is_not_set", ""), ""},
		"distinct_hosts":            {rule("", "distinct_hosts", ""), ""},
		"distinct_hosts of text":    {rule("", "distinct_hosts", "maybe"), `constraint: value: "maybe" is neither true nor false`},
		"distinct_property":         {rule("${meta.rack}", "distinct_property", "2"), ""},
		"distinct_property of none": {rule("", "distinct_property", "0"), "constraint: value: \"0\" is no number of instances, 1 to 2147483647\nconstraint: attribute: missing"},
		"group's and task's constraints": {func(j *Job) {
			g := j.TaskGroups[0]
			x := g.Tasks[0]
			g.Constraints = []Constraint{{Operand: "distinct_hosts"}, {Operand: "="}}
			x.Constraints = []Constraint{{Operand: "?"}}
		}, "group \"api\" constraint 2: attribute: missing\ngroup \"api\" task \"server\" constraint: operator: \"?\" is unknown"},
	})
}

func TestWarningsNameWhatIsAcceptedAndDoesLess(t *testing.T) {
	job := testJob(t, withPort("http"), func(j *Job) {
		g := j.TaskGroups[0]
		g.Services = []*Service{
			{Name: "a", Provider: ProviderNative},
			{Name: "b", Checks: []ServiceCheck{{Type: "tcp", Interval: time.Second, Timeout: time.Second}}},
		}
		g.Tasks[0].Services = []*Service{{Name: "c", Provider: "consul"}}
	})
	want := []string{
		`group "api" service 2: provider: "consul" is treated as "nomad", the native discovery`,
		`group "api" service 2: check: not run yet`,
		`group "api" task "server" service: provider: "consul" is treated as "nomad", the native discovery`,
	}
	if got := job.Warnings(); !slices.Equal(got, want) {
		t.Errorf("Warnings:\n got %q\nwant %q", got, want)
	}
}

func TestDefaultServiceNamesAreValid(t *testing.T) {
	for _, id := range []string{"web", "a/dispatch-1", "Ünïcode/…", strings.Repeat("long-", 40), "-"} {
		job := testJob(t, withID(id), func(j *Job) {
			j.TaskGroups[0].Services = []*Service{{}}
			j.TaskGroups[0].Tasks[0].Services = []*Service{{}}
		})
		if id == "web" {
			names := fmt.Sprint(job.TaskGroups[0].Services[0].Name, " ", job.TaskGroups[0].Tasks[0].Services[0].Name)
			if names != "web-api web-api-server" {
				t.Errorf("services are named %s", names)
			}
		}
	}
}

func TestValidateDoesNotSpellOutEverything(t *testing.T) {
	job := testJob(t)
	for range 1000 {
		job.TaskGroups = append(job.TaskGroups, nil)
	}
	lines := strings.Split(job.Validate().Error(), "\n")
	if got, want := lines[len(lines)-1], "and 900 problems more"; len(lines) != maxProblems+1 || got != want {
		t.Errorf("%d lines, the last %q; want %d and %q", len(lines), got, maxProblems+1, want)
	}
}
