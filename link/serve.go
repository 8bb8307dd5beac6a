package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

const (
	headTimeout    = 10 * time.Second // to read a request's head, from its first byte
	bodyTimeout    = 30 * time.Second // and the body of one that the small loop takes
	idleTimeout    = time.Minute      // of a stream that net/http serves
	maxHeaderBytes = 64 << 10
	maxStreams     = 64 // that a hub serves to one agent at once, each worth a window of 256 KiB
)

// Serve answers the requests of the other side until the session ends, or ctx does, which ends the session. It returns
// once every handler has: nil if ctx ended or this side closed the session, else why it ended. A handler that panics
// ends the session with that error.
//
// An agent serves with net/http. A hub, which holds thousands of sessions, serves plain requests in a small loop of
// its own, and hands any other (chunked, upgrading, large) to net/http.
func (s *Session) Serve(ctx context.Context, h http.Handler) error {
	sv := newServing(ctx, s, h)
	stop := context.AfterFunc(ctx, func() { s.end(ErrClosed) })
	defer stop()
	for {
		st, err := s.yam.AcceptStream()
		if err != nil && s.yam.IsClosed() {
			break
		}
		if err == nil {
			sv.take(&stream{Stream: st})
		}
	}
	s.end(ErrClosed) // for those who wait for the keepalive's end
	sv.stop()
	if err := s.Err(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// serving is one call of Serve.
type serving struct {
	s       *Session
	ctx     context.Context // of all handlers; ends with the session
	cancel  context.CancelFunc
	handler http.Handler
	loops   sync.WaitGroup // small loops
	slots   chan struct{}  // of the hub: one for each stream it may serve
	std     func() *stdServer
}

func newServing(ctx context.Context, s *Session, h http.Handler) *serving {
	sv := &serving{s: s}
	sv.ctx, sv.cancel = context.WithCancel(ctx)
	sv.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer sv.recoverPanic()
		h.ServeHTTP(w, r)
	})
	sv.slots = make(chan struct{}, maxStreams)
	sv.std = sync.OnceValue(func() *stdServer { return newStdServer(sv.ctx, sv.handler) })
	return sv
}

// take serves one stream in a goroutine of its own, once it may.
func (sv *serving) take(st *stream) {
	if sv.s.side == sideAgent {
		sv.std().take(st)
		return
	}
	select {
	case sv.slots <- struct{}{}: // an agent with more waits: its streams are not accepted
		st.release = func() { <-sv.slots }
		sv.loops.Go(func() { sv.loop(st) })
	case <-sv.s.Done():
		st.Close()
	}
}

// stop waits for all handlers; the session has ended.
func (sv *serving) stop() {
	sv.cancel()
	sv.loops.Wait()
	sv.std().stop()
}

// recoverPanic ends the session for a handler's panic, so that Serve returns it. http.ErrAbortHandler goes on up: it
// ends the stream alone.
func (sv *serving) recoverPanic() {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		sv.s.end(fmt.Errorf("handler panicked: %v\n%s", v, debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// stdServer serves connections with net/http and knows when the last of them is done.
type stdServer struct {
	srv     *http.Server
	in      chan net.Conn
	done    chan struct{}
	serving sync.WaitGroup // connections and hijackers' handlers
	accept  sync.WaitGroup
}

func newStdServer(ctx context.Context, h http.Handler) *stdServer {
	s := &stdServer{in: make(chan net.Conn), done: make(chan struct{})}
	s.srv = &http.Server{
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // broken streams are the other side's affair
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serving.Add(1) // its connection is counted until the handler hijacks it
			defer s.serving.Done()
			h.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.serving.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.serving.Done()
			}
		},
	}
	s.accept.Go(func() { _ = s.srv.Serve(listener{s}) }) // ends with stop
	return s
}

// take serves conn; it returns at once.
func (s *stdServer) take(conn net.Conn) {
	select {
	case s.in <- conn:
	case <-s.done:
		conn.Close()
	}
}

// stop waits for every handler; the connections end by themselves, with their session.
func (s *stdServer) stop() {
	close(s.done)
	s.accept.Wait()
	s.srv.Close()
	s.serving.Wait()
}

// listener passes what stdServer takes to net/http.
type listener struct{ s *stdServer }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.in:
		return c, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return linkAddr{} }

type linkAddr struct{}

func (linkAddr) Network() string { return "link" }
func (linkAddr) String() string  { return "link" }
