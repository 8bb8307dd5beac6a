package jobspec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/jobspec"
)

// withVariables is a job whose configuration is the declared variable x.
func withVariables(declarations string) []byte {
	return []byte(declarations + "\njob \"j\" {\ntask \"t\" {\ndriver = \"fake\"\nconfig {\nv = var.x\n}\n}\n}")
}

func TestWhereValuesComeFrom(t *testing.T) {
	text := `variable "x" { default = "file" }`
	for rule, row := range map[string]struct {
		declared string
		opts     jobspec.Options
		want     any
	}{
		"default":                 {text, jobspec.Options{}, "file"},
		"environment":             {text, jobspec.Options{Env: []string{"NOMAD_VAR_x=env", "X=no"}}, "env"},
		"own environment first":   {text, jobspec.Options{Env: []string{"BRUME_VAR_x=own", "NOMAD_VAR_x=env"}}, "own"},
		"file over environment":   {text, jobspec.Options{Env: []string{"BRUME_VAR_x=env"}, VarFiles: files(`x = "f"`)}, "f"},
		"last file":               {text, jobspec.Options{VarFiles: files(`x = "f"`, `x = "g"`)}, "g"},
		"flag over file":          {text, jobspec.Options{VarFiles: files(`x = "f"`), Vars: []string{"x=flag"}}, "flag"},
		"last flag":               {text, jobspec.Options{Vars: []string{"x=a", "x=b=c"}}, "b=c"},
		"flag of a text":          {`variable "x" { type = string }`, jobspec.Options{Vars: []string{`x=["a"]`}}, `["a"]`},
		"flag of a number":        {`variable "x" { type = number }`, jobspec.Options{Vars: []string{"x=7"}}, int64(7)},
		"flag of a list":          {`variable "x" { type = list(number) }`, jobspec.Options{Vars: []string{"x=[1, 2]"}}, list{int64(1), int64(2)}},
		"flag like the default":   {`variable "x" { default = [1] }`, jobspec.Options{Vars: []string{"x=[2]"}}, list{int64(2)}},
		"type in quotes":          {`variable "x" { type = "number" }`, jobspec.Options{Vars: []string{"x=7"}}, int64(7)},
		"default is converted":    {"variable \"x\" {\ntype = string\ndefault = 7\n}", jobspec.Options{}, "7"},
		"optional attributes":     {"variable \"x\" {\ntype = object({ a = optional(string, \"d\") })\ndefault = {}\n}", jobspec.Options{}, object{"a": "d"}},
		"functions in a default":  {`variable "x" { default = upper("a") }`, jobspec.Options{}, "A"},
		"functions in a file":     {text, jobspec.Options{VarFiles: files(`x = upper("f")`)}, "F"},
		"variables block":         {"variables {\nx = \"short\"\n}", jobspec.Options{}, "short"},
		"null":                    {`variable "x" { default = null }`, jobspec.Options{}, nil},
		"another file's variable": {text, jobspec.Options{Env: []string{"NOMAD_VAR_other=1"}}, "file"},
		"valid": {"variable \"x\" {\ndefault = 5\nvalidation {\ncondition = var.x > 3 && var.x < 7\nerror_message = \"no\"\n}\n}",
			jobspec.Options{}, int64(5)},
	} {
		t.Run(rule, func(t *testing.T) {
			job, warnings, err := jobspec.Parse("f.hcl", withVariables(row.declared), row.opts)
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			if diff := cmp.Diff(row.want, job.TaskGroups[0].Tasks[0].Config["v"]); diff != "" {
				t.Errorf("var.x (-want +got):\n%s", diff)
			}
		})
	}
}

func files(sources ...string) []jobspec.File {
	var list []jobspec.File
	for _, s := range sources {
		list = append(list, jobspec.File{Name: "vars.hcl", Source: []byte(s)})
	}
	return list
}

