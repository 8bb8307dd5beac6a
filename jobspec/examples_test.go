package jobspec_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/brumehq/brume/jobspec"
)

func TestExamplesParseCleanly(t *testing.T) {
	paths, err := filepath.Glob("../examples/*.hcl")
	if err != nil || len(paths) < 3 {
		t.Fatalf("examples: %v, %v; want at least three", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			job, warnings, err := jobspec.Parse(path, src, jobspec.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if all := append(warnings, job.Warnings()...); len(all) > 0 {
				t.Errorf("Parse(%s) warns: %q", path, all)
			}
			if want := filepath.Base(path); job.ID+".hcl" != want {
				t.Errorf("the job of %s is named %q", want, job.ID)
			}
			if out, err := jobspec.Format(path, src); err != nil || string(out) != string(src) {
				t.Errorf("%s is not formatted: %v", path, err)
			}
		})
	}
}
