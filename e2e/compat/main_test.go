package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// brumeBin is the binary under test: BRUME_BIN, else one built for this run.
var brumeBin string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if brumeBin = os.Getenv("BRUME_BIN"); brumeBin != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "brume-compat-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	brumeBin = filepath.Join(dir, "brume")
	build := exec.Command("go", "build", "-o", brumeBin, "./cmd/brume")
	build.Dir = filepath.Join("..", "..") // the product's own module: this one has other dependencies
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build brume: %w\n%s", err, out)
	}
	return m.Run(), nil
}
