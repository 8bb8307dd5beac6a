package drivertest

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/plugins"
)

func (s *Suite) capabilities(t *testing.T) {
	if _, err := s.Client.Capabilities(t.Context()); err != nil {
		t.Error(err)
	}
}

func (s *Suite) schema(t *testing.T) {
	wrong := append([]map[string]any{{"no_driver_has_this": 1}}, s.Wrong...)
	for _, config := range wrong {
		if data, err := s.Client.EncodeTaskConfig(t.Context(), config, nil); err == nil {
			t.Errorf("config %v is taken as %x", config, data)
		}
	}
}

func (s *Suite) fingerprint(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	prints, err := s.Client.Fingerprint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if f := <-prints; f.Health != plugins.Healthy || f.Err != nil || len(f.Attributes) == 0 {
		t.Errorf("fingerprint %+v, want a healthy one with attributes", f)
	}
	cancel()
	for range prints { // it is closed when the context ends
	}
}

func (s *Suite) exit(t *testing.T) {
	for _, code := range []int{0, 7} {
		id := s.start(t, s.Exits(code)).Config.ID
		results := make(chan plugins.ExitResult)
		for range 3 {
			go func() { results <- s.wait(t, id) }()
		}
		for range 3 {
			if got := <-results; got != (plugins.ExitResult{ExitCode: code}) {
				t.Errorf("exit %+v, want %d", got, code)
			}
		}
		if got := s.wait(t, id); got.ExitCode != code {
			t.Errorf("asked again: exit %+v, want %d", got, code)
		}
	}
}

func (s *Suite) unknown(t *testing.T) {
	ctx, id := t.Context(), "no-such-task"
	_, waitErr := s.Client.Wait(ctx, id)
	for call, err := range map[string]error{
		"wait": waitErr, "stop": s.Client.Stop(ctx, id, time.Second, "SIGTERM"), "destroy": s.Client.Destroy(ctx, id, true),
	} {
		if !errors.Is(err, plugins.ErrTaskNotFound) {
			t.Errorf("%s: %v, want %v", call, err, plugins.ErrTaskNotFound)
		}
	}
}

func (s *Suite) waitEnds(t *testing.T) {
	id := s.start(t, s.Lives).Config.ID
	s.running(t, id)
}

func (s *Suite) stop(t *testing.T) {
	id := s.start(t, s.Lives).Config.ID
	if err := s.Client.Stop(t.Context(), id, patience, "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if got := s.wait(t, id); got.Signal == int(unix.SIGKILL) {
		t.Errorf("exit %+v: it was killed, not stopped", got)
	}
}

func (s *Suite) kill(t *testing.T) {
	if s.Stays == nil {
		t.Skip("the driver has no task that withstands signals")
	}
	id, line := s.startAndRead(t, s.Stays)
	t.Log("it says ", line)
	began := time.Now()
	if err := s.Client.Stop(t.Context(), id, 300*time.Millisecond, "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if got := s.wait(t, id); got.Signal != int(unix.SIGKILL) && got.ExitCode != 137 {
		t.Errorf("exit %+v, want that of SIGKILL", got)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it was killed after %v, before its timeout", took)
	}
}

func (s *Suite) stopEnded(t *testing.T) {
	id := s.start(t, s.Exits(3)).Config.ID
	s.wait(t, id)
	if err := s.Client.Stop(t.Context(), id, patience, "SIGTERM"); err != nil {
		t.Error(err)
	}
	if got := s.wait(t, id); got.ExitCode != 3 {
		t.Errorf("exit %+v, want 3", got)
	}
}

func (s *Suite) destroy(t *testing.T) {
	id := s.start(t, s.Lives).Config.ID
	if err := s.Client.Destroy(t.Context(), id, false); err == nil || errors.Is(err, plugins.ErrTaskNotFound) {
		t.Fatalf("destroy a running task: %v, want an error", err)
	}
	s.running(t, id)
	if err := s.Client.Destroy(t.Context(), id, true); err != nil {
		t.Fatalf("destroy by force: %v", err)
	}
	if err := s.Client.Destroy(t.Context(), id, true); !errors.Is(err, plugins.ErrTaskNotFound) {
		t.Errorf("destroy again: %v, want %v", err, plugins.ErrTaskNotFound)
	}
	ended := s.start(t, s.Exits(0)).Config.ID
	s.wait(t, ended)
	if err := s.Client.Destroy(t.Context(), ended, false); err != nil {
		t.Errorf("destroy an ended task: %v", err)
	}
}

