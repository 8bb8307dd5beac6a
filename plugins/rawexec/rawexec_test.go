package rawexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/drivertest"
	"github.com/brumehq/brume/plugins/keeper"
)

// TestMain turns this program into the plugin, or into a keeper.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "plugin" && os.Args[1] != "keeper" {
		os.Exit(m.Run())
	}
	var err error
	if os.Args[1] == "plugin" {
		err = Main()
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = keeper.Serve(ctx, keeper.Config{Socket: os.Args[2], Dir: os.Args[3]})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// keeping is a keeper in a process of its own.
type keeping struct {
	dir, socket string
	cmd         *exec.Cmd
}

func newKeeping(t *testing.T) *keeping {
	dir, err := os.MkdirTemp("", "rawexec") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	k := &keeping{dir: dir, socket: filepath.Join(dir, "keeper.sock")}
	k.start(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c, err := keeper.Dial(k.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if left, err := c.List(ctx); err != nil || len(left) > 0 {
			t.Errorf("left in the keeper: %+v, %v", left, err)
		}
		if err := c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		k.cmd.Wait()
		os.RemoveAll(dir)
	})
	return k
}

func (k *keeping) start(t *testing.T) {
	t.Helper()
	k.cmd = exec.Command(os.Args[0], "keeper", k.socket, filepath.Join(k.dir, "journal"))
	k.cmd.Stderr = t.Output()
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if c, err := keeper.Dial(k.socket); err == nil {
			c.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("the keeper does not answer")
}

func (k *keeping) kill() {
	k.cmd.Process.Kill()
	k.cmd.Wait()
}

func sh(script string) map[string]any {
	return map[string]any{"command": "sh", "args": []string{"-c", script}}
}

func suite(c plugins.Client) drivertest.Suite {
	return drivertest.Suite{
		Client: c,
		Exits:  func(code int) map[string]any { return sh(fmt.Sprintf("exit %d", code)) },
		Lives:  map[string]any{"command": "/bin/sleep", "args": []string{"1000"}},
		Stays:  sh("trap '' TERM INT; echo ready; while :; do sleep 0.01; done"),
		Prints: func(text string) map[string]any { return map[string]any{"command": "printf", "args": []string{text}} },
		Wrong:  []map[string]any{{}, {"command": []int{1}}, {"command": "x", "args": "y"}, {"command": "x", "cgroup": 1}},
		Env:    map[string]string{"PATH": "/usr/bin:/bin"},
	}
}

func TestConformance(t *testing.T) {
	t.Run("in process", func(t *testing.T) {
		d := New(newKeeping(t).socket)
		defer d.Close(t.Context())
		drivertest.Run(t, suite(plugins.InProcess(d)))
	})
	t.Run("over gRPC", func(t *testing.T) {
		d := New(newKeeping(t).socket)
		t.Cleanup(func() { d.Close(context.Background()) })
		drivertest.Run(t, suite(drivertest.OverGRPC(t, d)))
	})
	t.Run("as a plugin", func(t *testing.T) {
		k := newKeeping(t)
		program := &drivertest.Program{Path: os.Args[0], Args: []string{"plugin"}, Env: []string{KeeperEnv + "=" + k.socket}}
		s := suite(program.Start(t))
		s.Restart = program.Restart
		drivertest.Run(t, s)
	})
}

// task is a configured task in a directory of its own.
func task(t *testing.T, c plugins.Client, config map[string]any) *plugins.TaskConfig {
	t.Helper()
	data, err := c.EncodeTaskConfig(t.Context(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "task"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &plugins.TaskConfig{
		ID: t.Name(), Name: "task", AllocDir: dir, DriverConfig: data, StdoutPath: filepath.Join(dir, "out"),
		StderrPath: filepath.Join(dir, "err"), Env: map[string]string{"PATH": "/usr/bin:/bin", "COLOR": "red"},
	}
}

// run runs a task to its end and returns what it printed.
func run(t *testing.T, c plugins.Client, config map[string]any, change ...func(*plugins.TaskConfig)) (string, plugins.ExitResult) {
	t.Helper()
	spec := task(t, c, config)
	for _, f := range change {
		f(spec)
	}
	if _, _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	result, err := c.Wait(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Destroy(t.Context(), spec.ID, true); err != nil {
		t.Error(err)
	}
	out, err := os.ReadFile(spec.StdoutPath)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), result
}

func TestSurroundings(t *testing.T) {
	d := New(newKeeping(t).socket)
	defer d.Close(t.Context())
	c := plugins.InProcess(d)
	t.Run("the environment is the task's", func(t *testing.T) {
		if out, _ := run(t, c, map[string]any{"command": "env"}); out != "COLOR=red\nPATH=/usr/bin:/bin" {
			t.Errorf("environment %q", out)
		}
	})
	t.Run("the directory is the task's", func(t *testing.T) {
		if out, _ := run(t, c, map[string]any{"command": "pwd"}); !strings.HasSuffix(out, "/task") {
			t.Errorf("directory %q, want the task's", out)
		}
	})
	t.Run("work_dir is another directory", func(t *testing.T) {
		if out, _ := run(t, c, map[string]any{"command": "pwd", "work_dir": "/usr"}); out != "/usr" {
			t.Errorf("directory %q, want /usr", out)
		}
	})
	t.Run("a program in the task's directory comes first", func(t *testing.T) {
		put := func(spec *plugins.TaskConfig) {
			if err := os.WriteFile(filepath.Join(spec.TaskDir(), "pwd"), []byte("#!/bin/sh\necho mine"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, _ := run(t, c, map[string]any{"command": "pwd"}, put); out != "mine" {
			t.Errorf("it printed %q, want mine", out)
		}
	})
	t.Run("the user is the task's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("SKIP root: not root")
		}
		open := func(spec *plugins.TaskConfig) {
			spec.User = "nobody"
			for dir := spec.TaskDir(); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		if out, _ := run(t, c, map[string]any{"command": "id", "args": []string{"-un"}}, open); out != "nobody" {
			t.Errorf("user %q, want nobody", out)
		}
	})
}

func TestStartRefuses(t *testing.T) {
	d := New(newKeeping(t).socket)
	defer d.Close(t.Context())
	c := plugins.InProcess(d)
	for name, test := range map[string]struct {
		config map[string]any
		user   string
		want   string
	}{
		"a command that is nowhere":    {map[string]any{"command": "no-such-command"}, "", "neither in the task's directory nor in its PATH"},
		"an empty command":             {map[string]any{"command": " "}, "", "command is empty"},
		"a relative work_dir":          {map[string]any{"command": "true", "work_dir": "x"}, "", "not an absolute path"},
		"a user that does not exist":   {map[string]any{"command": "true"}, "no-such-user", "no-such-user"},
		"a program that is no program": {map[string]any{"command": "/etc"}, "", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := task(t, c, test.config)
			spec.User = test.user
			_, _, err := c.Start(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), test.want) || plugins.Recoverable(err) {
				t.Errorf("start: %v, want %q and no other try", err, test.want)
			}
		})
	}
}

func TestNoKeeper(t *testing.T) {
	c := plugins.InProcess(New(""))
	prints, err := c.Fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f := <-prints; f.Health != plugins.Undetected || !strings.Contains(f.Description, KeeperEnv) {
		t.Errorf("fingerprint %+v, want undetected for want of %s", f, KeeperEnv)
	}
	if _, _, err := c.Start(t.Context(), task(t, c, sh("true"))); err == nil || !strings.Contains(err.Error(), KeeperEnv) {
		t.Errorf("start: %v, want it to name %s", err, KeeperEnv)
	}
}

func TestDisabled(t *testing.T) {
	k := newKeeping(t)
	program := &drivertest.Program{
		Path: os.Args[0], Args: []string{"plugin"}, Env: []string{KeeperEnv + "=" + k.socket},
		Config: map[string]any{"enabled": false},
	}
	c := program.Start(t)
	if _, _, err := c.Start(t.Context(), task(t, c, sh("true"))); err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("start: %v, want disabled", err)
	}
}

func TestKeeperIsKilled(t *testing.T) {
	k := newKeeping(t)
	d := New(k.socket)
	defer d.Close(t.Context())
	c := plugins.InProcess(d)
	spec := task(t, c, map[string]any{"command": "/bin/sleep", "args": []string{"1000"}})
	if _, _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := c.Wait(t.Context(), spec.ID)
		waited <- err
	}()
	k.kill()
	k.start(t)
	select {
	case err := <-waited:
		t.Fatalf("the task goes on, and the wait returned %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := c.Stop(t.Context(), spec.ID, time.Second, "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, plugins.ErrExitUnknown) {
		t.Errorf("wait: %v, want %v", err, plugins.ErrExitUnknown)
	}
	if err := c.Destroy(t.Context(), spec.ID, true); err != nil {
		t.Error(err)
	}
}

func TestExec(t *testing.T) {
	d := New(newKeeping(t).socket)
	t.Cleanup(func() { d.Close(context.Background()) })
	for way, c := range map[string]plugins.Client{"in process": plugins.InProcess(d), "over gRPC": drivertest.OverGRPC(t, d)} {
		t.Run(way, func(t *testing.T) {
			spec := task(t, c, sh("exec sleep 1000"))
			if _, _, err := c.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			defer c.Destroy(context.WithoutCancel(t.Context()), spec.ID, true)
			var out, errs bytes.Buffer
			result, err := c.Exec(t.Context(), spec.ID, []string{"sh", "-c", "read x; echo $x $COLOR; echo oops >&2; exit 7"},
				plugins.ExecIO{Stdin: strings.NewReader("blood\n"), Stdout: &out, Stderr: &errs})
			if err != nil || result.ExitCode != 7 || out.String() != "blood red\n" || errs.String() != "oops\n" {
				t.Errorf("exec: %+v, %v, %q, %q", result, err, out.String(), errs.String())
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := c.Exec(ctx, spec.ID, []string{"sleep", "1000"}, plugins.ExecIO{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("exec beyond its context: %v, want %v", err, context.DeadlineExceeded)
			}
		})
	}
}