func TestWrongVariables(t *testing.T) {
	for rule, row := range map[string]struct {
		declared string
		opts     jobspec.Options
		want     string
	}{
		"no value":            {`variable "x" {}`, jobspec.Options{}, `f.hcl:1,1: Variable without a value: "x" has no default: set it with --var x=VALUE, in a --var-file, or in NOMAD_VAR_x.`},
		"declared twice":      {"variable \"x\" { default = 1 }\nvariables {\nx = 2\n}", jobspec.Options{}, `f.hcl:3,1: Duplicate variable: "x" is declared already, at line 1.`},
		"not declared":        {`variable "y" { default = 1 }`, jobspec.Options{}, `f.hcl:6,5: Undeclared variable: there is no variable "x"`},
		"flag not declared":   {`variable "x" { default = 1 }`, jobspec.Options{Vars: []string{"xx=1"}}, `--var xx:1,1: Undeclared variable: the job file declares no variable "xx"; did you mean "x"?`},
		"file not declared":   {`variable "x" { default = 1 }`, jobspec.Options{VarFiles: files("a = 1")}, `vars.hcl:1,1: Undeclared variable`},
		"flag without value":  {`variable "x" { default = 1 }`, jobspec.Options{Vars: []string{"x"}}, `--var x:1,1: Wrong flag: --var wants NAME=VALUE.`},
		"flag of wrong type":  {`variable "x" { type = number }`, jobspec.Options{Vars: []string{`x="a"`}}, `--var x:1,1: Wrong value: variable "x" is number: a number is required.`},
		"flag of bad syntax":  {`variable "x" { type = number }`, jobspec.Options{Vars: []string{"x=["}}, `--var x:1,2: `},
		"flag too deep":       {`variable "x" { type = number }`, jobspec.Options{Vars: []string{"x=" + strings.Repeat("(", 999)}}, `--var x:1,251: Nested too deeply`},
		"default of type":     {"variable \"x\" {\ntype = list(string)\ndefault = \"a\"\n}", jobspec.Options{}, `f.hcl:3,11: Wrong value: variable "x" is list(string): `},
		"unknown type":        {`variable "x" { type = text }`, jobspec.Options{Vars: []string{"x=1"}}, `f.hcl:1,23: Invalid type specification`},
		"unknown argument":    {"variable \"x\" {\ndefault = 1\ndefalt = 1\n}", jobspec.Options{}, `f.hcl:3,1: Unknown argument: there is no "defalt" here; did you mean "default"?`},
		"unknown block":       {"variable \"x\" {\ndefault = 1\nvalidate {}\n}", jobspec.Options{}, `f.hcl:3,1: Unknown block: there is no "validate" here; did you mean "validation"?`},
		"without a label":     {"variable {}\nvariable \"x\" { default = 1 }", jobspec.Options{}, `f.hcl:1,1: Wrong labels`},
		"bad name":            {"variable \"a b\" {}\nvariable \"x\" { default = 1 }", jobspec.Options{}, `f.hcl:1,1: Wrong name: "a b" cannot be the name of a variable.`},
		"description":         {"variable \"x\" {\ndefault = 1\ndescription = 7\n}", jobspec.Options{}, `f.hcl:3,15: Wrong value: want a string, not a number.`},
		"sensitive":           {"variable \"x\" {\ndefault = 1\nsensitive = \"so-so\"\n}", jobspec.Options{}, `f.hcl:3,13: Wrong value: sensitive is true or false.`},
		"refers to another":   {"variable \"x\" { default = var.y }\nvariable \"y\" { default = 1 }", jobspec.Options{}, `f.hcl:1,26: Unexpected reference`},
		"block in a file":     {`variable "x" { default = 1 }`, jobspec.Options{VarFiles: files("x {}")}, `vars.hcl:1,1: Unexpected block: A file of variables holds NAME = VALUE only.`},
		"syntax of a file":    {`variable "x" { default = 1 }`, jobspec.Options{VarFiles: files("x = ")}, `vars.hcl:1,5: `},
		"invalid":             {"variable \"x\" {\ndefault = 9\nvalidation {\ncondition = var.x < 7\nerror_message = \"x is ${var.x}\"\n}\n}", jobspec.Options{}, `f.hcl:1,1: Invalid value: variable "x": x is 9`},
		"bad condition":       {"variable \"x\" {\ndefault = 9\nvalidation {\ncondition = \"no\"\nerror_message = \"\"\n}\n}", jobspec.Options{}, `f.hcl:4,13: Wrong condition: A condition is true or false.`},
		"half a validation":   {"variable \"x\" {\ndefault = 9\nvalidation {\ncondition = true\n}\n}", jobspec.Options{}, `f.hcl:3,1: Missing argument: A validation needs condition and error_message.`},
		"block in variables":  {"variables {\nx = 1\ny {}\n}", jobspec.Options{}, `f.hcl:3,1: Unexpected block: variables holds names and defaults only.`},
		"circular locals":     {"variable \"x\" { default = 1 }\nlocals {\na = local.b\nb = local.a\n}", jobspec.Options{}, `f.hcl:3,1: Circular local: "a" refers to itself, directly or through others.`},
		"duplicate local":     {"variable \"x\" { default = 1 }\nlocals {\na = 1\n}\nlocals {\na = 1\n}", jobspec.Options{}, `f.hcl:6,1: Duplicate local: "a" is defined already, at line 3.`},
		"undeclared local":    {"variable \"x\" { default = 1 }\nlocals {\naa = 1\nb = local.a\n}", jobspec.Options{}, `f.hcl:4,5: Undeclared local: there is no local "a"; did you mean local.aa?`},
		"block in locals":     {"variable \"x\" { default = 1 }\nlocals {\na {}\n}", jobspec.Options{}, `f.hcl:3,1: Unexpected block: locals holds NAME = VALUE only.`},
		"label on locals":     {"variable \"x\" { default = 1 }\nlocals \"a\" {}", jobspec.Options{}, `f.hcl:2,1: Wrong labels: A locals block has none.`},
		"error inside locals": {"variable \"x\" { default = 1 }\nlocals {\na = 1 + \"b\"\nc = local.a\n}", jobspec.Options{}, `f.hcl:3,9: Invalid operand`},
	} {
		t.Run(rule, func(t *testing.T) {
			_, _, err := jobspec.Parse("f.hcl", withVariables(row.declared), row.opts)
			if err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("error %v\nwant  %s", err, row.want)
			}
		})
	}
}

