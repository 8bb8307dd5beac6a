//go:build linux

package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

// testStream opens spec's stream without a log process.
func testStream(t *testing.T, spec StreamSpec) *stream {
	t.Helper()
	c, err := newCopier()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	s, err := openStream(spec, c, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func TestAStreamGetsOneTurnAtATime(t *testing.T) {
	spec := testSpec(t, t.TempDir())
	pipe := hold(t, spec.FIFO)
	size, err := unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	write(t, pipe, make([]byte, size))
	s := testStream(t, spec)
	if n := s.turn(time.Now()); n != turnBytes {
		t.Errorf("one turn moved %d bytes, want %d", n, turnBytes)
	}
}

func TestWhereSpliceIsRefusedBytesAreCopied(t *testing.T) {
	spec := testSpec(t, t.TempDir())
	spec.MaxFileSize = 777
	pipe := hold(t, spec.FIFO)
	s := testStream(t, spec)
	s.copies = true
	var want []byte
	for i := range 50 {
		data := bytes.Repeat([]byte{byte('a' + i%26)}, 97*i+1)
		want = append(want, data...)
		write(t, pipe, data)
		if _, err := s.move(turnBytes); err != nil {
			t.Fatal(err)
		}
	}
	spec.MaxFiles = 10
	got := stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base)
	if !bytes.HasSuffix(want, got) || int64(len(got)) < 9*spec.MaxFileSize {
		t.Errorf("%d bytes kept, not the end of the %d written", len(got), len(want))
	}
}

// TestAFullDiskStallsThenDropsThenSaysSo goes through what happens to a stream whose file takes nothing more.
func TestAFullDiskStallsThenDropsThenSaysSo(t *testing.T) {
	spec := testSpec(t, t.TempDir())
	pipe := hold(t, spec.FIFO)
	s := testStream(t, spec)
	now := time.Now()
	write(t, pipe, []byte("before\n"))
	s.turn(now)

	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	disk := s.file
	s.file = full
	write(t, pipe, []byte("waits\n"))
	s.turn(now)
	if s.stalled == nil || !errors.Is(s.stalled.cause, unix.ENOSPC) || s.dropping(now) {
		t.Fatalf("with a full disk the stream is %+v, want it stalled", s.stalled)
	}
	s.turn(now.Add(stallGrace - time.Second))
	if held, err := s.held(); err != nil || held != 6 {
		t.Fatalf("within the grace the pipe holds %d, %v, want all 6 bytes", held, err)
	}

	// The disk has room again in time: nothing is lost.
	s.file = disk
	s.turn(now.Add(stallGrace - time.Millisecond))
	if s.stalled != nil {
		t.Fatalf("with room again the stream is %+v", s.stalled)
	}

	// It is full for longer than the grace: output is dropped, and the file says how much.
	s.file = full
	write(t, pipe, []byte("lost\n"))
	now = now.Add(time.Minute)
	s.turn(now)
	s.turn(now.Add(stallGrace))
	write(t, pipe, []byte("lost too\n"))
	s.turn(now.Add(stallGrace + time.Millisecond))
	if held, err := s.held(); err != nil || held != 0 || s.stalled.dropped != 14 {
		t.Fatalf("after the grace the pipe holds %d, %v and %d bytes are dropped, want 14", held, err, s.stalled.dropped)
	}
	s.file = disk
	write(t, pipe, []byte("after\n"))
	s.turn(now.Add(2 * stallGrace))
	_ = unix.Close(full)
	got := string(stored(t, filepath.Join(spec.Root, spec.Dir), spec.Base))
	want := "before\nwaits\n\n[brume] 14 bytes of output dropped here: web.stdout.0: no space left on device\nafter\n"
	if got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// TestNothingInALogDirectoryIsTrusted lets a task put traps where the log process will write.
func TestNothingInALogDirectoryIsTrusted(t *testing.T) {
	for _, tt := range []struct {
		rule string
		trap func(t *testing.T, name, victim string) error
	}{
		{"a symbolic link is not followed", func(_ *testing.T, name, victim string) error { return os.Symlink(victim, name) }},
		{"a file with a second name is not written", func(_ *testing.T, name, victim string) error { return os.Link(victim, name) }},
		{"a pipe is not written", func(_ *testing.T, name, _ string) error { return unix.Mkfifo(name, 0o666) }},
		{"a directory is passed over", func(_ *testing.T, name, _ string) error { return os.Mkdir(name, 0o777) }},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			dir := t.TempDir()
			victim := filepath.Join(dir, "victim") // a file shorter than MaxFileSize: there is room in it
			if err := os.WriteFile(victim, []byte("own"), 0o644); err != nil {
				t.Fatal(err)
			}
			spec := testSpec(t, dir)
			spec.MaxFileSize = 4
			logDir := filepath.Join(spec.Root, spec.Dir)
			pipe := hold(t, spec.FIFO)
			for _, name := range []string{"web.stdout.0", "web.stdout.2"} {
				if err := tt.trap(t, filepath.Join(logDir, name), victim); err != nil {
					t.Fatal(err)
				}
			}
			write(t, pipe, []byte("onetwo"))
			if _, err := testStream(t, spec).move(turnBytes); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "own" {
				t.Errorf("the victim holds %q, %v", b, err)
			}
			if got := string(stored(t, logDir, spec.Base)); strings.ReplaceAll(got, "own", "") != "onetwo" {
				t.Errorf("kept %q", got)
			}
		})
	}
}

