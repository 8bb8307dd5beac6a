//go:build linux

package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

// TestKilledSinkLosesAndRepeatsNothing kills the log process again and again while a task writes numbered lines as fast
// as it can, through rotation: each number is in the files once and in order.
func TestKilledSinkLosesAndRepeatsNothing(t *testing.T) {
	const count, kills = 400_000, 30
	dir := t.TempDir()
	spec := testSpec(t, dir)
	spec.MaxFiles, spec.MaxFileSize = 1000, 100_003
	socket := filepath.Join(dir, "s", "sink.sock")

	sink := startSink(t, socket, spec)
	writer := role(t, "writer", spec.FIFO, fmt.Sprint(count))
	progress, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for lines := bufio.NewScanner(progress); lines.Scan(); killed++ {
		kill(t, sink)
		sink = startSink(t, socket, spec)
	}
	if err := writer.Wait(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, socket)
	if err := c.Close(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sink.Wait(); err != nil {
		t.Errorf("log process ended with %v", err)
	}
	if killed < kills {
		t.Errorf("killed %d times, want at least %d", killed, kills)
	}

	want := 0
	lines := bufio.NewScanner(bytes.NewReader(stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base)))
	for ; lines.Scan(); want++ {
		if lines.Text() != fmt.Sprint(want) {
			t.Fatalf("after %d kills line %d is %q", killed, want, lines.Text())
		}
	}
	if want != count {
		t.Errorf("after %d kills %d lines, want %d", killed, want, count)
	}
}

