//go:build linux

package logs

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

const (
	// turnBytes is the most that one stream moves before the others get their turn.
	turnBytes = 256 << 10
	// stallGrace is how long a stream whose files cannot be written keeps its task waiting. After that its output is
	// dropped, counted and marked in the file: a full disk costs log lines, not the service that wrote them.
	stallGrace = 5 * time.Second
	// retryEvery is how often a stalled stream tries its files again.
	retryEvery = 500 * time.Millisecond
)

// stream moves the bytes of one pipe into its files. It is owned by the loop's goroutine.
//
// Bytes go from pipe to file inside one splice(2): the kernel takes from the pipe what it has put into the file, even
// when the process is killed meanwhile. Nothing is held in between, so a new process continues at the newest file's end
// and nothing is lost or repeated.
type stream struct {
	spec StreamSpec
	log  *slog.Logger

	pipe     int // read and write end, so that it never reports an end
	pipeNode inode
	dir      *directory

	file  int      // -1: none is open
	size  int64    // of the open file
	files []uint64 // numbers of the files kept, ascending; the last is the open one

	copier *copier // shared by the loop's streams
	copies bool    // the file system refuses splice

	moved   int64
	stalled *stall
	watched bool // the loop wakes for the pipe
}

// stall is the state of a stream whose files cannot be written.
type stall struct {
	cause   error
	since   time.Time
	retry   time.Time
	dropped int64
}

type inode struct{ dev, ino uint64 }

// openStream opens a stream's pipe and directory, and its newest file at its end, or makes the first.
func openStream(spec StreamSpec, c *copier, log *slog.Logger) (*stream, error) {
	s := &stream{spec: spec, copier: c, file: -1, log: log.With("stream", spec.ID)}
	var err error
	if s.pipe, s.pipeNode, err = openPipe(spec.FIFO); err != nil {
		return nil, err
	}
	if s.dir, err = openDirectory(spec.Root, spec.Dir); err != nil {
		_ = unix.Close(s.pipe)
		return nil, err
	}
	if err := s.resume(); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func openPipe(path string) (int, inode, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, inode{}, pathError("open pipe", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, inode{}, pathError("open pipe", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		_ = unix.Close(fd)
		return -1, inode{}, fmt.Errorf("open pipe %s: %w: not a pipe", path, api.ErrInvalid)
	}
	return fd, inode{uint64(st.Dev), st.Ino}, nil
}

// resume finds the stream's files and opens the newest where it ends.
func (s *stream) resume() error {
	found, err := s.dir.indexes(s.spec.Base)
	if err != nil {
		return err
	}
	s.files = found
	if len(found) == 0 {
		return s.next(0)
	}
	newest := found[len(found)-1]
	fd, size, err := s.dir.reopen(fileName(s.spec.Base, newest))
	if err != nil {
		// Not ours to write on: go on in a file of a higher number.
		s.log.Warn("newest log file passed over", "err", err)
		return s.next(newest + 1)
	}
	s.file, s.size = fd, size
	s.prune()
	return nil
}

// next starts the file with the number from, or the next free one, and removes the oldest beyond MaxFiles.
func (s *stream) next(from uint64) error {
	fd, index, err := s.dir.create(s.spec.Base, from)
	if err != nil {
		return err
	}
	if s.file >= 0 {
		_ = unix.Close(s.file)
	}
	s.file, s.size = fd, 0
	s.files = append(s.files, index)
	s.prune()
	return nil
}

func (s *stream) prune() {
	for len(s.files) > s.spec.MaxFiles {
		if err := s.dir.remove(fileName(s.spec.Base, s.files[0])); err != nil {
			s.log.Warn("old log file kept", "err", err)
		}
		s.files = s.files[1:]
	}
}

func (s *stream) current() uint64 { return s.files[len(s.files)-1] }

// limit changes how much is kept.
func (s *stream) limit(maxFiles int, maxFileSize int64) {
	s.spec.MaxFiles, s.spec.MaxFileSize = maxFiles, maxFileSize
	s.prune()
}

// move moves what the pipe holds, at most about budget bytes, rotating as files fill. It returns how much it moved; an
// error is about the files, and the pipe keeps what was not moved.
func (s *stream) move(budget int64) (int64, error) {
	if err := s.settle(); err != nil {
		return 0, err
	}
	var n int64
	for n < budget {
		room := s.spec.MaxFileSize - s.size
		if room <= 0 {
			if held, err := s.held(); err != nil || held == 0 {
				return n, err
			}
			if err := s.next(s.current() + 1); err != nil {
				return n, err
			}
			continue
		}
		k, err := s.put(min(room, budget-n))
		n += k
		s.size += k
		s.moved += k
		if errors.Is(err, unix.EAGAIN) || (err == nil && k == 0) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", fileName(s.spec.Base, s.current()), err)
		}
	}
	return n, nil
}

// put moves at most limit bytes to the file's end.
func (s *stream) put(limit int64) (int64, error) {
	if s.copies {
		return s.copier.copy(s.pipe, s.file, s.size, limit)
	}
	for {
		off := s.size
		k, err := unix.Splice(s.pipe, nil, s.file, &off, int(limit), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL):
			s.log.Warn("file system refuses splice: a kill of the log process may repeat output")
			s.copies = true
			return s.copier.copy(s.pipe, s.file, s.size, limit)
		}
		return max(k, 0), err
	}
}

