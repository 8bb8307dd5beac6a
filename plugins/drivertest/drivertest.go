package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brumehq/brume/plugins"
)

// Suite is a driver to be tested, and the config blocks that make its tasks do what the tests need.
type Suite struct {
	Client plugins.Client
	// Restart ends the process of the driver, as a crash would, and returns the client of its next one. nil: the tests of
	// that are left out.
	Restart func(t *testing.T) plugins.Client

	Exits  func(code int) map[string]any // a task that ends at once with that code
	Lives  map[string]any                // one that ends only when it is told to
	Stays  map[string]any                // one that prints a line and from then on withstands all signals but SIGKILL
	Prints func(text string) map[string]any
	Wrong  []map[string]any // blocks that the schema refuses
	Env    map[string]string
}

// patience bounds what must not take long.
const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("capabilities can be asked", s.capabilities)
	t.Run("the schema refuses wrong configuration", s.schema)
	t.Run("the fingerprint says that it is healthy", s.fingerprint)
	t.Run("a task's exit code is reported to all who wait, each time", s.exit)
	t.Run("a task that nobody knows is not found", s.unknown)
	t.Run("waiting ends with its context", s.waitEnds)
	t.Run("a stopped task ends", s.stop)
	t.Run("a task that does not stop is killed", s.kill)
	t.Run("stopping an ended task does nothing", s.stopEnded)
	t.Run("a running task is destroyed only by force", s.destroy)
	t.Run("recovering a known task does nothing", s.recoverKnown)
	t.Run("a start that never came to be cannot be recovered", s.recoverLost)
	t.Run("a task outlives its driver's process", s.restart)
	t.Run("output goes to its pipe", s.output)
	t.Run("inspect tells how a task fares", s.inspect)
	t.Run("stats come until the task ends", s.stats)
	t.Run("signals that do not exist are refused", s.signal)
}

// started counts tasks, for their IDs.
var started atomic.Int64

// task makes a task's configuration, with output to files.
func (s *Suite) task(t *testing.T, config map[string]any) *plugins.TaskConfig {
	t.Helper()
	data, err := s.Client.EncodeTaskConfig(t.Context(), config, nil)
	if err != nil {
		t.Fatalf("config %v: %v", config, err)
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), started.Add(1))
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "task"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &plugins.TaskConfig{
		ID: id, Name: "task", AllocID: id, DriverConfig: data, AllocDir: dir, Env: maps.Clone(s.Env), JobID: "job", JobName: "job",
		GroupName: "group", Namespace: "default", NodeID: "node", NodeName: "node",
		StdoutPath: filepath.Join(dir, "out"), StderrPath: filepath.Join(dir, "err"),
		Resources: plugins.Resources{CPUShares: 100, MemoryMB: 64},
	}
}

// start starts a task, which is destroyed at the test's end.
func (s *Suite) start(t *testing.T, config map[string]any) *plugins.TaskHandle {
	t.Helper()
	return s.launch(t, s.task(t, config))
}

func (s *Suite) launch(t *testing.T, task *plugins.TaskConfig) *plugins.TaskHandle {
	t.Helper()
	handle, _, err := s.Client.Start(t.Context(), task)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Client.Destroy(ctx, task.ID, true) // it may be destroyed already
	})
	if handle.Config == nil || handle.Config.ID != task.ID || handle.Version < 1 || handle.State != plugins.TaskStateRunning {
		t.Fatalf("handle %+v, want that of running task %s, of a version from 1", handle, task.ID)
	}
	return handle
}

func (s *Suite) wait(t *testing.T, id string) plugins.ExitResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := s.Client.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return result
}

// running checks that a task has not ended.
func (s *Suite) running(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if result, err := s.Client.Wait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("wait for a running task: %+v, %v, want none until the context ends", result, err)
	}
}
