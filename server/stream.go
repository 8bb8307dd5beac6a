package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftStream carries Raft between hubs: connections that other hubs opened on the RPC port with Raft's ALPN, and those
// it dials. To itself a hub speaks through a pipe.
type raftStream struct {
	addr net.Addr // of the RPC port, as the other hubs reach it
	dial func(ctx context.Context, addr string) (net.Conn, error)

	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

var _ raft.StreamLayer = (*raftStream)(nil)

func newRaftStream(addr net.Addr, dial func(context.Context, string) (net.Conn, error)) *raftStream {
	return &raftStream{addr: addr, dial: dial, incoming: make(chan net.Conn), closed: make(chan struct{})}
}

// serve hands a connection of another hub to Raft and returns when Raft has closed it.
func (s *raftStream) serve(ctx context.Context, conn *tls.Conn) {
	c := &notedConn{Conn: conn, done: make(chan struct{})}
	select {
	case s.incoming <- c:
	case <-ctx.Done():
		conn.Close()
		return
	case <-s.closed:
		conn.Close()
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// Accept gives Raft the next connection.
func (s *raftStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections are Raft's to close.
func (s *raftStream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr is this hub's address in Raft.
func (s *raftStream) Addr() net.Addr { return s.addr }

// Dial opens a connection to another hub.
func (s *raftStream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if string(to) != s.addr.String() {
		return s.dial(ctx, string(to))
	}
	near, far := net.Pipe()
	select {
	case s.incoming <- far:
		return near, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), near.Close(), far.Close())
	case <-s.closed:
		return nil, errors.Join(net.ErrClosed, near.Close(), far.Close())
	}
}

// notedConn tells when it was closed.
type notedConn struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

func (c *notedConn) Close() error {
	defer c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}
