package jobspec_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/jobspec"
)

// FuzzParse holds that no text makes the parser panic, and that a job that it returns is valid and goes through JSON
// without loss.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"../examples/*.hcl", "testdata/*.hcl"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			src, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	for _, s := range []string{
		"", "job", `job "" {}`, "variable \"x\" {\ntype = any\n}", "locals {\na = local.a\n}", inTask("config {\na = 1e308\n}"),
		inGroup("dynamic \"task\" {\nfor_each = { a = 1 }\nlabels = [task.key]\ncontent {\ndriver = task.value\n}\n}"),
		inTask("config {\na = { for k in [1] : k => \"${k}${x}\" }\nb = [for x in {}: x]\n}"), "a = <<E\n${", "job \"a\" \"b\" {\n}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		job, _, err := jobspec.Parse("f.hcl", src, jobspec.Options{Vars: []string{"x=1"}, Lenient: true})
		if err != nil {
			_ = err.Error()
			return
		}
		if err := job.Validate(); err != nil {
			t.Fatalf("Parse returned an invalid job: %v", err)
		}
		raw, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		again, err := jobspec.ParseJSON(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(job, again); diff != "" {
			t.Errorf("through JSON (-want +got):\n%s", diff)
		}
	})
}
