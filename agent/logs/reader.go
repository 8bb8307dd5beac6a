//go:build linux

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// What happened to a file under its reader, as a Chunk's Event says it.
const (
	EventDeleted   = "file deleted"
	EventTruncated = "file truncated"
)

// Chunk is a piece of a stream, or an event: then Data is empty.
type Chunk struct {
	File   string // name of the file, "web.stdout.3"
	Offset int64  // position in File after Data
	Data   []byte // valid until the next call of Next
	Event  string // EventDeleted, EventTruncated or ""
}

// Reader reads one stream's files as the log process writes, rotates and removes them. Its zero position is the oldest
// byte there is. It is not safe for concurrent use.
type Reader struct {
	dir  *directory
	base string

	file  *os.File // nil: none is open
	index uint64   // of file, or the lowest that is to be opened next
	pos   int64    // in that file
	sure  bool     // the position was sought or reached: a later file in its place means that some was lost
	lost  bool     // file was reported as deleted

	end *position // where reading stops, nil: nowhere
}

// position is a place in a stream.
type position struct {
	index uint64
	off   int64
}

// Open reads the stream whose files in dir are called base.N. A stream without files yet reads as empty. The reader needs
// dir no longer when Open returns.
func Open(dir *os.Root, base string) (*Reader, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	return &Reader{dir: &directory{fd}, base: base}, nil
}

// Close ends reading.
func (r *Reader) Close() error {
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	return errors.Join(err, r.dir.close())
}

// SeekStart goes to off bytes after the oldest byte that is kept, or to the end if there are fewer.
func (r *Reader) SeekStart(off int64) error {
	files, err := r.sizes()
	if err != nil {
		return err
	}
	return r.seek(files, off)
}

// SeekEnd goes to back bytes before the end, or to the oldest byte if there are fewer.
func (r *Reader) SeekEnd(back int64) error {
	files, err := r.sizes()
	if err != nil {
		return err
	}
	var total int64
	for _, f := range files {
		total += f.off
	}
	return r.seek(files, max(0, total-back))
}

// SeekTail goes to the beginning of the last lines, or to the oldest byte if there are fewer.
func (r *Reader) SeekTail(lines int) error {
	files, err := r.sizes()
	if err != nil {
		return err
	}
	t := tail{left: lines}
	for _, f := range slices.Backward(files) {
		off, found, err := r.tailOf(f, &t)
		if err != nil {
			return err
		}
		if found {
			return r.move(position{f.index, off})
		}
	}
	return r.seek(files, 0)
}

// StopAtEnd makes Next stop where the stream ends now, however fast it grows.
func (r *Reader) StopAtEnd() error {
	files, err := r.sizes()
	if err != nil {
		return err
	}
	r.end = &position{}
	if len(files) > 0 {
		*r.end = files[len(files)-1]
	}
	return nil
}

// sizes returns each file's number and size, the oldest first.
func (r *Reader) sizes() ([]position, error) {
	indexes, err := r.dir.indexes(r.base)
	if err != nil {
		return nil, err
	}
	files := make([]position, 0, len(indexes))
	for _, i := range indexes {
		var st unix.Stat_t
		err := unix.Fstatat(r.dir.fd, fileName(r.base, i), &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue // removed or replaced since it was listed
		}
		files = append(files, position{i, st.Size})
	}
	return files, nil
}

// seek goes to off bytes after the first byte of files.
func (r *Reader) seek(files []position, off int64) error {
	var to position
	for _, f := range files {
		to = position{f.index, min(off, f.off)}
		if off -= f.off; off < 0 {
			break
		}
	}
	return r.move(to)
}

