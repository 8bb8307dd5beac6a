package jobspec_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/jobspec"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Each testdata/refuse-*.hcl has a golden file of all that is wrong with it, as the user reads it.
func TestRefusalsAsTheUserReadsThem(t *testing.T) {
	files, err := filepath.Glob("testdata/refuse-*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, warnings, err := jobspec.Parse(filepath.Base(path), src, jobspec.Options{})
			if !errors.Is(err, api.ErrInvalid) {
				t.Fatalf("error %v, want one of kind ErrInvalid", err)
			}
			got := strings.Join(append(warnings, err.Error()), "\n") + "\n"
			golden := strings.TrimSuffix(path, ".hcl") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// within holds, for each kind of block, a job whose %s stands inside one.
var within = map[reflect.Type]string{
	reflect.TypeFor[api.Job]():          "job \"j\" {\n%s\ntask \"t\" {\ndriver = \"fake\"\n}\n}",
	reflect.TypeFor[api.Group]():        inGroup("%s"),
	reflect.TypeFor[api.Task]():         inTask("%s"),
	reflect.TypeFor[api.Resources]():    inTask("resources {\n%s\n}"),
	reflect.TypeFor[api.Network]():      inGroup("network {\n%s\n}"),
	reflect.TypeFor[api.Port]():         inGroup("network {\nport \"p\" {\n%s\n}\n}"),
	reflect.TypeFor[api.Restart]():      inGroup("restart {\n%s\n}"),
	reflect.TypeFor[api.Update]():       inGroup("update {\n%s\n}"),
	reflect.TypeFor[api.Service]():      inGroup("service {\nprovider = \"nomad\"\n%s\n}"),
	reflect.TypeFor[api.ServiceCheck](): inGroup("service {\ncheck {\ntype = \"tcp\"\ninterval = \"9s\"\ntimeout = \"9s\"\n%s\n}\n}"),
}

func inGroup(s string) string {
	return "job \"j\" {\ngroup \"g\" {\n" + s + "\ntask \"t\" {\ndriver = \"fake\"\n}\n}\n}"
}

func inTask(s string) string {
	return "job \"j\" {\ngroup \"g\" {\ntask \"t\" {\ndriver = \"fake\"\n" + s + "\n}\n}\n}"
}

// one parses a file in which one thing is wrong and returns what, without the excerpt.
func one(t *testing.T, src string) string {
	t.Helper()
	_, _, err := jobspec.Parse("f.hcl", []byte(src), jobspec.Options{})
	if err == nil {
		return ""
	}
	var all *jobspec.Error
	if !errors.As(err, &all) || len(all.Diags) != 1 {
		t.Errorf("want one problem, got:\n%v", err)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func TestEveryUnbuiltNameIsRefusedWithItsPlace(t *testing.T) {
	for typ, file := range within {
		for _, u := range api.UnbuiltIn(typ) {
			if u.HCL == "" {
				continue
			}
			t.Run(typ.Name()+"."+u.HCL, func(t *testing.T) {
				texts := []string{u.HCL + " {}", u.HCL + " \"label\" {\n  any = 1\n}", u.HCL + " = { a = 1 }"}
				if !u.Block {
					texts = []string{u.HCL + " = 7", u.HCL + " = \"x\"", u.HCL + " = true", u.HCL + " {}"}
				}
				for _, text := range texts {
					src := fmt.Sprintf(file, "  "+text)
					line := strings.Count(src[:strings.Index(src, text)], "\n") + 1
					want := fmt.Sprintf("f.hcl:%d,3: Not supported yet: %s is not supported yet.", line, u.HCL)
					if got := one(t, src); got != want {
						t.Errorf("%s:\n got %s\nwant %s", text, got, want)
					}
				}
			})
		}
	}
}

func TestUnbuiltArgumentsThatChangeNothingAreAccepted(t *testing.T) {
	for _, src := range []string{
		inGroup("update {\ncanary = 0\nauto_revert = false\nauto_promote = false\nhealth_check = \"checks\"\nhealthy_deadline = \"5m\"\nprogress_deadline = \"600s\"\nstagger = null\n}"),
		inTask("resources {\ncores = 0\nmemory_max = 0\n}"),
		inGroup("network {\nport \"p\" {\nhost_network = \"default\"\n}\n}"),
		inGroup("restart {\nrender_templates = false\n}"),
		"job \"j\" {\nall_at_once = false\ntask \"t\" {\ndriver = \"fake\"\n}\n}",
	} {
		if got := one(t, src); got != "" {
			t.Errorf("%s\nin:\n%s", got, src)
		}
	}
}

// The vocabulary of job files, block by block: every name is either decoded or known and refused.
func TestTheWholeVocabularyIsKnownByName(t *testing.T) {
	for typ, names := range map[reflect.Type]string{
		reflect.TypeFor[api.Job](): `id name type region namespace datacenters node_pool priority all_at_once meta constraint
			affinity spread update migrate reschedule periodic parameterized multiregion ui group task vault secret consul`,
		reflect.TypeFor[api.Group](): `count constraint affinity spread task network service volume ephemeral_disk restart
			reschedule update migrate disconnect scaling meta consul vault secret shutdown_delay max_run_duration
			stop_after_client_disconnect max_client_disconnect prevent_reschedule_on_lost`,
		reflect.TypeFor[api.Task](): `driver config env user resources template artifact service volume_mount logs lifecycle
			leader kill_timeout kill_signal shutdown_delay constraint affinity meta vault consul identity secret action
			dispatch_payload csi_plugin scaling schedule restart kind`,
		reflect.TypeFor[api.Resources](): `cpu memory memory_max cores device numa secrets disk iops network`,
		reflect.TypeFor[api.Network]():   `mode hostname port dns cni mbits`,
		reflect.TypeFor[api.Port]():      `static to host_network ignore_collision`,
		reflect.TypeFor[api.Restart]():   `attempts interval delay mode render_templates`,
		reflect.TypeFor[api.Update](): `max_parallel health_check min_healthy_time healthy_deadline progress_deadline
			auto_revert auto_promote canary stagger`,
		reflect.TypeFor[api.Service](): `name port provider tags canary_tags meta canary_meta address address_mode
			tagged_addresses check check_restart connect task on_update enable_tag_override weights identity cluster kind`,
		reflect.TypeFor[api.ServiceCheck](): `name type path port protocol interval timeout method body header command args
			grpc_service grpc_use_tls tls_skip_verify tls_server_name initial_status success_before_passing
			failures_before_critical failures_before_warning address_mode task expose notes on_update check_restart`,
	} {
		for name := range strings.FieldsSeq(names) {
			for _, text := range []string{name + " = null", name + " {}"} {
				_, _, err := jobspec.Parse("f.hcl", []byte(fmt.Sprintf(within[typ], text)), jobspec.Options{})
				if err != nil && strings.Contains(err.Error(), "Unknown name") {
					t.Errorf("%s in a %s is unknown", text, typ.Name())
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for rule, row := range map[string]struct{ src, want string }{
		"unknown argument with the nearest name": {inGroup("coutn = 1"), `f.hcl:3,1: Unknown name: there is no "coutn" here; did you mean "count"?`},
		"unknown block with the nearest name":    {inTask("resource {}"), `f.hcl:5,1: Unknown name: there is no "resource" here; did you mean "resources"?`},
		"nearest of names not built":             {inTask("templates {}"), `f.hcl:5,1: Unknown name: there is no "templates" here; did you mean "template"?`},
		"unlike any name":                        {inGroup("restart {\nfoo = 1\n}"), `f.hcl:4,1: Unknown name: there is no "foo" here; known are attempts, delay, interval, mode, render_templates.`},
		"unknown in a constraint":                {inGroup("constraint {\nattribute = \"a\"\nversoin = \"1\"\n}"), `f.hcl:5,1: Unknown name: there is no "versoin" here; did you mean "version"?`},
		"duplicate block":                        {inTask("resources {}\nresources {}"), `f.hcl:6,1: Duplicate block: There is one resources already, at line 5.`},
		"duplicate map":                          {inTask("meta = {}\nmeta {}"), `f.hcl:6,1: Duplicate block: There is one meta already, at line 5.`},
		"duplicate argument":                     {inGroup("count = 1\ncount = 2"), `f.hcl:4,1: Attribute redefined: The argument "count" was already set at f.hcl:3,1-6. Each argument may be set only once.`},
		"duplicate in config":                    {inTask("config {\nmount = 1\nmount {}\n}"), `f.hcl:7,1: Duplicate name: mount is an argument already, at line 6.`},
		"two operators":                          {inGroup("constraint {\nattribute = \"a\"\nversion = \"1\"\nregexp = \"1\"\n}"), `f.hcl:6,1: Two operators: The constraint has version already, at line 5.`},
		"groups of one name":                     {"job \"j\" {\ngroup \"g\" {\ntask \"a\" {\ndriver = \"x\"\n}\n}\ngroup \"g\" {\ntask \"a\" {\ndriver = \"x\"\n}\n}\n}", `f.hcl:7,1: Invalid job: group "g": there is another group of that name.`},
		"argument as a block":                    {inGroup("count {}"), `f.hcl:3,1: Argument written as a block: count is an argument: count = …`},
		"block as an argument":                   {inGroup("restart = {}"), `f.hcl:3,1: Block written as an argument: restart is a block: restart { … }`},
		"block in env":                           {inTask("env {\nA {}\n}"), `f.hcl:6,1: Unexpected block: env holds arguments only.`},
		"label where there is none":              {inGroup("restart \"x\" {}"), `f.hcl:3,1: Wrong labels: A restart block has none.`},
		"label on env":                           {inTask("env \"x\" {}"), `f.hcl:5,1: Wrong labels: A env block has none.`},
		"label missing":                          {inGroup("network {\nport {}\n}"), `f.hcl:4,1: Wrong labels: A port block has one label, its name.`},
		"label of the job missing":               {"job {\nid = \"j\"\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:1,1: Wrong labels: A job block has one label, its id.`},
		"single line of two arguments":           {inGroup("restart { attempts = 1, delay = \"1s\" }"), `f.hcl:3,23: Invalid single-argument block definition: Single-line block syntax can include only one argument definition. To define multiple arguments, use the multi-line block syntax with one argument definition per line.`},

		"duration without a unit": {inTask("kill_timeout = 5"), `f.hcl:5,16: Wrong value: kill_timeout: want a duration with its unit, such as "30s" or "1h30m", not a number.`},
		"no duration":             {inTask("kill_timeout = \"soon\""), `f.hcl:5,16: Wrong value: kill_timeout: "soon" is no duration: write it as "30s" or "1h30m".`},
		"fraction":                {inGroup("count = 1.5"), `f.hcl:3,9: Wrong value: count: want a whole number, not 1.5.`},
		"text for a number":       {inGroup("count = \"many\""), `f.hcl:3,9: Wrong value: count: want a whole number, not a string.`},
		"too large a number":      {inGroup("count = 1e12"), `f.hcl:3,9: Wrong value: count: want a whole number, not 1e+12.`},
		"text for a list":         {"job \"j\" {\ndatacenters = \"dc1\"\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:2,15: Wrong value: datacenters: want a list of strings, not a string.`},
		"null in a list":          {"job \"j\" {\ndatacenters = [null]\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:2,15: Wrong value: datacenters: want a string, not null.`},
		"list for a text":         {inTask("user = [1]"), `f.hcl:5,8: Wrong value: user: want a string, not a list.`},
		"list for a map":          {inTask("env = [1]"), `f.hcl:5,7: Wrong value: env: want a map, not a list.`},
		"list in a map":           {inTask("env = { A = [] }"), `f.hcl:5,7: Wrong value: env: "A": want a string, not a list.`},
		"list in a block of env":  {inTask("env {\nA = []\n}"), `f.hcl:6,5: Wrong value: env: "A": want a string, not a list.`},
		"text for true or false":  {inTask("leader = \"yes\""), `f.hcl:5,10: Wrong value: leader: want true or false, not a string.`},
		"driver missing":          {inGroup("task \"a\" {\n}"), `f.hcl:3,1: Invalid job: group "g" task "a": driver: missing.`},
		"false is_set":            {inGroup("constraint {\nattribute = \"a\"\nis_set = false\n}"), `f.hcl:5,10: Wrong value: is_set is true, or the attribute itself.`},
		"function in the way":     {inTask("user = upper(1, 2)"), `f.hcl:5,17: Too many function arguments: Function "upper" expects only 1 argument(s).`},
		"unknown function":        {inTask("user = uper(\"a\")"), `f.hcl:5,8: Call to unknown function: There is no function named "uper". Did you mean "upper"?`},

		"system job":        {"job \"j\" {\ntype = \"system\"\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:2,1: Invalid job: type: "system": not supported yet.`},
		"bridge":            {inGroup("network {\nmode = \"bridge\"\n}"), `f.hcl:4,1: Invalid job: group "g" network: mode: "bridge": not supported yet, only "host".`},
		"namespace":         {"job \"j\" {\nnamespace = \"prod\"\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:2,1: Invalid job: namespace: "prod": namespaces are not supported yet, only "default".`},
		"colliding ports":   {inGroup("network {\nport \"a\" {\nstatic = 80\n}\nport \"b\" {\nstatic = 80\n}\n}"), `f.hcl:8,1: Invalid job: group "g" network port "b": static: 80 is port "a" already.`},
		"regexp in sugar":   {inGroup("constraint {\nattribute = \"a\"\nregexp = \"(\"\n}"), "f.hcl:5,1: Invalid job: group \"g\" constraint: value: error parsing regexp: missing closing ): `(`."},
		"update of a batch": {"job \"j\" {\ntype = \"batch\"\nupdate {}\ntask \"t\" {\ndriver = \"x\"\n}\n}", `f.hcl:3,1: Invalid job: update: batch jobs have none.`},

		"no job":                  {"locals {}", `f.hcl:1,10: No job: A job file has one job block.`},
		"empty file":              {"", `f.hcl:1,1: No job: A job file has one job block.`},
		"two jobs":                {inTask("") + "\njob \"k\" {}", `f.hcl:9,1: Second job: A job file has one job block; the first is at line 1.`},
		"argument outside blocks": {"a = 1\n" + inTask(""), `f.hcl:1,1: Unexpected argument: A job file has blocks only: job, variable, variables and locals.`},
		"block outside":           {"local {}\n" + inTask(""), `f.hcl:1,1: Unknown block: there is no "local" here; did you mean "locals"?`},
		"JSON":                    {`{"job": {}}`, `f.hcl:1,1: JSON instead of HCL: Job files in JSON are read with --json, in the form of the API.`},
		"too large":               {strings.Repeat("#", 1<<20+1), `f.hcl:1,1: File too large: A job file has at most 1048576 bytes.`},
		"brackets too deep":       {"a = " + strings.Repeat("[", 100_000), `f.hcl:1,255: Nested too deeply: No job file needs that.`},
		"templates too deep":      {"a = " + strings.Repeat(`"${`, 1000), `f.hcl:1,380: Nested too deeply: No job file needs that.`},
		"operators without end":   {"a = " + strings.Repeat("!", 500_000), `f.hcl:1,20005: Nested too deeply: No job file needs that.`},

		"dynamic without for_each":   {inGroup("dynamic \"restart\" {\ncontent {}\n}"), `f.hcl:3,1: Missing argument: A dynamic block needs for_each.`},
		"dynamic without content":    {inGroup("dynamic \"restart\" {\nfor_each = []\n}"), `f.hcl:3,1: Missing block: A dynamic block needs content.`},
		"dynamic with two contents":  {inGroup("dynamic \"restart\" {\nfor_each = []\ncontent {}\ncontent {}\n}"), `f.hcl:6,1: Duplicate block: A dynamic block has one content; the first is at line 5.`},
		"dynamic over a text":        {inGroup("dynamic \"restart\" {\nfor_each = \"abc\"\ncontent {}\n}"), `f.hcl:4,12: Nothing to repeat: for_each wants a list, set, map or object, not a string.`},
		"dynamic of what is unknown": {inGroup("dynamic \"restrat\" {\nfor_each = [1]\ncontent {}\n}"), `f.hcl:3,1: Unknown name: there is no "restrat" here; did you mean "restart"?`},
		"dynamic with an unknown":    {inGroup("dynamic \"restart\" {\nforeach = [1]\nfor_each = []\ncontent {}\n}"), `f.hcl:4,1: Unknown argument: there is no "foreach" here; did you mean "for_each"?`},
		"dynamic without a label":    {inGroup("dynamic {\nfor_each = []\ncontent {}\n}"), `f.hcl:3,1: Wrong labels: A dynamic block has one label: the kind of block that it makes.`},
		"dynamic dynamic":            {inGroup("dynamic \"dynamic\" {\nfor_each = []\ncontent {}\n}"), `f.hcl:3,1: Wrong label: A dynamic block cannot make dynamic blocks.`},
		"iterator in quotes":         {inGroup("dynamic \"restart\" {\nfor_each = []\niterator = \"x\"\ncontent {}\n}"), `f.hcl:5,12: Wrong iterator: An iterator is a name without quotes.`},
		"another block in it":        {inGroup("dynamic \"restart\" {\nfor_each = []\ncontent {}\nother {}\n}"), `f.hcl:6,1: Unknown block: there is no "other" here; known are content.`},
		"labels that are no list":    {inGroup("network {\ndynamic \"port\" {\nfor_each = [1]\nlabels = \"a\"\ncontent {}\n}\n}"), `f.hcl:6,10: Wrong labels: want a list of strings, not a string.`},
	} {
		t.Run(rule, func(t *testing.T) {
			if got := one(t, row.src); got != row.want {
				t.Errorf("got  %s\nwant %s\nfor:\n%.400s", got, row.want, row.src)
			}
		})
	}
}

func TestWhatCannotBeDecodedIsReportedOnce(t *testing.T) {
	for rule, src := range map[string]string{
		"an argument":           "job \"j\" {\ntask \"t\" {\ndriver = [\"a\"]\n}\n}",
		"one that fails":        "job \"j\" {\ntask \"t\" {\ndriver = file(\"a\")\n}\n}",
		"a missing label":       "job {\ntask \"t\" {\ndriver = \"a\"\n}\n}",
		"an operator's value":   "job \"j\" {\nconstraint {\nattribute = \"${attr.x}\"\nregexp = [1]\n}\ntask \"t\" {\ndriver = \"a\"\n}\n}",
		"the label of a group":  "job \"j\" {\ngroup {\ntask \"t\" {\ndriver = \"a\"\n}\n}\n}",
		"a duration for memory": "job \"j\" {\ntask \"t\" {\ndriver = \"a\"\nresources {\nmemory = \"10s\"\n}\n}\n}",
	} {
		t.Run(rule, func(t *testing.T) {
			_, _, err := jobspec.Parse("f.hcl", []byte(src), jobspec.Options{})
			e, ok := errors.AsType[*jobspec.Error](err)
			if !ok || len(e.Diags) != 1 {
				t.Errorf("error %v, want one problem", err)
			}
		})
	}
}
