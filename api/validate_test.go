package api_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestValidateReportsEachProblemWithItsPath(t *testing.T) {
	first := func(j *api.Job) (*api.Group, *api.Task) { return j.TaskGroups[0], j.TaskGroups[0].Tasks[0] }
	inGroup := func(f func(*api.Group)) func(*api.Job) { return func(j *api.Job) { g, _ := first(j); f(g) } }
	inTask := func(f func(*api.Task)) func(*api.Job) { return func(j *api.Job) { _, x := first(j); f(x) } }
	service := func(s api.Service) func(*api.Job) {
		return inGroup(func(g *api.Group) {
			g.Networks = []*api.Network{{DynamicPorts: []api.Port{{Label: "http"}}}}
			g.Services = []*api.Service{&s}
		})
	}
	check := func(c api.ServiceCheck) func(*api.Job) {
		return service(api.Service{Name: "web", PortLabel: "http", Checks: []api.ServiceCheck{c}})
	}
	rule := func(left, op, right string) func(*api.Job) {
		return func(j *api.Job) { j.Constraints = []api.Constraint{{LTarget: left, Operand: op, RTarget: right}} }
	}
	long := strings.Repeat("x", 300)
	for name, row := range map[string]struct {
		change func(*api.Job)
		want   string // one problem a line
	}{
		"valid": {func(*api.Job) {}, ""},

		"id missing":         {func(j *api.Job) { j.ID = "" }, `id: missing`},
		"id with a space":    {func(j *api.Job) { j.ID = "a b" }, `id: "a b" must have no spaces and no control characters`},
		"id with a null":     {func(j *api.Job) { j.ID = "a\x00" }, "id: \"a\\x00\" must have no spaces and no control characters\nid: has a null character"},
		"id too long":        {func(j *api.Job) { j.ID = long }, `id: longer than 255 bytes`},
		"name with a null":   {func(j *api.Job) { j.Name = "\x00" }, `name: has a null character`},
		"another namespace":  {func(j *api.Job) { j.Namespace = "prod" }, `namespace: "prod": namespaces are not supported yet, only "default"`},
		"system job":         {func(j *api.Job) { j.Type = "system" }, `type: "system": not supported yet`},
		"sysbatch job":       {func(j *api.Job) { j.Type = "sysbatch" }, `type: "sysbatch": not supported yet`},
		"unknown type":       {func(j *api.Job) { j.Type = "cron" }, `type: "cron" is neither "service" nor "batch"`},
		"priority too low":   {func(j *api.Job) { j.Priority = 0 }, `priority: must be 1 to 100, not 0`},
		"priority too high":  {func(j *api.Job) { j.Priority = 101 }, `priority: must be 1 to 100, not 101`},
		"no datacenters":     {func(j *api.Job) { j.Datacenters = nil }, `datacenters: must name at least one ("*" for all)`},
		"empty datacenter":   {func(j *api.Job) { j.Datacenters = []string{""} }, `datacenters: "" is no name and no pattern`},
		"bad pattern":        {func(j *api.Job) { j.Datacenters = []string{"dc["} }, `datacenters: "dc[" is no name and no pattern`},
		"bad pool":           {func(j *api.Job) { j.NodePool = "a b" }, `node_pool: "a b" must be 1 to 128 letters, digits, dashes and underscores`},
		"all at once":        {func(j *api.Job) { j.AllAtOnce = true }, `all_at_once: not supported yet`},
		"no groups":          {func(j *api.Job) { j.TaskGroups = nil }, `group: a job needs at least one`},
		"groups of one name": {func(j *api.Job) { g, _ := first(j); j.TaskGroups = append(j.TaskGroups, g) }, `group "api": there is another group of that name`},
		"too many instances": {func(j *api.Job) {
			g, _ := first(j)
			h := *g
			h.Name = "b"
			g.Count, h.Count = 50_000, 1
			j.TaskGroups = append(j.TaskGroups, &h)
		}, `group: counts add up to more than 50000`},
		"null group":           {func(j *api.Job) { j.TaskGroups = []*api.Group{nil} }, `group: missing`},
		"group without a name": {inGroup(func(g *api.Group) { g.Name = "" }), `group: name: missing`},
		"group with a slash":   {inGroup(func(g *api.Group) { g.Name = "a/b" }), `group "a/b": name: "a/b" must have no slashes and no control characters`},
		"negative count":       {inGroup(func(g *api.Group) { g.Count = -1 }), `group "api": count: must not be negative, is -1`},
		"no tasks":             {inGroup(func(g *api.Group) { g.Tasks = nil }), `group "api": task: a group needs at least one`},
		"null task":            {inGroup(func(g *api.Group) { g.Tasks = []*api.Task{nil} }), `group "api" task: missing`},
		"disk":                 {inGroup(func(g *api.Group) { g.EphemeralDisk.SizeMB = 500 }), `group "api": ephemeral_disk: not supported yet`},
		"tasks of one name":    {inGroup(func(g *api.Group) { g.Tasks = append(g.Tasks, g.Tasks[0]) }), `group "api" task "server": there is another task of that name in the group`},
		"two leaders": {inGroup(func(g *api.Group) {
			g.Tasks = append(g.Tasks, apitest.NewTask(g, "b"))
			g.Tasks[0].Leader, g.Tasks[1].Leader = true, true
		}), `group "api" task "b": leader: a group has at most one leader`},
		"group's delay": {inGroup(func(g *api.Group) { g.ShutdownDelay = -1 }), `group "api": shutdown_delay: must not be negative, is -1ns`},

		"restart mode":     {inGroup(func(g *api.Group) { g.RestartPolicy.Mode = "x" }), `group "api" restart: mode: "x" is neither "fail" nor "delay"`},
		"restart interval": {inGroup(func(g *api.Group) { g.RestartPolicy = api.Restart{Attempts: 1, Interval: time.Second, Mode: "fail"} }), `group "api" restart: interval: must be at least 5s, is 1s`},
		"restart attempts": {inTask(func(x *api.Task) { x.RestartPolicy.Attempts = -2 }), `group "api" task "server" restart: attempts: must not be negative, is -2`},
		"restart delays longer than the interval": {inTask(func(x *api.Task) { x.RestartPolicy.Delay = time.Hour }),
			`group "api" task "server" restart: interval: 30m0s is too short for 2 attempts 1h0m0s apart`},
		"delay mode without attempts": {inTask(func(x *api.Task) { x.RestartPolicy.Attempts, x.RestartPolicy.Mode = 0, "delay" }),
			`group "api" task "server" restart: attempts: 0 with mode "delay" says nothing: use mode "fail"`},
		"never restarted":     {inTask(func(x *api.Task) { x.RestartPolicy = api.Restart{Mode: "fail"} }), ""},
		"never rescheduled":   {inGroup(func(g *api.Group) { g.ReschedulePolicy = &api.Reschedule{} }), ""},
		"reschedule attempts": {inGroup(func(g *api.Group) { g.ReschedulePolicy.Attempts = 3 }), `group "api" reschedule: attempts: 3 has no meaning with unlimited = true: set unlimited = false`},
		"negative reschedule": {inGroup(func(g *api.Group) { g.ReschedulePolicy.Attempts = -1 }), `group "api" reschedule: attempts: must not be negative, is -1`},
		"reschedule interval": {inGroup(func(g *api.Group) {
			r := g.ReschedulePolicy
			r.Unlimited, r.Attempts, r.Interval = false, 1, time.Second
		}), `group "api" reschedule: interval: must be at least 15s, is 1s`},
		"reschedule delay":         {inGroup(func(g *api.Group) { g.ReschedulePolicy.Delay = time.Second }), `group "api" reschedule: delay: must be at least 5s, is 1s`},
		"reschedule max delay":     {inGroup(func(g *api.Group) { g.ReschedulePolicy.MaxDelay = time.Second }), `group "api" reschedule: max_delay: 1s is less than delay 30s`},
		"reschedule function":      {inGroup(func(g *api.Group) { g.ReschedulePolicy.DelayFunction = "square" }), `group "api" reschedule: delay_function: "square" is none of "constant", "exponential" and "fibonacci"`},
		"job's reschedule":         {func(j *api.Job) { j.Reschedule = &api.Reschedule{Unlimited: true, DelayFunction: "constant"} }, `reschedule: delay: must be at least 5s, is 0s`},
		"update parallel":          {inGroup(func(g *api.Group) { g.Update.MaxParallel = -1 }), `group "api" update: max_parallel: must not be negative, is -1`},
		"update time":              {func(j *api.Job) { j.Update.MinHealthyTime = -1 }, `update: min_healthy_time: must not be negative, is -1ns`},
		"update canary":            {inGroup(func(g *api.Group) { g.Update.Canary = 1 }), `group "api" update: canary: not supported yet`},
		"update auto_revert":       {func(j *api.Job) { j.Update.AutoRevert = true }, `update: auto_revert: not supported yet`},
		"update of a batch job":    {func(j *api.Job) { j.Type = "batch"; j.Update = nil }, `group "api": update: batch jobs have none`},
		"update of all at once":    {inGroup(func(g *api.Group) { g.Update.MaxParallel = 0 }), ""},
		"two networks":             {inGroup(func(g *api.Group) { g.Networks = []*api.Network{{}, {}} }), `group "api": network: a group has at most one`},
		"bridge":                   {inGroup(func(g *api.Group) { g.Networks = []*api.Network{{Mode: "bridge"}} }), `group "api" network: mode: "bridge": not supported yet, only "host"`},
		"port label":               {apitest.Ports("a b"), `group "api" network port "a b": a label is 1 to 64 letters, digits, dashes and underscores`},
		"ports of one label":       {func(j *api.Job) { apitest.Ports("a")(j); apitest.StaticPort("a", 1)(j) }, `group "api" network port "a": there is another port of that label`},
		"static ports collide":     {func(j *api.Job) { apitest.StaticPort("a", 80)(j); apitest.StaticPort("b", 80)(j) }, `group "api" network port "b": static: 80 is port "a" already`},
		"static port out of range": {apitest.StaticPort("a", 65536), `group "api" network port "a": static: must be 1 to 65535, is 65536`},
		"static port of nothing":   {apitest.StaticPort("a", 0), `group "api" network port "a": static: must be 1 to 65535, is 0`},
		"dynamic port with value": {func(j *api.Job) {
			apitest.Ports("a")(j)
			first(j)
			j.TaskGroups[0].Networks[0].DynamicPorts[0].Value = 5
		},
			`group "api" network port "a": static: a dynamic port has no value of its own, not 5`},
		"port inside": {func(j *api.Job) { apitest.Ports("a")(j); j.TaskGroups[0].Networks[0].DynamicPorts[0].To = -1 }, `group "api" network port "a": to: must be 1 to 65535, is -1`},
		"host network": {func(j *api.Job) {
			apitest.Ports("a")(j)
			j.TaskGroups[0].Networks[0].DynamicPorts[0].HostNetwork = "lan"
		}, `group "api" network port "a": host_network: not supported yet`},

		"service name":         {service(api.Service{Name: "a b"}), `group "api" service: name: "a b" must be 1 to 63 letters, digits, dashes, dots and underscores`},
		"service of node text": {service(api.Service{Name: "a-${NOMAD_DC}", PortLabel: "${NOMAD_META_port}"}), ""},
		"service provider":     {service(api.Service{Name: "a", Provider: "eureka"}), `group "api" service: provider: "eureka" is neither "nomad" nor "consul"`},
		"service address mode": {service(api.Service{Name: "a", AddressMode: "x"}), `group "api" service: address_mode: "x" is none of auto, host, driver, alloc and alloc_ipv6`},
		"service port":         {service(api.Service{Name: "a", PortLabel: "grpc"}), `group "api" service: port: the group's network has no port "grpc"`},
		"service port number":  {service(api.Service{Name: "a", PortLabel: "8080"}), ""},
		"service task":         {service(api.Service{Name: "a", TaskName: "x"}), `group "api" service: task: there is no task "x" in the group`},
		"null service":         {inTask(func(x *api.Task) { x.Services = []*api.Service{nil} }), `group "api" task "server" service: missing`},
		"check type":           {check(api.ServiceCheck{Type: "icmp", Interval: time.Second, Timeout: time.Second}), `group "api" service check: type: "icmp" is none of http, tcp, grpc and script`},
		"check path":           {check(api.ServiceCheck{Type: "http", Interval: time.Second, Timeout: time.Second}), `group "api" service check: path: missing`},
		"check command":        {check(api.ServiceCheck{Type: "script", Interval: time.Second, Timeout: time.Second}), `group "api" service check: command: missing`},
		"check times": {check(api.ServiceCheck{Type: "tcp", Interval: time.Millisecond}),
			"group \"api\" service check: interval: must be at least 1s, is 1ms\ngroup \"api\" service check: timeout: must be at least 1s, is 0s"},
		"check port and task": {check(api.ServiceCheck{Type: "tcp", Interval: time.Second, Timeout: time.Second, PortLabel: "x", TaskName: "y"}),
			"group \"api\" service check: port: the group's network has no port \"x\"\ngroup \"api\" service check: task: there is no task \"y\" in the group"},

		"driver missing":    {inTask(func(x *api.Task) { x.Driver = "" }), `group "api" task "server": driver: missing`},
		"task named alloc":  {inTask(func(x *api.Task) { x.Name = "alloc" }), `group "api" task "alloc": the name is taken: "alloc" is the directory that tasks share`},
		"task named dots":   {inTask(func(x *api.Task) { x.Name = ".." }), `group "api" task "..": name: ".." must have no slashes and no control characters`},
		"variable name":     {inTask(func(x *api.Task) { x.Env = map[string]string{"A=B": ""} }), `group "api" task "server": env: "A=B" cannot be the name of a variable`},
		"cpu":               {apitest.Ask(0, 300), `group "api" task "server" resources: cpu: must be at least 1 MHz, is 0`},
		"memory":            {apitest.Ask(100, 9), `group "api" task "server" resources: memory: must be at least 10 MB, is 9`},
		"cores":             {inTask(func(x *api.Task) { x.Resources.Cores = 1 }), `group "api" task "server" resources: cores: not supported yet`},
		"memory_max":        {inTask(func(x *api.Task) { x.Resources.MemoryMaxMB = 400 }), `group "api" task "server" resources: memory_max: not supported yet`},
		"log files":         {inTask(func(x *api.Task) { x.LogConfig = api.LogConfig{} }), "group \"api\" task \"server\" logs: max_files: must be at least 1, is 0\ngroup \"api\" task \"server\" logs: max_file_size: must be at least 1 MB, is 0"},
		"no logs":           {inTask(func(x *api.Task) { x.LogConfig = api.LogConfig{Disabled: true} }), ""},
		"kill timeout":      {inTask(func(x *api.Task) { x.KillTimeout = -1 }), `group "api" task "server": kill_timeout: must not be negative, is -1ns`},
		"kill signal":       {inTask(func(x *api.Task) { x.KillSignal = "INT" }), `group "api" task "server": kill_signal: "INT" is no signal (SIGTERM, SIGINT, …)`},
		"known kill signal": {inTask(func(x *api.Task) { x.KillSignal = "SIGINT" }), ""},

		"operator":                  {rule("${attr.x}", "~", "1"), `constraint: operator: "~" is unknown`},
		"attribute missing":         {rule("", "=", "1"), `constraint: attribute: missing`},
		"compared with nothing":     {rule("${attr.x}", "!=", ""), ""},
		"less than nothing":         {rule("${attr.x}", "<", ""), `constraint: value: missing`},
		"regexp":                    {rule("${attr.x}", "regexp", "a("), "constraint: value: error parsing regexp: missing closing ): `a(`"},
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
		"group's and task's constraints": {func(j *api.Job) {
			g, x := first(j)
			g.Constraints = []api.Constraint{{Operand: "distinct_hosts"}, {Operand: "="}}
			x.Constraints = []api.Constraint{{Operand: "?"}}
		}, "group \"api\" constraint 2: attribute: missing\ngroup \"api\" task \"server\" constraint: operator: \"?\" is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			job := apitest.Job(t)
			row.change(job)
			err := job.Validate()
			got := ""
			if err != nil {
				got = err.Error()
				if !errors.Is(err, api.ErrInvalid) {
					t.Errorf("%v is not ErrInvalid", err)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("Validate (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsNameWhatIsAcceptedAndDoesLess(t *testing.T) {
	job := apitest.Job(t, apitest.Ports("http"), func(j *api.Job) {
		g := j.TaskGroups[0]
		g.Services = []*api.Service{
			{Name: "a", Provider: api.ProviderNative},
			{Name: "b", Checks: []api.ServiceCheck{{Type: "tcp", Interval: time.Second, Timeout: time.Second}}},
		}
		g.Tasks[0].Services = []*api.Service{{Name: "c", Provider: "consul"}}
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
		job := apitest.Job(t, apitest.ID(id), func(j *api.Job) {
			j.TaskGroups[0].Services = []*api.Service{{}}
			j.TaskGroups[0].Tasks[0].Services = []*api.Service{{}}
		})
		if id == "web" {
			names := fmt.Sprint(job.TaskGroups[0].Services[0].Name, " ", job.TaskGroups[0].Tasks[0].Services[0].Name)
			if names != "web-api web-api-server" {
				t.Errorf("services are named %s", names)
			}
		}
	}
}
