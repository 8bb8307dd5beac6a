//go:build linux

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// byteAt is the byte at an offset of the endless stream that the properties below write.
func byteAt(off int64) byte { return byte(off*31 + off>>8*7) }

func bytesAt(off int64, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byteAt(off + int64(i))
	}
	return data
}

// TestReadersSeeTheStream writes, rotates, removes and reads in random order. What a reader gets goes on where it was,
// except after it was told that a file is gone, and in the end is all there is.
func TestReadersSeeTheStream(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt, rapid.IntRange(1, 4).Draw(rt, "files"), rapid.Int64Range(10, 300).Draw(rt, "size"))
		defer w.close()
		w.write(rapid.IntRange(0, 1500).Draw(rt, "before"))
		r := w.reader()
		defer r.Close()
		got := &received{rt: rt, size: w.spec.MaxFileSize}
		if rapid.Bool().Draw(rt, "from end") {
			back := rapid.Int64Range(0, 2000).Draw(rt, "back")
			w.must(r.SeekEnd(back))
			got.end = max(w.oldest(), w.written-back)
		} else {
			off := rapid.Int64Range(0, 2000).Draw(rt, "offset")
			w.must(r.SeekStart(off))
			got.end = min(w.written, w.oldest()+off)
		}
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "write") {
				w.write(rapid.IntRange(1, 500).Draw(rt, "n"))
			} else {
				c, err := r.Next(make([]byte, rapid.IntRange(1, 400).Draw(rt, "buffer")))
				got.take(c, err)
			}
		}
		for {
			c, err := r.Next(make([]byte, 100))
			got.take(c, err)
			if errors.Is(err, io.EOF) {
				break
			}
		}
		if got.end != w.written {
			rt.Fatalf("read up to %d, want %d", got.end, w.written)
		}
	})
}

// TestAStoppedReaderStops reads while the stream grows, no further than where it ended at first.
func TestAStoppedReaderStops(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt, 1000, rapid.Int64Range(10, 300).Draw(rt, "size"))
		defer w.close()
		w.write(rapid.IntRange(0, 900).Draw(rt, "before"))
		r := w.reader()
		defer r.Close()
		w.must(r.SeekStart(0))
		w.must(r.StopAtEnd())
		want := w.written
		got := &received{rt: rt, size: w.spec.MaxFileSize}
		for {
			w.write(rapid.IntRange(1, 100).Draw(rt, "n"))
			c, err := r.Next(make([]byte, 150))
			got.take(c, err)
			if errors.Is(err, io.EOF) {
				break
			}
		}
		if got.end != want {
			rt.Fatalf("read up to %d, want %d", got.end, want)
		}
	})
}

// TestTailIsTheLastLines compares SeekTail with what splitting the whole text gives.
func TestTailIsTheLastLines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt, 1000, rapid.Int64Range(1, 50).Draw(rt, "size"))
		defer w.close()
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab\n")), 0, 200, -1).Draw(rt, "text")
		w.writeText([]byte(text))
		lines := rapid.IntRange(1, 40).Draw(rt, "lines")
		all := strings.SplitAfter(text, "\n")
		if all[len(all)-1] == "" {
			all = all[:len(all)-1]
		}
		want := strings.Join(all[max(0, len(all)-lines):], "")
		r := w.reader()
		defer r.Close()
		w.must(r.SeekTail(lines))
		var got []byte
		buf := make([]byte, 64)
		for {
			c, err := r.Next(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			w.must(err)
			got = append(got, c.Data...)
		}
		if string(got) != want {
			rt.Fatalf("last %d lines of %q are %q, want %q", lines, text, got, want)
		}
	})
}

// received checks what a reader gives against the stream that byteAt makes.
type received struct {
	rt   *rapid.T
	size int64 // of a file
	end  int64 // offset in the stream of the byte that comes next
	gap  bool  // a file was reported as gone
}

func (g *received) take(c Chunk, err error) {
	if errors.Is(err, io.EOF) {
		return
	}
	if err != nil {
		g.rt.Fatal(err)
	}
	if c.Event != "" {
		if c.Event != EventDeleted {
			g.rt.Fatalf("event %q", c.Event)
		}
		g.gap = true
		return
	}
	index, ok := indexOf(c.File, "web.stdout")
	if !ok {
		g.rt.Fatalf("file %q", c.File)
	}
	start := int64(index)*g.size + c.Offset - int64(len(c.Data))
	if start != g.end && (!g.gap || start < g.end) {
		g.rt.Fatalf("got byte %d, want %d", start, g.end)
	}
	if !bytes.Equal(c.Data, bytesAt(start, len(c.Data))) {
		g.rt.Fatalf("the %d bytes at %d are wrong", len(c.Data), start)
	}
	g.end, g.gap = start+int64(len(c.Data)), false
}

