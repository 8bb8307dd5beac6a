//go:build linux

package logs

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

const (
	// restAfter and rest keep a stream of short lines from costing a wake-up for each: after a round that moved less than
	// restAfter the loop rests, while the pipes fill. A pipe holds far more than comes in that time, and a stream that
	// fills it is moved without a rest.
	restAfter = 16 << 10
	rest      = 2 * time.Millisecond

	// wakeKey stands for the loop's own event in epoll's data.
	wakeKey = -1
)

// loop is the one goroutine that owns all streams and moves their bytes.
type loop struct {
	log    *slog.Logger
	epoll  int
	wake   int // eventfd
	copier *copier

	streams map[string]*stream
	byPipe  map[int32]*stream

	mu     sync.Mutex
	asked  []func() // what others want done on the loop's goroutine
	closed bool
}

func newLoop(log *slog.Logger) (*loop, error) {
	c, err := newCopier()
	if err != nil {
		return nil, err
	}
	l := &loop{log: log, copier: c, streams: map[string]*stream{}, byPipe: map[int32]*stream{}}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll: %w", err), c.close())
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeKey})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make event: %w", err), unix.Close(l.epoll), c.close())
	}
	return l, nil
}

// do runs f on the loop's goroutine and waits for it. It reports false if the loop has ended.
func (l *loop) do(f func()) bool {
	done := make(chan struct{})
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.asked = append(l.asked, func() { f(); close(done) })
	// Under the lock, so that the descriptor is not closed meanwhile; an eventfd's write does not block here.
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	l.mu.Unlock()
	<-done
	return true
}

// run moves bytes until stop is called on its goroutine, then drains and closes all streams.
func (l *loop) run(stopped func() bool) error {
	defer l.end()
	events := make([]unix.EpollEvent, 128)
	for !stopped() {
		n, err := unix.EpollWait(l.epoll, events, l.timeout(time.Now()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for log pipes: %w", err)
		}
		now := time.Now()
		var most int64
		asked := false
		for _, e := range events[:n] {
			if e.Fd == wakeKey {
				asked = true
				continue
			}
			most = max(most, l.turn(l.byPipe[e.Fd], now))
		}
		l.retry(now)
		if asked {
			l.answer()
		} else if n > 0 && most < restAfter {
			time.Sleep(rest)
		}
	}
	return nil
}

// turn moves a stream's bytes. The pipe of a stream that waits for its files is not watched: it would wake the loop for
// ever.
func (l *loop) turn(s *stream, now time.Time) int64 {
	n := s.turn(now)
	if watch := s.stalled == nil || s.dropping(now); watch != s.watched {
		l.watch(s, watch)
	}
	return n
}

func (l *loop) watch(s *stream, on bool) {
	e := unix.EpollEvent{Fd: int32(s.pipe)}
	if on {
		e.Events = unix.EPOLLIN
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, s.pipe, &e); err != nil {
		l.log.Error("log pipe not watched", "stream", s.spec.ID, "err", err)
		return
	}
	s.watched = on
}

// retry gives stalled streams whose time has come a turn.
func (l *loop) retry(now time.Time) {
	for _, s := range l.streams {
		if s.stalled != nil && !now.Before(s.stalled.retry) {
			l.turn(s, now)
		}
	}
}

// timeout returns the milliseconds until the next retry, -1 if there is none.
func (l *loop) timeout(now time.Time) int {
	next := time.Duration(-1)
	for _, s := range l.streams {
		if s.stalled == nil {
			continue
		}
		if d := max(0, s.stalled.retry.Sub(now)); next < 0 || d < next {
			next = d
		}
	}
	if next < 0 {
		return -1
	}
	return int(next.Milliseconds()) + 1
}

func (l *loop) answer() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:]) // resets it; EAGAIN if it was reset already
	l.mu.Lock()
	asked := l.asked
	l.asked = nil
	l.mu.Unlock()
	for _, f := range asked {
		f()
	}
}

// open makes the loop collect spec. A stream that is collected from the same pipe already gets the new limits; any other
// of that ID is drained and replaced.
func (l *loop) open(spec StreamSpec) error {
	if old := l.streams[spec.ID]; old != nil {
		if old.serves(spec) {
			old.limit(spec.MaxFiles, spec.MaxFileSize)
			return nil
		}
		if err := l.close(spec.ID); err != nil {
			l.log.Warn("replaced log stream not drained", "stream", spec.ID, "err", err)
		}
	}
	s, err := openStream(spec, l.copier, l.log)
	if err != nil {
		return fmt.Errorf("log stream %q: %w", spec.ID, err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.pipe)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.pipe, &e); err != nil {
		return errors.Join(fmt.Errorf("log stream %q: watch pipe: %w", spec.ID, err), s.close())
	}
	s.watched = true
	l.streams[spec.ID] = s
	l.byPipe[e.Fd] = s
	return nil
}

// serves reports whether the stream collects what spec names, its limits apart.
func (s *stream) serves(spec StreamSpec) bool {
	have := s.spec
	have.MaxFiles, have.MaxFileSize = spec.MaxFiles, spec.MaxFileSize
	if have != spec {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(spec.FIFO, &st)
	return err == nil && s.pipeNode == inode{uint64(st.Dev), st.Ino}
}

// close moves what a stream's pipe holds and forgets the stream.
func (l *loop) close(id string) error {
	s := l.streams[id]
	if s == nil {
		return api.E(api.ErrNotFound, fmt.Sprintf("log stream %q not found", id))
	}
	delete(l.streams, id)
	delete(l.byPipe, int32(s.pipe))
	return errors.Join(s.drain(), s.close())
}

func (l *loop) list() []StreamStatus {
	list := make([]StreamStatus, 0, len(l.streams))
	for _, s := range l.streams {
		st := StreamStatus{Spec: s.spec, File: fileName(s.spec.Base, s.current()), Size: s.size, Moved: s.moved}
		if s.stalled != nil {
			st.Stalled, st.Dropped = s.stalled.cause.Error(), s.stalled.dropped
		}
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b StreamStatus) int { return cmp.Compare(a.Spec.ID, b.Spec.ID) })
	return list
}

// end closes everything. Bytes that come later stay in the pipes for the next log process.
func (l *loop) end() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.answer()
	for id := range l.streams {
		if err := l.close(id); err != nil {
			l.log.Warn("log stream not drained", "stream", id, "err", err)
		}
	}
	if err := errors.Join(unix.Close(l.wake), unix.Close(l.epoll), l.copier.close()); err != nil {
		l.log.Warn("log loop not closed", "err", err)
	}
}