func TestUndeclaredVariablesAreWarningsWhenLenient(t *testing.T) {
	_, warnings, err := jobspec.Parse("f.hcl", withVariables(`variable "x" { default = 1 }`), jobspec.Options{
		Lenient: true, Vars: []string{"y=1"}, VarFiles: files("z = 1"),
	})
	want := []string{
		`vars.hcl:1,1: Undeclared variable: the job file declares no variable "z"; did you mean "x"?`,
		`--var y:1,1: Undeclared variable: the job file declares no variable "y"; did you mean "x"?`,
	}
	if err != nil || !cmp.Equal(warnings, want) {
		t.Errorf("warnings %q, %v\nwant %q", warnings, err, want)
	}
}

func TestSensitiveValuesAreNotShown(t *testing.T) {
	const secret = "hunter2hunter2"
	src := "variable \"x\" {\ntype = string\nsensitive = true\n}\n" +
		"job \"j\" {\ntask \"t\" {\ndriver = \"fake\"\nkill_timeout = var.x\nkill_signal = var.x\n}\n}"
	_, _, err := jobspec.Parse("f.hcl", []byte(src), jobspec.Options{Vars: []string{"x=" + secret}})
	if err == nil || strings.Contains(err.Error(), secret) || strings.Count(err.Error(), "(sensitive)") != 2 {
		t.Errorf("error %v; want two problems without the value", err)
	}
}

// A file of variables may have the job file's name, as when both come from a pipe: positions are still in the right text.
func TestTwoFilesOfOneName(t *testing.T) {
	src := "variable \"x\" {}\njob \"j\" {\n  datacenters = [attr.platform.aws.placement.availability-zone]\n  prioriti = 1\n}"
	vars := []jobspec.File{{Name: "f", Source: []byte("y = 1")}}
	_, _, err := jobspec.Parse("f", []byte(src), jobspec.Options{VarFiles: vars})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"f (2):1,1: Undeclared variable", "f:4,3: Unknown name", "4 |   prioriti = 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestLocalsReferToEachOtherInAnyOrder(t *testing.T) {
	for rule, expr := range map[string]string{
		"by name": `local.b`, "by key": `local["b"]`, "in a loop": `join("", [for x in ["1"] : "${local.b}"])`,
	} {
		t.Run(rule, func(t *testing.T) {
			src := "locals {\na = " + expr + "\nb = \"${local.c}\"\nc = \"deep\"\n}\n" +
				"job \"j\" {\nmeta = { v = local.a }\ntask \"t\" {\ndriver = \"fake\"\n}\n}"
			job, _, err := jobspec.Parse("f.hcl", []byte(src), jobspec.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := job.Meta["v"]; got != "deep" {
				t.Errorf("local.a is %q, want deep", got)
			}
		})
	}
}
