package compat

import (
	"bytes"
	"errors"
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
	code := m.Run()
	return code, leftBehind()
}

// leftBehind names processes that run the binary when every test has ended.
func leftBehind() error {
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return err
	}
	var left []error
	for _, exe := range exes {
		if to, err := os.Readlink(exe); err == nil && to == brumeBin { // others are not ours to read, or have ended
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
			left = append(left, fmt.Errorf("left behind: %s", bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return errors.Join(left...)
}
