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
		"texts that double":      {locals(texts.String()), `local.a60`, "Too much to evaluate"},
		"lists that double":      {locals(lists.String()), `length(local.a60)`, "Too much to evaluate"},
		"loops in loops":         {"", `length([for a in range(1024) : [for b in range(1024) : [for c in range(1024) : 1]]])`, "Too much to evaluate"},
		"calls of calls":         {"", strings.Repeat("jsonencode([", 30) + `"\"\"\"\"\"\"\"\""` + strings.Repeat("])", 30), "Too much to evaluate"},
		"a hash of a year":       {"", `bcrypt("a", 31)`, "a cost above 14 takes too long"},
		"a padded text":          {"", `format("%999999999d", 1)`, "the result would be too large"},
		"a padded list":          {"", `formatlist("%-99999s", ["a"])`, "the result would be too large"},
		"a wide indent":          {"", `indent(999999999, "a\nb")`, "the result would be too large"},
		"a product":              {"", `setproduct(range(1024), range(1024), range(1024))`, "the result would be too large"},
		"a long separator":       {"", fmt.Sprintf("join(%q, range(1024))", strings.Repeat("x", 100_000)), "the result would be too large"},
		"a long replacement":     {"", fmt.Sprintf("replace(%q, \"x\", %q)", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)), "the result would be too large"},
		"a long replacement too": {"", fmt.Sprintf("regex_replace(%q, \"x\", %q)", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)), "the result would be too large"},
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
