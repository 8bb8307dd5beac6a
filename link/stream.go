package link

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// maxFrame bounds one write: yamux copies each into a buffer of the session that never shrinks.
	maxFrame = 16 << 10

	idleStream = 10 * time.Second // an unused kept-alive stream is closed
	// maxToHub bounds the streams that an agent opens at once; more requests wait. A hub takes twice as many.
	maxToHub = maxStreams / 2
	// maxToAgent bounds what a hub opens to one agent, which may never answer: followers of logs, mostly.
	maxToAgent = 1024
)

// past is a deadline that makes blocked reads return.
var past = time.Unix(1, 0)

// stream is a yamux stream that behaves as a net.Conn should: Close wakes a blocked Read.
type stream struct {
	*yamux.Stream
	closed  atomic.Bool
	release func() // if set, called once when closed
	first   [1]byte
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if err != nil && s.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	total := 0
	for {
		n, err := s.Stream.Write(p[:min(len(p), maxFrame)])
		total += n
		p = p[n:]
		if err != nil || len(p) == 0 {
			return total, err
		}
	}
}

func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.Stream.Close()
	_ = s.Stream.SetReadDeadline(past) // cannot fail
	if s.release != nil {
		s.release()
	}
	return err
}

func (s *stream) SetReadDeadline(t time.Time) error {
	err := s.Stream.SetReadDeadline(t)
	if s.closed.Load() { // Close came between
		err = s.Stream.SetReadDeadline(past)
	}
	return err
}

func (s *stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// RoundTripper makes requests to the other side. The host of their URL does not matter ("http://link/path"). A request
// whose context ends closes its stream, which ends the context of the handler at the other side.
func (s *Session) RoundTripper() http.RoundTripper { return roundTripper{s} }

type roundTripper struct{ s *Session }

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := rt.s.Err(); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return rt.s.transport().RoundTrip(r)
}

// newTransport makes the client side; streams are kept for a while, so that a burst of requests opens few.
func (s *Session) newTransport() *http.Transport {
	dial := func(context.Context, string, string) (net.Conn, error) {
		st, err := s.yam.OpenStream()
		if err != nil {
			return nil, err
		}
		return &stream{Stream: st}, nil
	}
	most := maxToHub
	if s.side == sideHub {
		most = maxToAgent
	}
	return &http.Transport{
		DialContext:         dial,
		DialTLSContext:      dial, // an https URL is as good: the link is TLS
		DisableCompression:  true,
		MaxIdleConnsPerHost: maxToHub,
		MaxConnsPerHost:     most,
		IdleConnTimeout:     idleStream,
	}
}