func (r *Reader) move(to position) error {
	r.index, r.pos, r.sure, r.lost = to.index, to.off, true, false
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// tail counts lines from the end.
type tail struct {
	left  int
	begun bool // the stream's last byte was seen
}

// tailOf looks for the beginning of the last lines in one file, from its end, and returns where that is.
func (r *Reader) tailOf(f position, t *tail) (off int64, found bool, err error) {
	file, err := r.dir.open(fileName(r.base, f.index))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	buf := make([]byte, 32<<10)
	for end := f.off; end > 0; {
		start := max(0, end-int64(len(buf)))
		n, err := file.ReadAt(buf[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		if at, ok := t.scan(buf[:n]); ok {
			return start + int64(at), true, nil
		}
		end = start
	}
	return 0, false, nil
}

// scan takes the block before the ones it was given. It returns where in it the last lines begin, if they do.
func (t *tail) scan(block []byte) (int, bool) {
	if len(block) == 0 {
		return 0, false
	}
	if t.left <= 0 {
		return len(block), true
	}
	last := len(block)
	if !t.begun {
		t.begun = true
		if block[last-1] == '\n' {
			last-- // ends the last line; begins none
		}
	}
	for {
		at := bytes.LastIndexByte(block[:last], '\n')
		if at < 0 {
			return 0, false
		}
		if t.left--; t.left == 0 {
			return at + 1, true
		}
		last = at
	}
}

// Next reads at most len(buf) bytes into buf. At the end of what there is now it returns io.EOF; called again, it goes on
// with what has come since.
func (r *Reader) Next(buf []byte) (Chunk, error) {
	for {
		if r.file == nil {
			if c, err := r.openNext(); err != nil || c.Event != "" {
				return c, err
			}
		}
		c, err := r.read(buf)
		if !errors.Is(err, io.EOF) {
			return c, err
		}
		if r.end != nil && r.index >= r.end.index {
			return Chunk{}, io.EOF
		}
		// The log process is done with a file before it makes the next. So look for a next one, then for what was added
		// to this one until then.
		later, err := r.later(r.index + 1)
		if err != nil {
			return Chunk{}, err
		}
		if c, err := r.read(buf); !errors.Is(err, io.EOF) {
			return c, err
		}
		if !later {
			return r.fate()
		}
		if err := r.move(position{index: r.index + 1}); err != nil {
			return Chunk{}, err
		}
	}
}

// read reads on in the open file; io.EOF if there is nothing.
func (r *Reader) read(buf []byte) (Chunk, error) {
	if e := r.end; e != nil {
		if r.index > e.index {
			return Chunk{}, io.EOF
		}
		if r.index == e.index {
			buf = buf[:max(0, min(int64(len(buf)), e.off-r.pos))]
		}
	}
	if len(buf) == 0 {
		return Chunk{}, io.EOF
	}
	n, err := r.file.ReadAt(buf, r.pos)
	if n == 0 {
		return Chunk{}, err
	}
	r.pos += int64(n)
	return Chunk{File: r.file.Name(), Offset: r.pos, Data: buf[:n]}, nil
}

// fate reports what happened to the newest file, once; io.EOF if nothing did.
func (r *Reader) fate() (Chunk, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.file.Fd()), &st); err != nil {
		return Chunk{}, pathError("stat", r.file.Name(), err)
	}
	switch {
	case st.Size < r.pos:
		r.pos = 0
		return Chunk{File: r.file.Name(), Event: EventTruncated}, nil
	case st.Nlink == 0 && !r.lost:
		r.lost = true
		return Chunk{File: r.file.Name(), Offset: r.pos, Event: EventDeleted}, nil
	}
	return Chunk{}, io.EOF
}

// later reports whether there is a file with a number of at least from.
func (r *Reader) later(from uint64) (bool, error) {
	indexes, err := r.dir.indexes(r.base)
	return err == nil && len(indexes) > 0 && indexes[len(indexes)-1] >= from, err
}

// openNext opens the oldest file with a number of at least r.index; io.EOF if there is none. Files that were removed
// before they were read are reported as one event.
func (r *Reader) openNext() (Chunk, error) {
	for {
		indexes, err := r.dir.indexes(r.base)
		if err != nil {
			return Chunk{}, err
		}
		next, ok := firstFrom(indexes, r.index)
		if !ok {
			return Chunk{}, io.EOF
		}
		file, err := r.dir.open(fileName(r.base, next))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed; the next listing begins later
		}
		if err != nil {
			return Chunk{}, err
		}
		missed := next != r.index && r.sure
		c := Chunk{File: fileName(r.base, r.index), Offset: r.pos, Event: EventDeleted}
		if next != r.index {
			r.pos = 0
		}
		r.file, r.index, r.sure = file, next, true
		if missed {
			return c, nil
		}
		return Chunk{}, nil
	}
}

func firstFrom(sorted []uint64, from uint64) (uint64, bool) {
	for _, i := range sorted {
		if i >= from {
			return i, true
		}
	}
	return 0, false
}