func (s *Suite) recoverKnown(t *testing.T) {
	handle := s.start(t, s.Lives)
	for range 2 {
		if err := s.Client.Recover(t.Context(), handle); err != nil {
			t.Error(err)
		}
	}
	s.running(t, handle.Config.ID)
}

func (s *Suite) recoverLost(t *testing.T) {
	handle := &plugins.TaskHandle{Config: s.task(t, s.Lives), State: plugins.TaskStateRunning}
	if err := s.Client.Recover(t.Context(), handle); err == nil {
		t.Error("it was recovered")
	}
}

func (s *Suite) restart(t *testing.T) {
	if s.Restart == nil {
		t.Skip("SKIP process: the driver is not in one of its own")
	}
	lives := s.start(t, s.Lives)
	ended := s.start(t, s.Exits(9))
	s.wait(t, ended.Config.ID)
	pending := make(chan error)
	go func() {
		_, err := s.Client.Wait(t.Context(), lives.Config.ID)
		pending <- err
	}()
	before := s.Client
	s.Client = s.Restart(t)
	if err := <-pending; !errors.Is(err, plugins.ErrPluginGone) {
		t.Errorf("a wait that was pending: %v, want %v", err, plugins.ErrPluginGone)
	}
	if _, err := before.Wait(t.Context(), lives.Config.ID); !errors.Is(err, plugins.ErrPluginGone) {
		t.Errorf("a wait on what is gone: %v, want %v", err, plugins.ErrPluginGone)
	}
	for _, handle := range []*plugins.TaskHandle{lives, ended} {
		if err := s.Client.Recover(t.Context(), handle); err != nil {
			t.Fatalf("recover: %v", err)
		}
	}
	s.running(t, lives.Config.ID)
	if got := s.wait(t, ended.Config.ID); got.ExitCode != 9 {
		t.Errorf("exit of one that ended before: %+v, want 9", got)
	}
	if err := s.Client.Stop(t.Context(), lives.Config.ID, patience, "SIGTERM"); err != nil {
		t.Error(err)
	}
	s.wait(t, lives.Config.ID)
}

func (s *Suite) output(t *testing.T) {
	if s.Prints == nil {
		t.Skip("the driver has no task that prints")
	}
	if _, line := s.startAndRead(t, s.Prints("hello from a task\n")); line != "hello from a task" {
		t.Errorf("it printed %q", line)
	}
}

// startAndRead starts a task whose output is a pipe, and returns its first line.
func (s *Suite) startAndRead(t *testing.T, config map[string]any) (id, line string) {
	t.Helper()
	task := s.task(t, config)
	if err := unix.Mkfifo(task.StdoutPath, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(task.StdoutPath, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	s.launch(t, task)
	if err := pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err = bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return task.ID, strings.TrimSpace(line)
}

func (s *Suite) inspect(t *testing.T) {
	id := s.start(t, s.Lives).Config.ID
	status, err := s.Client.Inspect(t.Context(), id)
	if errors.Is(err, plugins.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || status.State != plugins.TaskStateRunning || status.ID != id || status.StartedAt.IsZero() || status.Exit != nil {
		t.Fatalf("a running task is %+v, %v", status, err)
	}
	if err := s.Client.Stop(t.Context(), id, patience, ""); err != nil {
		t.Fatal(err)
	}
	s.wait(t, id)
	status, err = s.Client.Inspect(t.Context(), id)
	if err != nil || status.State != plugins.TaskStateExited || status.Exit == nil || status.CompletedAt.IsZero() {
		t.Errorf("an ended task is %+v, %v", status, err)
	}
}

func (s *Suite) stats(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id := s.start(t, s.Lives).Config.ID
	usage, err := s.Client.Stats(ctx, id, 100*time.Millisecond)
	if errors.Is(err, plugins.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := <-usage; !ok || u.Time.IsZero() || u.Memory.RSS == nil {
		t.Fatalf("usage %+v, %v, want one with memory", u, ok)
	}
	if err := s.Client.Stop(t.Context(), id, patience, ""); err != nil {
		t.Fatal(err)
	}
	for range usage { // it is closed when the task ends
	}
	if ctx.Err() != nil {
		t.Error("stats did not end with the task")
	}
}

func (s *Suite) signal(t *testing.T) {
	id := s.start(t, s.Lives).Config.ID
	err := s.Client.Signal(t.Context(), id, "SIGNONSENSE")
	if errors.Is(err, plugins.ErrUnsupported) {
		t.Skip(err)
	}
	if err == nil {
		t.Error("SIGNONSENSE was sent")
	}
	if err := s.Client.Signal(t.Context(), id, "SIGCONT"); err != nil {
		t.Error(err)
	}
	s.running(t, id)
}
