package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writeTimeout is how long a client may take to read its answers.
const writeTimeout = 10 * time.Second

// session is one client's connection.
type session struct {
	k        *keeper
	conn     *net.UnixConn
	shutdown func()
	calls    sync.WaitGroup

	mu    sync.Mutex
	queue []byte        // answers that are yet to be written
	more  chan struct{} // holds one: there is something in queue
}

func newSession(k *keeper, conn *net.UnixConn, shutdown func()) *session {
	return &session{k: k, conn: conn, shutdown: shutdown, more: make(chan struct{}, 1)}
}

// run serves the client until it goes or ctx ends.
func (s *session) run(ctx context.Context) {
	if !s.allowed() {
		s.conn.Close()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { s.conn.Close() })
	s.calls.Go(func() {
		defer cancel()
		s.write(ctx)
	})
	in := bufio.NewScanner(s.conn)
	in.Buffer(make([]byte, 0, 4<<10), maxRequest)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			s.answer(answer{Seq: r.Seq}, errors.New("not a request"))
			break
		}
		s.serve(r)
	}
	cancel()
	s.calls.Wait()
	s.k.unwait(func(w waiter) bool { return w.to == s })
}

// allowed checks that the client is the keeper's own user, or root.
func (s *session) allowed() bool {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return err == nil && controlErr == nil && (peer.Uid == 0 || peer.Uid == uint32(os.Geteuid()))
}

// serve answers one request; those that take time it serves beside the others.
func (s *session) serve(r request) {
	switch r.Op {
	case opStart:
		s.calls.Go(func() {
			p, err := s.k.start(r.Spec)
			s.answer(answer{Seq: r.Seq, Process: &p}, err)
		})
	case opKill:
		s.calls.Go(func() { s.answer(answer{Seq: r.Seq}, s.k.kill(r.ID)) })
	case opForget:
		s.calls.Go(func() { s.answer(answer{Seq: r.Seq}, s.k.forget(r.ID)) })
	case opWait:
		s.calls.Go(func() { // it blocks only while the process is being started
			if err := s.k.wait(r.ID, waiter{s, r.Seq}); err != nil {
				s.answer(answer{Seq: r.Seq}, err)
			}
		})
	case opCancel:
		s.k.unwait(func(w waiter) bool { return w == waiter{s, r.Seq} })
	case opInspect:
		p, err := s.k.inspect(r.ID)
		s.answer(answer{Seq: r.Seq, Process: &p}, err)
	case opSignal:
		s.answer(answer{Seq: r.Seq}, s.k.signal(r.ID, syscall.Signal(r.Signal)))
	case opList:
		s.answer(answer{Seq: r.Seq, List: s.k.list()}, nil)
	case opShutdown:
		s.answer(answer{Seq: r.Seq}, nil)
		s.shutdown()
	default:
		s.answer(answer{Seq: r.Seq}, errors.New("unknown operation "+r.Op))
	}
}

// answer queues one line. It never blocks.
func (s *session) answer(a answer, err error) {
	if err != nil {
		a.Err, a.Process = err.Error(), nil
		for kind, known := range kinds() {
			if errors.Is(err, known) {
				a.Kind = kind
			}
		}
	}
	line, err := json.Marshal(a)
	if err != nil { // cannot be: an answer is strings, numbers and times of this century
		return
	}
	s.mu.Lock()
	s.queue = append(append(s.queue, line...), '\n')
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// write writes what is queued until ctx ends or the client takes no more.
func (s *session) write(ctx context.Context) {
	for {
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		lines := s.queue
		s.queue = nil
		s.mu.Unlock()
		if s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return
		}
		if _, err := s.conn.Write(lines); err != nil {
			return
		}
	}
}
