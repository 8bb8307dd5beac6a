package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/brumehq/brume/identity"
)

const (
	pingEvery = 3 * time.Second // the hub pings every session
	deadAfter = 9 * time.Second // of silence: three pings, or their answers, lost
)

type side bool

const (
	sideAgent side = false
	sideHub   side = true
)

// Session is one connection between a hub and an agent. Either side serves the HTTP requests of the other and makes
// its own, each on a stream. It ends when a side closes it, the connection fails, or the other side is not heard for
// nine seconds.
type Session struct {
	side      side
	peer      identity.Peer
	conn      *heardConn
	yam       *yamux.Session
	timer     *time.Timer            // of the keepalive
	transport func() *http.Transport // made when first used
	waits     sync.WaitGroup         // pings under way

	mu      sync.Mutex
	ended   bool
	cause   error                     // set with ended
	watches map[*clientWatch]struct{} // requests that the small loop serves
}

func newSession(conn *tls.Conn, side side) (*Session, error) {
	s := &Session{side: side, conn: newHeardConn(conn), watches: make(map[*clientWatch]struct{})}
	cs := conn.ConnectionState()
	if len(cs.PeerCertificates) == 0 {
		return nil, errors.Join(errors.New("a link needs a certificate"), conn.Close())
	}
	var err error
	if s.peer, err = identity.PeerOf(cs.PeerCertificates[0]); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	open := yamux.Client
	if side == sideHub {
		open = yamux.Server
	}
	if s.yam, err = open(s.conn, yamuxConfig()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.transport = sync.OnceValue(s.newTransport)
	s.mu.Lock() // the first tick needs timer
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(pingEvery, s.tick)
	return s, nil
}

// yamuxConfig leaves keepalive to the session and never waits long: both sides close every stream.
func yamuxConfig() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          16,
		EnableKeepAlive:        false,
		KeepAliveInterval:      pingEvery, // unused, but must be set
		ConnectionWriteTimeout: 10 * time.Second,
		MaxStreamWindowSize:    256 << 10,
		StreamOpenTimeout:      0,
		StreamCloseTimeout:     30 * time.Second,
		LogOutput:              io.Discard, // what ends a session is in Err
	}
}

// Peer returns who is at the other side, as its certificate said when the session began.
func (s *Session) Peer() identity.Peer { return s.peer }

// RemoteAddr returns the network address of the other side.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.yam.CloseChan() }

// Err returns nil until the session has ended, then why: ErrClosed, ErrSilent, io.EOF if the other side closed it, or
// what failed.
func (s *Session) Err() error {
	if !s.yam.IsClosed() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.cause = true, s.yamuxErr()
	}
	return s.cause
}

// yamuxErr reads why a session that is closed was; yamux tells by Accept only.
func (s *Session) yamuxErr() error {
	for {
		st, err := s.yam.AcceptStream()
		if err != nil {
			return err
		}
		st.Close() // one that came before the end
	}
}

// Ping measures the time to the other side and back.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	if !s.begin() {
		return 0, s.Err()
	}
	type result struct {
		rtt time.Duration
		err error
	}
	done := make(chan result, 1) // buffered: who asked may have gone
	go func() {
		defer s.waits.Done()
		rtt, err := s.yam.Ping()
		done <- result{rtt, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return 0, fmt.Errorf("ping: %w", r.err)
		}
		return r.rtt, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Close ends the session and waits for what it started; Serve and requests under way end by themselves.
func (s *Session) Close() error {
	s.end(ErrClosed)
	s.waits.Wait()
	return nil
}

// end closes the session for cause, if it has not ended yet.
func (s *Session) end(cause error) {
	s.mu.Lock()
	if !s.ended {
		s.ended = true
		s.cause = cause
		if s.yam.IsClosed() {
			s.cause = s.yamuxErr()
		}
	}
	s.mu.Unlock()
	s.timer.Stop()
	s.yam.Close()
}

// begin counts a ping that Close is to wait for, unless the session has ended.
func (s *Session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.yam.IsClosed() {
		return false
	}
	s.waits.Add(1)
	return true
}

// tick is the keepalive. The hub pings, the agent only listens: hearing the hub's pings is its proof. A timer per
// session holds no goroutine, and sessions that began at different times ping at different times.
func (s *Session) tick() {
	if !s.begin() {
		return
	}
	defer s.waits.Done()
	left := deadAfter - s.conn.silence()
	if left <= 0 {
		s.end(ErrSilent)
		return
	}
	if s.side == sideAgent {
		s.timer.Reset(left)
		return
	}
	s.timer.Reset(min(left, pingEvery))
	s.lookAtClients()
	_, _ = s.yam.Ping() // that an answer was heard is what counts
}

// lookAtClients ends the handlers of the small loop whose clients are gone.
func (s *Session) lookAtClients() {
	s.mu.Lock()
	watches := slices.Collect(maps.Keys(s.watches))
	s.mu.Unlock()
	for _, w := range watches {
		w.look()
	}
}

// heardConn notes when something was last read.
type heardConn struct {
	*tls.Conn
	start time.Time
	heard atomic.Int64 // since start
}

func newHeardConn(conn *tls.Conn) *heardConn { return &heardConn{Conn: conn, start: time.Now()} }

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.start)))
	}
	return n, err
}

// silence returns the time since something was last read.
func (c *heardConn) silence() time.Duration {
	return time.Since(c.start) - time.Duration(c.heard.Load())
}
