package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/brumehq/brume/agent/logs"
	"github.com/brumehq/brume/plugins/keeper"
)

// processConfig is of an agent whose helper processes are this test binary.
func processConfig(t *testing.T) (Config, dirs) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Exe, cfg.StopTasks, cfg.DataDir = exe, true, filepath.Join(t.TempDir(), "d")
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := newDirs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, d
}

// background runs f until end is called, which waits for it.
func background(t *testing.T, f func(context.Context)) (end func()) {
	l := stage(t.Context())
	l.run(f)
	end = sync.OnceFunc(l.end)
	t.Cleanup(end)
	return end
}

// servedBy returns the process at the other end of a unix socket, of which there must be one.
func servedBy(t *testing.T, socket string) int {
	t.Helper()
	pid, err := server(socket)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func server(socket string) (pid int, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, sockErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

func TestLogProcessIsReplacedWithoutLoss(t *testing.T) {
	cfg, d := processConfig(t)
	p := newLogPipes(cfg, d)
	end := background(t, func(ctx context.Context) { p.run(ctx, always) })
	dir := t.TempDir()
	spec := logs.StreamSpec{ID: "a/t.stdout", FIFO: filepath.Join(d.fifo("a"), "t.stdout"), Dir: dir, Base: "t.stdout", MaxFiles: 3, MaxFileSize: 1 << 20}
	if err := p.open(t.Context(), []logs.StreamSpec{spec}); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(spec.FIFO, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const lines = 3000
	for i := range lines {
		if i%1000 == 500 {
			if err := p.ask(t.Context(), func(c *logs.SinkClient) error { _, err := c.List(t.Context()); return err }); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(servedBy(t, d.sinkSocket()), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := fmt.Fprintln(out, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.close(t.Context(), []logs.StreamSpec{spec}); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, filepath.Join(dir, "t.stdout.0"), lines)
	if _, err := os.Stat(spec.FIFO); !os.IsNotExist(err) {
		t.Errorf("the pipe is still there: %v", err)
	}
	pid := servedBy(t, d.sinkSocket())
	end()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the log process lives on after a stop that was to end it")
	}
}

// A helper that is still starting when the agent ends is not left behind.
func TestHelperThatNeverAnsweredIsEnded(t *testing.T) {
	dir := t.TempDir()
	s := &sidecar{name: "slow", exe: "/bin/sleep", args: []string{"600"}, logs: dir}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.ensure(ctx, func(context.Context) error {
		if s.child != nil {
			cancel() // the agent ends between the start and the first answer
		}
		return errors.New("nobody answers")
	})
	if err == nil {
		t.Fatal("ensure succeeded")
	}
	wait, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	s.awaitEnd(wait, filepath.Join(dir, "none.sock"))
	if wait.Err() != nil || s.child != nil {
		t.Error("the helper goes on")
	}
}

// wantNumbers checks that a file holds 0 to n-1, a line each.
func wantNumbers(t *testing.T, path string, n int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := range n {
		if !lines.Scan() || lines.Text() != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, lines.Text())
		}
	}
	if lines.Scan() {
		t.Errorf("a line too many: %q", lines.Text())
	}
}

func TestHelpersOutliveAnAgentThatLeavesThem(t *testing.T) {
	cfg, d := processConfig(t)
	var pids [2]int
	for i := range pids {
		k := newKeeper(cfg, d)
		end := background(t, func(ctx context.Context) { k.run(ctx, func() bool { return i == 1 }) })
		if err := k.await(t.Context()); err != nil {
			t.Fatal(err)
		}
		pids[i] = servedBy(t, d.keeperSocket())
		end()
		if i == 0 {
			defer syscall.Wait4(pids[0], nil, 0, nil) // in life, the dead agent's children are not ours
		}
	}
	if pids[0] != pids[1] {
		t.Errorf("the second agent uses keeper %d, want %d, that of the first", pids[1], pids[0])
	}
	if client, err := keeper.Dial(d.keeperSocket()); err == nil {
		client.Close()
		t.Error("the keeper lives on after a stop that was to end it")
	}
}

func TestKeeperIsReplaced(t *testing.T) {
	cfg, d := processConfig(t)
	k := newKeeper(cfg, d)
	background(t, func(ctx context.Context) { k.run(ctx, always) })
	if err := k.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := servedBy(t, d.keeperSocket())
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; { // the socket is all that others know of it
		if pid, err := server(d.keeperSocket()); err == nil && pid != old {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no new keeper")
		}
		if !pause(t.Context(), processPoll) {
			t.Fatal("ended")
		}
	}
}

func TestSidecarThatEndsAtOnceSaysWhereItsWordsAre(t *testing.T) {
	dir := t.TempDir()
	s := &sidecar{name: "broken", exe: "/bin/sh", args: []string{"-c", "echo no such flag; exit 3"}, logs: dir}
	err := s.ensure(t.Context(), func(context.Context) error { return io.EOF })
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "broken.log")) {
		t.Errorf("ensure = %v, want the log file's name", err)
	}
	if text, err := os.ReadFile(s.logFile()); err != nil || string(text) != "no such flag\n" {
		t.Errorf("log file: %q, %v", text, err)
	}
}

// The keeper and the log process are started without what the agent was given in secret.
func TestSidecarsEnvironmentHoldsNoToken(t *testing.T) {
	t.Setenv("BRUME_JOIN_TOKEN", "secret-join")
	t.Setenv("BRUME_TOKEN", "secret-admin")
	dir := t.TempDir()
	s := &sidecar{name: "env", exe: "/usr/bin/env", logs: dir}
	_ = s.ensure(t.Context(), func(context.Context) error { return io.EOF }) // it ends at once
	out, err := os.ReadFile(filepath.Join(dir, "env.log"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); strings.Contains(text, "secret-") || !strings.Contains(text, "PATH=") {
		t.Errorf("its environment:\n%s", text)
	}
}

func TestHelperProcessesSeeNoTokens(t *testing.T) {
	got := pluginEnv([]string{"PATH=/bin", "BRUME_TOKEN=x", "BRUME_JOIN_TOKEN=x", "NOMAD_TOKEN=x", "AWS_SECRET_ACCESS_KEY=x", "HOME=/root", "PATHX=1"})
	if strings.Join(got, " ") != "PATH=/bin HOME=/root" {
		t.Errorf("pluginEnv = %v", got)
	}
}

// always ends what keeps tasks together with the agent.
func always() bool { return true }