// world is a stream with its files, without a log process.
type world struct {
	rt      *rapid.T
	spec    StreamSpec
	stream  *stream
	pipe    *os.File
	written int64
}

func newWorld(t *testing.T, rt *rapid.T, files int, size int64) *world {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		rt.Fatal(err)
	}
	w := &world{rt: rt, spec: StreamSpec{
		ID: "x", FIFO: filepath.Join(dir, "fifo"), Dir: dir, Base: "web.stdout", MaxFiles: files, MaxFileSize: size,
	}}
	w.must(MakeFIFO(w.spec.FIFO))
	c, err := newCopier()
	w.must(err)
	w.stream, err = openStream(w.spec, c, testLog(t))
	w.must(err)
	w.pipe, err = os.OpenFile(w.spec.FIFO, os.O_RDWR|unix.O_NONBLOCK, 0)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.rt.Helper()
		w.rt.Fatal(err)
	}
}

func (w *world) close() {
	w.must(errors.Join(w.stream.copier.close(), w.stream.close(), w.pipe.Close()))
}

func (w *world) write(n int) { w.writeText(bytesAt(w.written, n)) }

func (w *world) writeText(text []byte) {
	if len(text) == 0 {
		return
	}
	_, err := w.pipe.Write(text)
	w.must(err)
	n, err := w.stream.move(turnBytes)
	w.must(err)
	if n != int64(len(text)) {
		w.rt.Fatalf("moved %d of %d bytes", n, len(text))
	}
	w.written += n
}

// oldest returns the offset in the stream of the oldest byte that is kept.
func (w *world) oldest() int64 { return int64(w.stream.files[0]) * w.spec.MaxFileSize }

func (w *world) reader() *Reader {
	root, err := os.OpenRoot(w.spec.Dir)
	w.must(err)
	defer root.Close()
	r, err := Open(root, w.spec.Base)
	w.must(err)
	return r
}

func TestReadersAreToldWhatHappensToAFile(t *testing.T) {
	dir := t.TempDir()
	name := func(n int) string { return filepath.Join(dir, fmt.Sprintf("web.stdout.%d", n)) }
	put := func(n int, text string) error { return os.WriteFile(name(n), []byte(text), 0o644) }
	r := openReader(t, dir, "web.stdout")
	chunk := func(n int, off int64, data, event string) Chunk {
		c := Chunk{File: filepath.Base(name(n)), Offset: off, Event: event}
		if data != "" {
			c.Data = []byte(data)
		}
		return c
	}
	for _, tt := range []struct {
		rule string
		do   func() error
		want []Chunk
	}{
		{"no file is an empty stream", func() error { return nil }, nil},
		{"the first file is read when it comes", func() error { return put(0, "abc") }, []Chunk{chunk(0, 3, "abc", "")}},
		{"a truncated file is read from its beginning", func() error { return put(0, "x") },
			[]Chunk{chunk(0, 0, "", EventTruncated), chunk(0, 1, "x", "")}},
		{"a removed file is reported once", func() error { return os.Remove(name(0)) }, []Chunk{chunk(0, 1, "", EventDeleted)}},
		{"and not again", func() error { return nil }, nil},
		{"the next file is read", func() error { return put(1, "de") }, []Chunk{chunk(1, 2, "de", "")}},
		{"files removed unread are reported", func() error { return put(4, "f") },
			[]Chunk{chunk(2, 0, "", EventDeleted), chunk(4, 1, "f", "")}},
		{"a link is no file of the stream", func() error { return os.Symlink("/etc/hostname", name(5)) }, nil},
		{"nor is another name", func() error { return os.WriteFile(name(5)+".gz", []byte("z"), 0o644) }, nil},
		{"nor is a second way to write a number", func() error { return os.WriteFile(filepath.Join(dir, "web.stdout.06"), []byte("z"), 0o644) }, nil},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		var got []Chunk
		for {
			c, err := r.Next(make([]byte, 10))
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.rule, err)
			}
			got = append(got, c)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: got (+), want (-):\n%s", tt.rule, d)
		}
	}
}
