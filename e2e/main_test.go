package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// brumeBin is the binary under test: BRUME_BIN, else one built for this run.
var brumeBin string

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "count" {
		os.Exit(count(os.Args[2]))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "brume-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	brumeBin = filepath.Join(dir, "brume")
	build := exec.Command("go", "build", "-o", brumeBin, module+"/cmd/brume")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build brume: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// need skips the test unless the machine has what; where BRUME_TEST_REQUIRE names it, its absence is a failure.
func need(t testing.TB, what string, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	for name := range strings.SplitSeq(os.Getenv("BRUME_TEST_REQUIRE"), ",") {
		if name == what {
			t.Fatalf("%s is required here: %v", what, missing)
		}
	}
	t.Skipf("SKIP %s: %v", what, missing)
}
