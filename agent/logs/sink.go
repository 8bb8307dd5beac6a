//go:build linux

package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

// SinkConfig configures the log process.
type SinkConfig struct {
	Socket string // absolute path of its control socket, at most 100 bytes; Socket+".lock" is its lock
	Log    *slog.Logger
}

// StreamStatus is what the log process says of one stream.
type StreamStatus struct {
	Spec    StreamSpec
	File    string // name of the file it writes
	Size    int64  // of that file
	Moved   int64  // bytes since this log process opened the stream
	Stalled string // why its files cannot be written, "" if they can
	Dropped int64  // bytes thrown away since they cannot be written
}

// request and response are one JSON object each on the control socket, answered in order.
type request struct {
	Op     string
	Stream *StreamSpec `json:",omitempty"`
	ID     string      `json:",omitempty"`
}

type response struct {
	Error   string         `json:",omitempty"`
	Kind    string         `json:",omitempty"`
	Streams []StreamStatus `json:",omitempty"`
}

const (
	opOpen     = "open"
	opClose    = "close"
	opList     = "list"
	opShutdown = "shutdown"

	lockWait    = 5 * time.Second
	acceptRetry = 500 * time.Millisecond
)

// ServeSink is the node's log process. It serves cfg.Socket until ctx is done or a client asks for its shutdown, then
// moves what the pipes hold and returns. A second one on the same socket waits a few seconds for the first to end and
// then gives up with api.ErrConflict: two would mix a stream's bytes.
func ServeSink(ctx context.Context, cfg SinkConfig) error {
	if err := os.MkdirAll(filepath.Dir(cfg.Socket), 0o700); err != nil {
		return fmt.Errorf("log process: %w", err)
	}
	lock, err := lockFile(ctx, cfg.Socket+".lock")
	if err != nil {
		return fmt.Errorf("log process: %w", err)
	}
	defer lock.Close() // after all else: the next log process may start
	ln, err := listen(ctx, cfg.Socket)
	if err != nil {
		return fmt.Errorf("log process: %w", err)
	}
	l, err := newLoop(cfg.Log)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &sink{loop: l, log: cfg.Log, stop: stop, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(ctx, ln) })
	wg.Go(func() {
		<-ctx.Done()
		_ = ln.Close()
		s.hangUp()
		l.do(func() {}) // wakes it
	})
	err = l.run(func() bool { return ctx.Err() != nil })
	stop()
	wg.Wait()
	return err
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, pathError("lock", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w: another log process serves", path, api.ErrConflict)
		case <-tick.C:
		}
	}
}

// listen makes the control socket, mode 0600. The lock is held, so one that is there is left over.
func listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln.(*net.UnixListener), nil
}

// sink answers the control socket.
type sink struct {
	loop *loop
	log  *slog.Logger
	stop func()

	mu    sync.Mutex
	conns map[net.Conn]bool
	over  bool
}

// accept serves clients until ln is closed. While there are no descriptors left for one it tries again: the streams that
// are open go on.
func (s *sink) accept(ctx context.Context, ln *net.UnixListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		conn, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("log process accepts no connection", "err", err)
			retry.Reset(acceptRetry)
			select {
			case <-ctx.Done():
			case <-retry.C:
			}
			continue
		}
		if !s.keep(conn) {
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer s.forget(conn)
			if err := s.serve(conn); err != nil && !errors.Is(err, net.ErrClosed) {
				s.log.Warn("log process lost a client", "err", err)
			}
		})
	}
}

func (s *sink) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *sink) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *sink) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// serve answers one client, which must be of our user or root.
func (s *sink) serve(conn *net.UnixConn) error {
	if err := checkPeer(conn); err != nil {
		return err
	}
	dec, enc := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var req request
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		resp, ok := s.answer(req)
		if !ok {
			return nil // the client sees the connection end
		}
		if err := enc.Encode(resp); err != nil {
			return err
		}
		if req.Op == opShutdown {
			s.stop()
			return nil
		}
	}
}

// answer does what a client asks; false if the loop has ended.
func (s *sink) answer(req request) (resp response, ok bool) {
	var err error
	ok = s.loop.do(func() {
		switch req.Op {
		case opOpen:
			if req.Stream == nil {
				err = api.E(api.ErrInvalid, "open: no stream")
			} else if err = req.Stream.Validate(); err == nil {
				err = s.loop.open(*req.Stream)
			}
		case opClose:
			err = s.loop.close(req.ID)
		case opList:
			resp.Streams = s.loop.list()
		case opShutdown:
		default:
			err = api.E(api.ErrInvalid, fmt.Sprintf("unknown request %q", req.Op))
		}
	})
	if err != nil {
		resp.Error, resp.Kind = err.Error(), api.KindName(err)
	}
	return resp, ok
}

func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("who calls: %w", credErr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: user %d", api.ErrDenied, cred.Uid)
	}
	return nil
}