// startSink starts a log process and opens spec with it.
func startSink(t *testing.T, socket string, spec StreamSpec) *exec.Cmd {
	t.Helper()
	cmd := role(t, "sink", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	c := dial(t, socket)
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := c.Detach(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
}

// dial reaches a log process that may just have been started.
func dial(t *testing.T, socket string) *SinkClient {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		c, err := DialSink(t.Context(), socket)
		if err == nil {
			t.Cleanup(func() { _ = c.Detach() })
			return c
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

// testSpec makes a log directory and a pipe below dir. The pipe is held open by the test, as the keeper does.
func testSpec(t *testing.T, dir string) StreamSpec {
	t.Helper()
	spec := StreamSpec{
		ID: "a/web/stdout", FIFO: filepath.Join(dir, "web.fifo"), Root: filepath.Join(dir, "a"), Dir: "alloc/logs",
		Base: "web.stdout", MaxFiles: 10, MaxFileSize: 10 << 20,
	}
	if err := os.MkdirAll(filepath.Join(spec.Root, spec.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := MakeFIFO(spec.FIFO); err != nil {
		t.Fatal(err)
	}
	hold(t, spec.FIFO)
	return spec
}

// hold opens a pipe for reading and writing until the test ends.
func hold(t *testing.T, fifo string) *os.File {
	t.Helper()
	f, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// stored joins a stream's files.
func stored(t *testing.T, dir, base string) []byte {
	t.Helper()
	r := openReader(t, dir, base)
	if err := r.SeekStart(0); err != nil {
		t.Fatal(err)
	}
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		c, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Data...)
	}
}

func openReader(t *testing.T, dir, base string) *Reader {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r, err := Open(root, base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// serve runs a log process inside the test.
func serve(t *testing.T) *SinkClient {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "sink.sock")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ServeSink(ctx, SinkConfig{Socket: socket, Log: testLog(t)}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dial(t, socket)
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func write(t *testing.T, f *os.File, data []byte) {
	t.Helper()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
}

func TestFilesRotateAtTheirSizeAndTheOldestGo(t *testing.T) {
	c := serve(t)
	spec := testSpec(t, t.TempDir())
	spec.MaxFiles, spec.MaxFileSize = 3, 1000
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 1000)
	write(t, hold(t, spec.FIFO), data)
	if err := c.Close(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(spec.Root, spec.Dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %d %v", e.Name(), fi.Size(), fi.Mode()))
	}
	got := strings.Join(names, ", ")
	want := "web.stdout.7 1000 -rw-r--r--, web.stdout.8 1000 -rw-r--r--, web.stdout.9 1000 -rw-r--r--"
	if got != want {
		t.Errorf("files are %s, want %s", got, want)
	}
	if got := stored(t, dir, spec.Base); !bytes.Equal(got, data[7000:]) {
		t.Errorf("%d bytes kept, want the last 3000", len(got))
	}
}

func TestOpenTwiceIsOnce(t *testing.T) {
	c := serve(t)
	spec := testSpec(t, t.TempDir())
	pipe := hold(t, spec.FIFO)
	for _, text := range []string{"one\n", "two\n"} {
		if err := c.Open(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		write(t, pipe, []byte(text))
		spec.MaxFiles = 5 // a change of limits is no other stream
	}
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Spec != spec && list[0].Spec.MaxFiles != 10 {
		t.Errorf("List() = %+v, want the one stream", list)
	}
	if err := c.Close(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if got := string(stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base)); got != "one\ntwo\n" {
		t.Errorf("kept %q", got)
	}
}

func TestOpenWithANewPipeDrainsTheOldOne(t *testing.T) {
	c := serve(t)
	spec := testSpec(t, t.TempDir())
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	write(t, hold(t, spec.FIFO), []byte("old\n"))
	if err := os.Remove(spec.FIFO); err != nil {
		t.Fatal(err)
	}
	if err := MakeFIFO(spec.FIFO); err != nil {
		t.Fatal(err)
	}
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	write(t, hold(t, spec.FIFO), []byte("new\n"))
	if err := c.Close(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if got := string(stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base)); got != "old\nnew\n" {
		t.Errorf("kept %q", got)
	}
}

func TestShutdownKeepsWhatThePipesHold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sink.sock")
	ended := make(chan error, 1)
	go func() { ended <- ServeSink(t.Context(), SinkConfig{Socket: socket, Log: testLog(t)}) }()
	c := dial(t, socket)
	spec := testSpec(t, t.TempDir())
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	write(t, hold(t, spec.FIFO), []byte("last words\n"))
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-c.Done()
	if err := c.Open(t.Context(), spec); !errors.Is(err, ErrSinkGone) {
		t.Errorf("Open after Shutdown: %v, want ErrSinkGone", err)
	}
	if got := string(stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base)); got != "last words\n" {
		t.Errorf("kept %q", got)
	}
}

// TestAFullDiskTakesBytesUpToTheLast fills a real disk in the middle of a splice and then makes room.
func TestAFullDiskTakesBytesUpToTheLast(t *testing.T) {
	dir := t.TempDir()
	spec := testSpec(t, dir)
	socket := filepath.Join(dir, "sink.sock")
	cmd := role(t, "small-disk-sink", socket, filepath.Join(spec.Root, spec.Dir))
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIP userns: %v", err)
	}
	defer kill(t, cmd)
	c := dial(t, socket)
	logDir := filepath.Join(fmt.Sprintf("/proc/%d/root", cmd.Process.Pid), spec.Root, spec.Dir) // as the log process sees it
	ballast := filepath.Join(logDir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	pipe := hold(t, spec.FIFO)
	data := bytesAt(0, 160<<10)
	write(t, pipe, data)
	list, err := c.List(t.Context())
	if err != nil || !strings.Contains(list[0].Stalled, unix.ENOSPC.Error()) || list[0].Dropped != 0 {
		t.Errorf("with a full disk List() = %+v, %v", list, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, logDir, spec.Base); !bytes.Equal(got, data) {
		t.Errorf("kept %d bytes that are not the %d written", len(got), len(data))
	}
}

func TestASecondLogProcessGivesUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sink.sock")
	ended := make(chan error, 1)
	first, stop := context.WithCancel(t.Context())
	go func() { ended <- ServeSink(first, SinkConfig{Socket: socket, Log: testLog(t)}) }()
	dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ServeSink(ctx, SinkConfig{Socket: socket, Log: testLog(t)}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("second log process: %v, want a conflict", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := ServeSink(first, SinkConfig{Socket: socket, Log: testLog(t)}); err != nil {
		t.Errorf("log process after the first has ended: %v", err)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	c := serve(t)
	spec := testSpec(t, t.TempDir())
	missing, notPipe := spec, spec
	missing.FIFO = "/nowhere/at/all"
	notPipe.FIFO = spec.Root
	for _, tt := range []struct {
		rule string
		err  error
		kind error
	}{
		{"a stream without a name", c.Open(t.Context(), StreamSpec{}), api.ErrInvalid},
		{"a pipe that is none", c.Open(t.Context(), notPipe), nil},
		{"a pipe that is not there", c.Open(t.Context(), missing), nil},
		{"closing what is not open", c.Close(t.Context(), "other"), api.ErrNotFound},
	} {
		if tt.err == nil || tt.kind != nil && !errors.Is(tt.err, tt.kind) {
			t.Errorf("%s: %v, want %v", tt.rule, tt.err, tt.kind)
		}
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v, want nothing open", list, err)
	}
}

func TestAKilledLogProcessIsNoticed(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s", "sink.sock")
	spec := testSpec(t, dir)
	sink := startSink(t, socket, spec)
	c := dial(t, socket)
	kill(t, sink)
	<-c.Done()
	if _, err := c.List(t.Context()); !errors.Is(err, ErrSinkGone) {
		t.Errorf("List() after the kill: %v, want ErrSinkGone", err)
	}
}

// TestAFloodStarvesNoOther: what a quiet stream holds is moved before the log process answers its next request, however
// much others write.
func TestAFloodStarvesNoOther(t *testing.T) {
	c := serve(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	defer wg.Wait()
	defer close(stop)
	open := func(name string) *os.File {
		t.Helper()
		spec := testSpec(t, t.TempDir())
		spec.ID, spec.MaxFiles, spec.MaxFileSize = name, 2, 1<<20
		if err := c.Open(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		return hold(t, spec.FIFO)
	}
	for i := range 4 {
		pipe := open(fmt.Sprint("flood", i))
		wg.Go(func() {
			for data := make([]byte, 64<<10); ; {
				select {
				case <-stop:
					return
				default:
					_ = pipe.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
					_, _ = pipe.Write(data)
				}
			}
		})
	}
	quiet := open("quiet")
	for n := int64(1); n <= 100; n++ {
		write(t, quiet, []byte("x"))
		list, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := list[len(list)-1]; got.Spec.ID != "quiet" || got.Moved != n {
			t.Fatalf("%s has %d bytes moved, want %d", got.Spec.ID, got.Moved, n)
		}
	}
}

func TestClientsAskAtOnce(t *testing.T) {
	c := serve(t)
	var wg sync.WaitGroup
	for i := range 16 {
		spec := testSpec(t, t.TempDir())
		spec.ID = fmt.Sprint(i)
		wg.Go(func() {
			for range 20 {
				if err := c.Open(t.Context(), spec); err != nil {
					t.Error(err)
				}
				if _, err := c.List(t.Context()); err != nil {
					t.Error(err)
				}
				if err := c.Close(t.Context(), spec.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v, want nothing open", list, err)
	}
}

func TestNoDescriptorStaysOpen(t *testing.T) {
	descriptors := func() int {
		t.Helper()
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	c := serve(t)
	spec := testSpec(t, t.TempDir())
	spec.MaxFileSize = 100
	pipe := hold(t, spec.FIFO)
	if _, err := c.List(t.Context()); err != nil { // so that the connection is accepted
		t.Fatal(err)
	}
	before := descriptors()
	for range 20 {
		if err := c.Open(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		write(t, pipe, make([]byte, 1000))
		if err := c.Close(t.Context(), spec.ID); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}
