package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain turns this program into a keeper, which must have a process of its own.
func TestMain(m *testing.M) {
	if socket := os.Getenv("KEEPER_SOCKET"); socket != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Serve(ctx, Config{Socket: socket, Dir: os.Getenv("KEEPER_DIR")}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// rig is a keeper in a process of its own.
type rig struct {
	t           testing.TB
	dir, socket string
	cmd         *exec.Cmd
	c           *Client
}

func newRig(t testing.TB) *rig {
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, socket: filepath.Join(dir, "s", "keeper.sock")}
	t.Cleanup(func() {
		r.clean()
		os.RemoveAll(dir)
	})
	r.start()
	return r
}

// start starts a keeper and waits until it answers.
func (r *rig) start() {
	r.t.Helper()
	r.cmd = exec.Command(os.Args[0])
	r.cmd.Env = []string{"KEEPER_SOCKET=" + r.socket, "KEEPER_DIR=" + filepath.Join(r.dir, "journal")}
	r.cmd.Stderr = r.t.Output()
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.c = r.dial()
}

func (r *rig) dial() *Client {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := Dial(r.socket)
		if err == nil {
			return c
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatal("the keeper does not answer: ", err)
		}
	}
}

// kill kills the keeper.
func (r *rig) kill() {
	r.t.Helper()
	r.c.Close()
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// clean ends the keeper and all that it started.
func (r *rig) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	left, err := r.c.List(ctx)
	if err != nil {
		r.t.Error("list what is left: ", err)
	}
	for _, p := range left {
		if err := r.c.Kill(ctx, p.ID); err != nil {
			r.t.Error(err)
		}
		if _, err := r.c.Wait(ctx, p.ID); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.c.Shutdown(ctx); err != nil {
		r.t.Error(err)
	}
	r.c.Close()
	if err := r.cmd.Wait(); err != nil {
		r.t.Error("keeper: ", err)
	}
}

// sh starts a shell with script.
func (r *rig) sh(id, script string, change ...func(*Spec)) Process {
	r.t.Helper()
	s := Spec{ID: id, Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: r.dir}
	for _, f := range change {
		f(&s)
	}
	p, err := r.c.Start(r.t.Context(), s)
	if err != nil {
		r.t.Fatalf("start %s: %v", id, err)
	}
	return p
}

func (r *rig) wait(id string) Exit {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	e, err := r.c.Wait(ctx, id)
	if err != nil {
		r.t.Fatalf("wait for %s: %v", id, err)
	}
	return e
}

// pipe makes a pipe at a path of the rig and opens its read end for the test.
func (r *rig) pipe(name string) (path string, out *os.File) {
	r.t.Helper()
	path = filepath.Join(r.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path, r.open(path)
}

func (r *rig) open(path string) *os.File {
	r.t.Helper()
	out, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { out.Close() })
	return out
}

// line reads one line from a pipe.
func line(t testing.TB, in *bufio.Reader) string {
	t.Helper()
	s, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

func stdout(path string) func(*Spec) { return func(s *Spec) { s.Stdout = path } }

func TestExitIsKept(t *testing.T) {
	r := newRig(t)
	for name, test := range map[string]struct {
		script string
		want   Exit
	}{
		"an exit code":      {"exit 7", Exit{Code: 7}},
		"success":           {"true", Exit{}},
		"a signal":          {"kill -TERM $$", Exit{Code: 143, Signal: 15}},
		"an uncaught abort": {"kill -SEGV $$", Exit{Code: 139, Signal: 11}},
	} {
		t.Run(name, func(t *testing.T) {
			r.sh(name, test.script)
			for range 2 { // each time it is asked
				got := r.wait(name)
				got.At, got.Ticks = time.Time{}, 0
				if got != test.want {
					t.Errorf("%s: %+v, want %+v", test.script, got, test.want)
				}
			}
		})
	}
}

func TestManyWait(t *testing.T) {
	r := newRig(t)
	r.sh("one", "read x < "+must(r.pipe("go")))
	codes := make(chan Exit, 20)
	for range cap(codes) {
		c := r.dial()
		defer c.Close()
		go func() {
			e, err := c.Wait(t.Context(), "one")
			if err != nil {
				t.Error(err)
			}
			codes <- e
		}()
	}
	go0, err := os.OpenFile(filepath.Join(r.dir, "go"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(go0, "go")
	go0.Close()
	for range cap(codes) {
		if e := <-codes; e.Code != 0 || e.Unknown {
			t.Errorf("exit %+v, want 0", e)
		}
	}
}

func must(path string, _ *os.File) string { return path }

func TestStartIsIdempotent(t *testing.T) {
	r := newRig(t)
	first := r.sh("same", "exec sleep 100")
	again := r.sh("same", "exit 3")
	if again.PID != first.PID || again.Started != first.Started {
		t.Errorf("started %+v, then %+v: want the same process", first, again)
	}
	r.c.Kill(t.Context(), "same")
	r.wait("same")
	if ended := r.sh("same", "exit 3"); ended.Exit == nil || ended.Exit.Signal != 9 {
		t.Errorf("start of an ended process answers %+v, want how it ended", ended)
	}
}

func TestStartFails(t *testing.T) {
	r := newRig(t)
	for name, spec := range map[string]Spec{
		"no such program":   {ID: "a", Path: "/does/not/exist", Argv: []string{"x"}},
		"not a program":     {ID: "b", Path: "/etc/hostname", Argv: []string{"x"}},
		"no such directory": {ID: "c", Path: "/bin/true", Argv: []string{"x"}, Dir: "/does/not/exist"},
		"no such pipe":      {ID: "d", Path: "/bin/true", Argv: []string{"x"}, Stdout: "/does/not/exist"},
		"no ID":             {Path: "/bin/true", Argv: []string{"x"}},
		"no arguments":      {ID: "e", Path: "/bin/true"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := r.c.Start(t.Context(), spec); err == nil {
				t.Errorf("Start(%+v) = %+v, want an error", spec, p)
			}
			if _, err := r.c.Inspect(t.Context(), spec.ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("Inspect after a failed start: %v, want %v", err, ErrNotFound)
			}
		})
	}
}

func TestProcessHasNothingOfTheKeepers(t *testing.T) {
	r := newRig(t)
	path, out := r.pipe("out")
	r.sh("env", "ls -l /proc/self/fd | wc -l; env | cut -d= -f1 | sort | tr '\\n' ' '; ps -o sid= -p $$; echo $$; readlink /proc/self/fd/0", stdout(path))
	in := bufio.NewReader(out)
	if n := line(t, in); n != "5" { // total, 0, 1, 2 and the directory that ls reads
		t.Errorf("%s lines of open files, want 5", n)
	}
	fields := strings.Fields(line(t, in))
	pid := line(t, in)
	if len(fields) < 2 || fields[len(fields)-1] != pid {
		t.Errorf("environment and session %q, want session %s", fields, pid)
	}
	for _, name := range fields[:len(fields)-1] {
		if strings.HasPrefix(name, "KEEPER") {
			t.Errorf("environment has %s", name)
		}
	}
	if stdin := line(t, in); stdin != "/dev/null" {
		t.Errorf("stdin is %s, want /dev/null", stdin)
	}
}

func TestPipeIsNeverBroken(t *testing.T) {
	r := newRig(t)
	path, out := r.pipe("out")
	r.sh("writer", "for i in 1 2 3 4 5; do echo $i; read x < "+must(r.pipe("go"))+" || exit 9; done", stdout(path))
	if got := line(t, bufio.NewReader(out)); got != "1" {
		t.Fatalf("first line %q, want 1", got)
	}
	out.Close() // the log process dies
	gate := r.open(filepath.Join(r.dir, "go"))
	for range 4 {
		fmt.Fprintln(gate, "go")
		time.Sleep(10 * time.Millisecond) // one line for each read, and no end of file between
	}
	in := bufio.NewReader(r.open(path)) // and is started again
	for want := 2; want <= 5; want++ {
		if got := line(t, in); got != strconv.Itoa(want) {
			t.Fatalf("line %q, want %d", got, want)
		}
	}
}

func TestSignalReachesTheGroup(t *testing.T) {
	r := newRig(t)
	path, out := r.pipe("out")
	r.sh("group", "trap 'echo parent; wait; exit 5' USR1; (trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done) & wait", stdout(path))
	in := bufio.NewReader(out)
	line(t, in)
	if err := r.c.Signal(t.Context(), "group", syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{line(t, in): true, line(t, in): true}
	if !got["parent"] || !got["child"] {
		t.Errorf("signalled %v, want parent and child", got)
	}
	if e := r.wait("group"); e.Code != 5 {
		t.Errorf("exit %+v, want 5", e)
	}
	if err := r.c.Signal(t.Context(), "group", syscall.SIGUSR1); err != nil {
		t.Errorf("signal to an ended process: %v, want nil", err)
	}
}

func TestKillTakesTheWholeTree(t *testing.T) {
	for name, script := range map[string]string{
		"children":               "sleep 100 & sleep 100 & echo ready; wait",
		"a session of its own":   "setsid sleep 100 & sleep 0.05; echo ready; wait",
		"what outlives its main": "sleep 100 & echo ready",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			path, out := r.pipe("out")
			p := r.sh("tree", script, stdout(path))
			line(t, bufio.NewReader(out))
			before, err := p.Tree()
			if err != nil || len(before) == 0 {
				t.Fatalf("tree %v, %v, want some", before, err)
			}
			if strings.HasPrefix(name, "what") {
				r.wait("tree")
			}
			if err := r.c.Kill(t.Context(), "tree"); err != nil {
				t.Fatal(err)
			}
			r.wait("tree")
			for _, s := range before {
				awaitGone(t, s)
			}
		})
	}
}

// awaitGone waits until a killed process has vanished.
func awaitGone(t *testing.T, s Stat) {
	t.Helper()
	fd, err := s.open()
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
		t.Errorf("process %d lives on: %v", s.PID, err)
	}
}

func TestForget(t *testing.T) {
	r := newRig(t)
	r.sh("task", "exec sleep 100")
	if err := r.c.Forget(t.Context(), "task"); !errors.Is(err, ErrRunning) {
		t.Errorf("forget a running process: %v, want %v", err, ErrRunning)
	}
	r.c.Kill(t.Context(), "task")
	r.wait("task")
	if err := r.c.Forget(t.Context(), "task"); err != nil {
		t.Error(err)
	}
	if _, err := r.c.Wait(t.Context(), "task"); !errors.Is(err, ErrNotFound) {
		t.Errorf("wait for a forgotten process: %v, want %v", err, ErrNotFound)
	}
}

func TestKilledKeeper(t *testing.T) {
	r := newRig(t)
	path, out := r.pipe("out")
	ended := r.sh("ended", "exit 4")
	r.wait("ended")
	lives := r.sh("lives", "trap 'echo stopped; exit 0' TERM; echo ready; while :; do sleep 0.01; done", stdout(path))
	in := bufio.NewReader(out)
	line(t, in)
	dies := r.sh("dies", "exec sleep 100")
	r.kill()
	if err := syscall.Kill(dies.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, Stat{PID: dies.PID, Started: dies.Started})
	r.start()

	list, err := r.c.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("the successor knows %+v, %v, want three", list, err)
	}
	if got, err := r.c.Inspect(t.Context(), "lives"); err != nil || got.PID != lives.PID || got.Exit != nil {
		t.Errorf("the successor says %+v, %v, want %d running", got, err, lives.PID)
	}
	if e := r.wait("ended"); e.Code != 4 || e.Unknown {
		t.Errorf("%d ended with %+v, want 4", ended.PID, e)
	}
	if e := r.wait("dies"); !e.Unknown {
		t.Errorf("one that ended unseen ended with %+v, want unknown", e)
	}
	if again := r.sh("lives", "exit 1"); again.PID != lives.PID {
		t.Errorf("start of what lives on started %d, want %d", again.PID, lives.PID)
	}
	if err := r.c.Signal(t.Context(), "lives", syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if got := line(t, in); got != "stopped" {
		t.Errorf("the signalled process says %q, want stopped", got)
	}
	if e := r.wait("lives"); !e.Unknown {
		t.Errorf("one that is no child ended with %+v, want unknown", e)
	}
}

func TestReusedNumberIsAnotherProcess(t *testing.T) {
	r := newRig(t)
	other := exec.Command("sleep", "100") // has the number of a process that ended while no keeper was there
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	r.kill()
	stat, err := ReadStat(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	r.journal(record{Op: "start", ID: "old", Process: &Process{ID: "old", PID: stat.PID, Started: stat.Started - 1}})
	r.start()
	if e := r.wait("old"); !e.Unknown {
		t.Errorf("ended with %+v, want unknown", e)
	}
	for _, f := range []func() error{
		func() error { return r.c.Signal(t.Context(), "old", syscall.SIGKILL) },
		func() error { return r.c.Kill(t.Context(), "old") },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	if s, err := ReadStat(stat.PID); err != nil || s.Zombie {
		t.Errorf("the other process was killed: %+v, %v", s, err)
	}
}

// journal leaves a journal of this boot with one record.
func (r *rig) journal(one record) {
	r.t.Helper()
	boot, err := bootID()
	if err != nil {
		r.t.Fatal(err)
	}
	j := &journal{path: filepath.Join(r.dir, "journal", journalName)}
	if err := j.rewrite(func() []record { return []record{{Op: "boot", Boot: boot}, one} }); err != nil {
		r.t.Fatal(err)
	}
	if err := j.close(); err != nil {
		r.t.Fatal(err)
	}
}

func TestKeeperDiedWhileItStartedOne(t *testing.T) {
	r := newRig(t)
	r.kill()
	r.journal(record{Op: "intend", ID: "half"})
	r.start()
	if e := r.wait("half"); !e.Unknown {
		t.Errorf("ended with %+v, want unknown", e)
	}
	if p := r.sh("half", "true"); p.PID != 0 || p.Exit == nil {
		t.Errorf("a second start of it gave %+v, want the first, which ended unseen", p)
	}
}

// A keeper that died between starting a process and writing down its number leaves no orphan: the next one knows it by its
// pipe, and it is not started twice.
func TestStartedButNotWrittenDown(t *testing.T) {
	r := newRig(t)
	r.kill()
	path, out := r.pipe("out")
	write, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("/bin/sh", "-c", "echo up; exec sleep 60")
	orphan.Stdout, orphan.SysProcAttr = write, &syscall.SysProcAttr{Setsid: true}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	t.Cleanup(func() {
		orphan.Process.Kill()
		<-ended
	})
	line(t, bufio.NewReader(out))
	r.journal(record{Op: "intend", ID: "half", Pipes: []string{path}})
	r.start()
	if p := r.sh("half", "true", stdout(path)); p.PID != orphan.Process.Pid || p.Exit != nil {
		t.Errorf("a second start gave %+v, want process %d", p, orphan.Process.Pid)
	}
	if err := r.c.Kill(t.Context(), "half"); err != nil {
		t.Fatal(err)
	}
	if e := r.wait("half"); !e.Unknown {
		t.Errorf("ended with %+v, want unknown: it was not the keeper's child", e)
	}
}

func TestMachineWasRestarted(t *testing.T) {
	r := newRig(t)
	own := Process{ID: "old", PID: os.Getpid()}
	stat, err := ReadStat(own.PID)
	if err != nil {
		t.Fatal(err)
	}
	own.Started = stat.Started // the numbers happen to be those of a process of today
	r.kill()
	j := &journal{path: filepath.Join(r.dir, "journal", journalName)}
	if err := j.rewrite(func() []record {
		return []record{{Op: "boot", Boot: "yesterday"}, {Op: "start", ID: "old", Process: &own}}
	}); err != nil {
		t.Fatal(err)
	}
	j.close()
	r.start()
	if e := r.wait("old"); !e.Unknown {
		t.Errorf("ended with %+v, want unknown", e)
	}
}

func TestOneKeeperADirectory(t *testing.T) {
	r := newRig(t)
	second := exec.Command(os.Args[0])
	second.Env = r.cmd.Env
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another keeper") {
		t.Errorf("a second keeper: %v, %s; want that there is another", err, out)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	r := newRig(t)
	for path, want := range map[string]os.FileMode{
		r.socket: 0o600, filepath.Dir(r.socket): 0o700, filepath.Join(r.dir, "journal"): 0o700,
		filepath.Join(r.dir, "journal", journalName): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestJournalHoldsNoSecret(t *testing.T) {
	r := newRig(t)
	r.sh("task", "echo hunter2 > /dev/null", func(s *Spec) { s.Env = append(s.Env, "PASSWORD=hunter2") })
	r.wait("task")
	data, err := os.ReadFile(filepath.Join(r.dir, "journal", journalName))
	if err != nil || strings.Contains(string(data), "hunter2") || !strings.Contains(string(data), `"task"`) {
		t.Errorf("journal %s, %v; want the task and none of its environment and arguments", data, err)
	}
}

func TestFiveHundredAtOnce(t *testing.T) {
	r := newRig(t)
	done := make(chan error)
	for i := range 500 {
		go func() {
			id := strconv.Itoa(i)
			_, err := r.c.Start(t.Context(), Spec{ID: id, Path: "/bin/true", Argv: []string{"true"}})
			if err == nil {
				var e Exit
				if e, err = r.c.Wait(t.Context(), id); err == nil && (e.Unknown || e.Code != 0) {
					err = fmt.Errorf("%s ended with %+v", id, e)
				}
			}
			done <- errors.Join(err, r.c.Forget(t.Context(), id))
		}()
	}
	for range 500 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if left, err := r.c.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(r.cmd.Process.Pid) + "/fd")
	if err != nil || len(entries) > 20 {
		t.Errorf("the keeper has %d open files, %v, want few", len(entries), err)
	}
}

func TestNonsenseFromClients(t *testing.T) {
	r := newRig(t)
	for name, text := range map[string]string{
		"not JSON":      "hello\n",
		"a huge line":   strings.Repeat("x", maxRequest+1),
		"no operation":  "{}\n",
		"half a line":   `{"op":"list"`,
		"a null spec":   `{"op":"start","seq":1}` + "\n",
		"a huge signal": `{"op":"signal","id":"x","signal":99999}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := r.dial()
			defer l.Close()
			l.link.conn.Write([]byte(text))
			if _, err := r.c.List(t.Context()); err != nil {
				t.Errorf("after %s: %v", name, err)
			}
		})
	}
}

func BenchmarkKeeperStart(b *testing.B) {
	r := newRig(b)
	n := 0
	b.RunParallel(func(pb *testing.PB) {
		_ = n
		for i := 0; pb.Next(); i++ {
			id := fmt.Sprintf("%p-%d", pb, i)
			if _, err := r.c.Start(b.Context(), Spec{ID: id, Path: "/bin/true", Argv: []string{"true"}}); err != nil {
				b.Error(err)
				return
			}
			if _, err := r.c.Wait(b.Context(), id); err != nil {
				b.Error(err)
				return
			}
			r.c.Forget(b.Context(), id)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}
