package jobspec_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/brumehq/brume/jobspec"
)

// Job files of a few lines that would take a machine's memory or a day: they fail, at once.
func TestNoJobFileTakesTheHubDown(t *testing.T) {
	var texts, lists strings.Builder
	texts.WriteString("a0 = \"0123456789abcdef\"\n")
	lists.WriteString("a0 = [1, 2]\n")
	for i := range 60 {
		fmt.Fprintf(&texts, "a%d = \"${local.a%d}${local.a%d}\"\n", i+1, i, i)
		fmt.Fprintf(&lists, "a%d = [local.a%d, local.a%d]\n", i+1, i, i)
	}
	locals := func(s string) string { return "locals {\n" + s + "}\n" }
	for rule, row := range map[string]struct{ before, expr, want string }{
		"texts that double":               {locals(texts.String()), `local.a60`, "Too much to evaluate"},
		"lists that double":               {locals(lists.String()), `length(local.a60)`, "Too much to evaluate"},
		"loops in loops":                  {"", `length([for a in range(1024) : [for b in range(1024) : [for c in range(1024) : 1]]])`, "Too much to evaluate"},
		"calls of calls":                  {"", strings.Repeat("jsonencode([", 30) + `"\"\"\"\"\"\"\"\""` + strings.Repeat("])", 30), "make more than 16 MiB"},
		"a hash of a year":                {"", `bcrypt("a", 31)`, "a cost above 14 takes too long"},
		"a padded text":                   {"", `format("%999999999d", 1)`, "the result would be too large"},
		"a padded list":                   {"", `formatlist("%-99999s", ["a"])`, "the result would be too large"},
		"a wide indent":                   {"", `indent(999999999, "a\nb")`, "the result would be too large"},
		"a product":                       {"", `setproduct(range(1024), range(1024), range(1024))`, "the result would be too large"},
		"a long separator":                {"", fmt.Sprintf("join(%q, range(1024))", strings.Repeat("x", 100_000)), "the result would be too large"},
		"a long replacement":              {"", fmt.Sprintf("replace(%q, \"x\", %q)", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)), "the result would be too large"},
		"a long replacement too":          {"", fmt.Sprintf("regex_replace(%q, \"x\", %q)", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)), "the result would be too large"},
		"a number of a billion zeros":     {"", `"${1e599999999}"`, "Number too long"},
		"such a number in a text":         {"", `format("%d", "1e599999999")`, "the result would be too large"},
		"such a number from JSON":         {"", `"${jsondecode("1e599999999")}"`, "Too much to evaluate"},
		"such a number rounded":           {"", `ceil("1e599999999")`, "make more than 16 MiB"},
		"the rest of such a number":       {"", `"1e599999999" % 3`, "Number too long"},
		"such a number as a variable":     {"variable \"n\" {\ntype = number\ndefault = \"1e599999999\"\n}\n", `"${var.n}"`, "Too much to evaluate"},
		"a product of long numbers":       {"locals {\na = 1e99999 * 1e99999\nb = local.a * local.a * local.a\nc = local.b * local.b * local.b * local.b\nd = local.c * local.c * local.c * local.c * local.c * local.c * local.c * local.c * local.c * local.c * local.c * local.c\n}\n", `"${local.d}"`, "Too much to evaluate"},
		"deep JSON":                       {"", fmt.Sprintf("jsondecode(%q)", strings.Repeat("[", 500_000)), "nested too deeply"},
		"deep YAML":                       {"", fmt.Sprintf("yamldecode(%q)", strings.Repeat("[", 500_000)), "nested too deeply"},
		"deep YAML in one line":           {"", fmt.Sprintf("yamldecode(%q)", strings.Repeat("- ", 400_000)), "nested too deeply"},
		"aliases of aliases":              {"", fmt.Sprintf("yamldecode(%q)", laughs()), "the result would be too large"},
		"one long text asked often":       {"locals {\na = join(\"\", [for i in range(1000) : \"" + strings.Repeat("x", 4000) + "\"])\n}\n", `[for i in range(1000) : strlen(local.a)]`, "make more than 16 MiB"},
		"a large pattern on a large text": {"", fmt.Sprintf("regex_replace(%q, \"((a|b|c){30}){30}z\", \"\")", strings.Repeat("a", 800_000)), "make more than 16 MiB"},
		"directives in directives":        {"", `"` + strings.Repeat("%{if true}", 30_000) + strings.Repeat("%{endif}", 30_000) + `"`, "Nested too deeply"},
		"indexes of indexes":              {"", "[for y in [0] : x" + strings.Repeat("[y]", 100_000) + "]", "Nested too deeply"},
	} {
		t.Run(rule, func(t *testing.T) {
			begun := time.Now()
			src := row.before + inTask("config {\nv = "+row.expr+"\n}")
			_, _, err := jobspec.Parse("f.hcl", []byte(src), jobspec.Options{})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %.300v, want %s", err, row.want)
			}
			if took := time.Since(begun); took > 30*time.Second { // unbounded, each takes hours or the memory
				t.Errorf("took %v", took)
			}
		})
	}
}

// Blocks that dynamic blocks of dynamic blocks make are counted over the whole file.
func TestDynamicBlocksDoNotMultiplyWithoutEnd(t *testing.T) {
	_, _, err := jobspec.Parse("f.hcl", []byte(`job "j" {
		dynamic "group" {
			for_each = range(200)
			labels   = ["g${group.value}"]
			content {
				dynamic "task" {
					for_each = range(200)
					labels   = ["t${task.value}"]
					content {
						driver = "raw_exec"
					}
				}
			}
		}
	}`), jobspec.Options{})
	if err == nil || !strings.Contains(err.Error(), "Too much to evaluate") {
		t.Errorf("error %.300v, want too much to evaluate", err)
	}
}

// What a file has thousands of is not looked through for each of them: wrong names for hints, locals for their values.
func TestManyNamesAreReadAtOnce(t *testing.T) {
	var src strings.Builder
	for i := range 15_000 {
		fmt.Fprintf(&src, "variable \"a%d\" { default = 1 }\n", i)
	}
	src.WriteString("locals {\n")
	for i := range 15_000 {
		fmt.Fprintf(&src, "a%d = 1\n", i)
	}
	src.WriteString("x = [" + strings.Repeat("var.b,", 20_000) + "]\n}\njob \"j\" {}\n")
	begun := time.Now()
	_, _, err := jobspec.Parse("f.hcl", []byte(src.String()), jobspec.Options{})
	if err == nil || !strings.Contains(err.Error(), `there is no variable "b"`) {
		t.Errorf("error %.300v", err)
	}
	if took := time.Since(begun); took > 30*time.Second { // with each, minutes
		t.Errorf("took %v", took)
	}
}

// laughs is YAML of a few lines that stands for 10^8 values.
func laughs() string {
	text := "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for c := 'b'; c <= 'h'; c++ {
		ref := fmt.Sprintf("*%c", c-1)
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(ref+",", 10), ","))
	}
	return text
}