func TestALogDirectoryIsNotRedirected(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		link   string // replaced by a link elsewhere
		noRoot bool
	}{
		{rule: "the directory itself", link: "alloc/logs"},
		{rule: "a directory above it", link: "alloc"},
		{rule: "the directory itself, by its whole path", link: "alloc/logs", noRoot: true},
		{rule: "a directory above it, by its whole path", link: "alloc", noRoot: true},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			dir := t.TempDir()
			spec := testSpec(t, dir)
			at := filepath.Join(spec.Root, tt.link)
			if err := os.Rename(at, filepath.Join(dir, "elsewhere")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(dir, "elsewhere"), at); err != nil {
				t.Fatal(err)
			}
			if tt.noRoot {
				spec.Root, spec.Dir = "", filepath.Join(spec.Root, spec.Dir)
			}
			if s, err := openStream(spec, nil, testLog(t)); err == nil {
				s.close()
				t.Error("the link was followed")
			}
		})
	}
}

func TestWritingGoesOnWhereTheTaskChangedTheFile(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		change func(name string) error
		want   string
	}{
		{"a truncated file is written from its new end", func(name string) error { return os.Truncate(name, 0) }, "new"},
		{"a removed file is followed by another", os.Remove, "new"},
		{"text added by others stays", func(name string) error {
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("theirs")
			return errors.Join(err, f.Close())
		}, "oldtheirsnew"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			spec := testSpec(t, t.TempDir())
			pipe := hold(t, spec.FIFO)
			s := testStream(t, spec)
			dir := filepath.Join(spec.Root, spec.Dir)
			write(t, pipe, []byte("old"))
			if _, err := s.move(turnBytes); err != nil {
				t.Fatal(err)
			}
			if err := tt.change(filepath.Join(dir, "web.stdout.0")); err != nil {
				t.Fatal(err)
			}
			write(t, pipe, []byte("new"))
			if _, err := s.move(turnBytes); err != nil {
				t.Fatal(err)
			}
			if got := string(stored(t, dir, spec.Base)); got != tt.want {
				t.Errorf("kept %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSpecsAreChecked(t *testing.T) {
	good := StreamSpec{ID: "x", FIFO: "/f", Root: "/r", Dir: "alloc/logs", Base: "web.stdout", MaxFiles: 1, MaxFileSize: 1}
	for _, tt := range []struct {
		rule   string
		change func(*StreamSpec)
		fault  string // "" if there is none
	}{
		{"a whole one is accepted", func(*StreamSpec) {}, ""},
		{"without a root the directory is absolute", func(s *StreamSpec) { s.Root, s.Dir = "", "/r/logs" }, ""},
		{"without either it is nowhere", func(s *StreamSpec) { s.Root = "" }, "no Root"},
		{"a directory stays below its root", func(s *StreamSpec) { s.Dir = "../logs" }, "not below Root"},
		{"a base is one name", func(s *StreamSpec) { s.Base = "../web.stdout" }, "not a file name"},
		{"a pipe is named absolutely", func(s *StreamSpec) { s.FIFO = "f" }, "not an absolute path"},
		{"there is a file", func(s *StreamSpec) { s.MaxFiles = 0 }, "MaxFiles 0"},
		{"a file has a size", func(s *StreamSpec) { s.MaxFileSize = -1 }, "MaxFileSize -1"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			spec := good
			tt.change(&spec)
			err := spec.Validate()
			if tt.fault == "" && err != nil || tt.fault != "" && (!errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("Validate() = %v, want %q", err, tt.fault)
			}
		})
	}
}

// BenchmarkMove moves 64 KiB at a time from a pipe into files of 10 MiB.
func BenchmarkMove(b *testing.B) {
	dir := b.TempDir()
	spec := StreamSpec{
		ID: "x", FIFO: filepath.Join(dir, "fifo"), Dir: dir, Base: "web.stdout", MaxFiles: 2, MaxFileSize: 10 << 20,
	}
	if err := MakeFIFO(spec.FIFO); err != nil {
		b.Fatal(err)
	}
	s, err := openStream(spec, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	data := make([]byte, pipeBytes)
	b.SetBytes(pipeBytes)
	for b.Loop() {
		if _, err := unix.Write(s.pipe, data); err != nil {
			b.Fatal(err)
		}
		if n, err := s.move(turnBytes); n != pipeBytes {
			b.Fatal(n, err)
		}
	}
}