// settle looks at the open file anew, since a task may have truncated or removed it: writing goes on at its end, or in a
// new file.
func (s *stream) settle() error {
	var st unix.Stat_t
	if err := unix.Fstat(s.file, &st); err != nil {
		return pathError("stat", fileName(s.spec.Base, s.current()), err)
	}
	if st.Nlink == 0 {
		return s.next(s.current() + 1)
	}
	s.size = st.Size
	return nil
}

// held returns how many bytes the pipe holds.
func (s *stream) held() (int64, error) {
	n, err := unix.IoctlGetInt(s.pipe, unix.TIOCINQ)
	if err != nil {
		return 0, pathError("look into pipe", s.spec.FIFO, err)
	}
	return int64(n), nil
}

// turn gives the stream its turn and returns how much it moved. After an error of its files the stream is stalled.
func (s *stream) turn(now time.Time) int64 {
	if st := s.stalled; st != nil && now.Before(st.retry) {
		if now.Sub(st.since) >= stallGrace {
			st.dropped += s.copier.discard(s.pipe, turnBytes)
		}
		return 0
	}
	if s.stalled != nil {
		if err := s.mark(); err != nil {
			s.stall(now, err)
			return 0
		}
	}
	n, err := s.move(turnBytes)
	if err != nil {
		s.stall(now, err)
	} else if s.stalled != nil {
		s.log.Info("log stream goes on")
		s.stalled = nil
	}
	return n
}

// stall notes that the files cannot be written.
func (s *stream) stall(now time.Time, err error) {
	if s.stalled == nil {
		s.stalled = &stall{since: now}
		s.log.Warn("log stream stalled", "err", err)
	}
	s.stalled.cause, s.stalled.retry = err, now.Add(retryEvery)
	if now.Sub(s.stalled.since) >= stallGrace {
		if s.stalled.dropped == 0 {
			s.log.Error("log output is dropped", "err", err)
		}
		s.stalled.dropped += s.copier.discard(s.pipe, turnBytes)
	}
}

// dropping reports whether the stream throws output away until its files can be written.
func (s *stream) dropping(now time.Time) bool {
	return s.stalled != nil && now.Sub(s.stalled.since) >= stallGrace
}

// mark writes into the file, in the place of what was dropped, that it was.
func (s *stream) mark() error {
	if s.stalled.dropped == 0 {
		return nil
	}
	if err := s.settle(); err != nil {
		return err
	}
	text := fmt.Appendf(nil, "\n[brume] %d bytes of output dropped here: %v\n", s.stalled.dropped, s.stalled.cause)
	n, err := retryEINTR(func() (int, error) { return unix.Pwrite(s.file, text, s.size) })
	if err != nil {
		return err
	}
	s.size += int64(n)
	s.log.Warn("log output was dropped", "bytes", s.stalled.dropped, "err", s.stalled.cause)
	s.stalled.dropped = 0
	return nil
}

// drain moves what the pipe holds now. What tasks write meanwhile is not waited for.
func (s *stream) drain() error {
	if s.stalled != nil {
		if err := s.mark(); err != nil {
			return fmt.Errorf("log stream %q: %d bytes dropped: %w", s.spec.ID, s.stalled.dropped, err)
		}
	}
	left, err := s.held()
	for err == nil && left > 0 {
		var n int64
		if n, err = s.move(left); n == 0 {
			break
		}
		left -= n
	}
	if left > 0 && err != nil {
		return fmt.Errorf("log stream %q: %d bytes not kept: %w", s.spec.ID, left, err)
	}
	return err
}

func (s *stream) close() error {
	var errs []error
	if s.file >= 0 {
		errs = append(errs, unix.Close(s.file))
	}
	return errors.Join(append(errs, s.dir.close(), unix.Close(s.pipe))...)
}
