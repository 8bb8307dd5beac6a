package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/brumehq/brume/identity"
)

// The protocols of a hub's RPC port.
const (
	ALPNAgent = "brume-link/1"    // an agent's session
	ALPNHub   = "brume-hub/1"     // requests that hubs pass on to each other
	ALPNRaft  = "brume-raft/1"    // Raft
	ALPNJoin  = identity.ALPNJoin // a first join, without a client certificate
)

// roleOf tells which role may speak a protocol; a protocol that is not named here is open to all members.
var roleOf = map[string]identity.Role{
	ALPNAgent: identity.RoleAgent,
	ALPNHub:   identity.RoleHub,
	ALPNRaft:  identity.RoleHub,
}

const (
	handshakeTimeout = 10 * time.Second
	dialTimeout      = 10 * time.Second
)

var (
	// ErrSilent ends a session whose other side has not been heard for nine seconds.
	ErrSilent = errors.New("the other side is silent")
	// ErrClosed is the end of a session that this side closed.
	ErrClosed = errors.New("link closed")
)

// DialFunc connects to addr (host:port).
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// Dial connects over TCP.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "tcp", addr)
}

// DialTLS connects to addr by dial (nil means Dial) and does the handshake that cfg describes, within ten seconds each
// and ctx.
func DialTLS(ctx context.Context, addr string, cfg *tls.Config, dial DialFunc) (*tls.Conn, error) {
	if dial == nil {
		dial = Dial
	}
	raw, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", addr, err), ignoreClosed(raw.Close()))
	}
	return conn, nil
}

// Connect opens an agent's session with the hub at addr; dial nil means Dial. ctx bounds the connecting, not the
// session.
func Connect(ctx context.Context, addr string, cfg *tls.Config, dial DialFunc) (*Session, error) {
	conn, err := DialTLS(ctx, addr, cfg, dial)
	if err != nil {
		return nil, err
	}
	s, err := newSession(conn, sideAgent)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	// A client of TLS 1.3 is done before the server has looked at its certificate: only an answer shows that it is
	// welcome.
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if _, err := s.Ping(ctx); err != nil {
		if why := s.Err(); why != nil {
			err = why
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", addr, err), s.Close())
	}
	return s, nil
}

// Accept opens the hub's end of a session on a connection that a Mux passed to the handler of ALPNAgent.
func Accept(conn *tls.Conn) (*Session, error) { return newSession(conn, sideHub) }

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
