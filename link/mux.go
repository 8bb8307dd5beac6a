package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/brumehq/brume/identity"
)

const (
	maxConns      = 32 << 10        // open connections; a hub of 5,000 agents needs 5,010
	maxHandshakes = 4096            // at once; more wait in the kernel's queue
	joinRate      = 50              // joins a second, and
	joinBurst     = 200             // this many at once; more wait,
	maxJoinWait   = 5 * time.Second // but not longer: who waits holds one of maxHandshakes
	maxJoinBytes  = 64 << 10        // what a joining member may send, TLS included
	joinTimeout   = 30 * time.Second
	closeGrace    = time.Second // for handlers to close their connections after the context has ended
)

// Mux serves the protocols of one port.
type Mux struct {
	ln       net.Listener
	members  *tls.Config // asks for a client certificate
	join     *tls.Config // asks for none
	log      *slog.Logger
	handlers map[string]Handler
	joins    *rate.Limiter
	slots    chan struct{}  // one for each handshake that may go on
	running  sync.WaitGroup // handshakes and handlers

	mu    sync.Mutex
	conns map[*rawConn]struct{} // open
	full  bool                  // and said so
}

// Handler owns the connection that it is given, and closes it or hands it to who will. It returns soon after ctx ends;
// the Mux then closes what is left open.
type Handler func(ctx context.Context, conn *tls.Conn)

// Listen makes a Mux of ln with a member's server configuration (identity.Credentials.ServerConfig); protocols are
// those that Handle names. The Mux owns ln from then on.
func Listen(ln net.Listener, cfg *tls.Config, log *slog.Logger) *Mux {
	m := &Mux{
		ln:       ln,
		log:      log,
		handlers: make(map[string]Handler),
		joins:    rate.NewLimiter(joinRate, joinBurst),
		slots:    make(chan struct{}, maxHandshakes),
		conns:    make(map[*rawConn]struct{}),
	}
	m.members = cfg.Clone()
	m.members.NextProtos = nil
	m.members.VerifyConnection = func(cs tls.ConnectionState) error {
		if cfg.VerifyConnection != nil {
			if err := cfg.VerifyConnection(cs); err != nil {
				return err
			}
		}
		return checkRole(cs)
	}
	m.members.GetConfigForClient = m.configFor
	m.join = cfg.Clone()
	m.join.NextProtos = []string{ALPNJoin}
	m.join.ClientAuth = tls.NoClientCert
	m.join.VerifyConnection = nil
	return m
}

// Handle sets what serves a protocol. Call it before Serve.
func (m *Mux) Handle(alpn string, h Handler) {
	m.handlers[alpn] = h
	if alpn != ALPNJoin {
		m.members.NextProtos = append(m.members.NextProtos, alpn)
	}
}

// Addr returns the address that the Mux listens on.
func (m *Mux) Addr() net.Addr { return m.ln.Addr() }

// Serve accepts connections until ctx ends or the listener fails; it returns once every handler has, nil if ctx ended.
func (m *Mux) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { m.ln.Close() })
	defer stop()

	err := m.acceptAll(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	cancel()
	force := time.AfterFunc(closeGrace, m.closeAll)
	defer force.Stop()
	m.running.Wait()
	m.closeAll()
	return errors.Join(err, ignoreClosed(m.ln.Close()))
}

func (m *Mux) acceptAll(ctx context.Context) error {
	var pause time.Duration
	for {
		select {
		case m.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		raw, err := m.ln.Accept()
		switch {
		case err == nil:
			pause = 0
			m.running.Go(func() { m.handshake(ctx, raw) })
			continue
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return err
		}
		// Too many open files, or a connection that ended before it was accepted.
		<-m.slots
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		m.log.Warn("accept connection", "err", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// handshake does not call the handler itself: a TLS handshake grows its goroutine's stack by some 30 KiB, which an
// idle session would keep.
func (m *Mux) handshake(ctx context.Context, raw net.Conn) {
	defer func() { <-m.slots }()
	rc := m.track(raw)
	if rc == nil {
		raw.Close()
		return
	}
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Server(rc, m.members)
	if err := conn.HandshakeContext(hctx); err != nil {
		rc.Close()
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			m.log.Debug("refuse connection", "peer", raw.RemoteAddr(), "err", err)
		}
		return
	}
	h := m.handlers[conn.ConnectionState().NegotiatedProtocol]
	if h == nil { // the client named no protocol
		conn.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == ALPNJoin {
		if err := conn.SetDeadline(time.Now().Add(joinTimeout)); err != nil {
			conn.Close()
			return
		}
	}
	m.running.Go(func() { h(ctx, conn) })
}

// configFor picks whether to ask for a client certificate: not if all that the client speaks of ours is joining.
func (m *Mux) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if m.handlers[ALPNJoin] == nil || !slices.Contains(hello.SupportedProtos, ALPNJoin) {
		return nil, nil
	}
	for _, p := range m.members.NextProtos {
		if slices.Contains(hello.SupportedProtos, p) {
			return nil, nil
		}
	}
	if rc, ok := hello.Conn.(*rawConn); ok {
		rc.limit(maxJoinBytes)
	}
	return m.join, m.waitToJoin(hello.Context())
}

// waitToJoin keeps to joinRate.
func (m *Mux) waitToJoin(ctx context.Context) error {
	r := m.joins.Reserve()
	wait := r.Delay()
	if wait > maxJoinWait {
		r.Cancel()
		return errors.New("too many joins")
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		r.Cancel()
		return ctx.Err()
	}
}

// checkRole refuses a member whose role may not speak the protocol.
func checkRole(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	peer, err := identity.PeerOf(cs.PeerCertificates[0])
	if err != nil {
		return err
	}
	if want, ok := roleOf[cs.NegotiatedProtocol]; ok && peer.Role != want {
		return fmt.Errorf("%s %s may not speak %s", peer.Role, peer.NodeID, cs.NegotiatedProtocol)
	}
	return nil
}

// track counts the connection until it is closed; nil means that there are too many.
func (m *Mux) track(raw net.Conn) *rawConn {
	rc := &rawConn{Conn: raw, mux: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.conns) >= maxConns {
		if !m.full {
			m.full = true
			m.log.Warn("refuse connections", "open", maxConns)
		}
		return nil
	}
	m.conns[rc] = struct{}{}
	return rc
}

func (m *Mux) closeAll() {
	m.mu.Lock()
	open := make([]*rawConn, 0, len(m.conns))
	for rc := range m.conns {
		open = append(open, rc)
	}
	m.mu.Unlock()
	for _, rc := range open {
		rc.Close()
	}
}

// rawConn is an accepted connection below TLS. It leaves the Mux's books when closed, and can bound what it reads.
type rawConn struct {
	net.Conn
	mux   *Mux
	bound bool
	left  int // bytes that may still be read, if bound
}

// limit bounds what may be read from now on. The handshake calls it, on the goroutine that reads.
func (c *rawConn) limit(n int) { c.bound, c.left = true, n }

// Read is called by one goroutine at a time: TLS holds a lock around it.
func (c *rawConn) Read(p []byte) (int, error) {
	if !c.bound {
		return c.Conn.Read(p)
	}
	if c.left <= 0 {
		return 0, errors.New("the peer sends too much")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *rawConn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.conns, c)
	c.mux.full = c.mux.full && len(c.mux.conns) > maxConns/2
	c.mux.mu.Unlock()
	return c.Conn.Close()
}
