package link

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memConn is one end of a connection of a Memory.
type memConn struct {
	net           *Memory
	local, remote memAddr
	in, out       *memPipe
	once          sync.Once
}

func newMemPair(m *Memory, client, server memAddr) (c, s *memConn) {
	up, down := newMemPipe(), newMemPipe()
	c = &memConn{net: m, local: client, remote: server, in: down, out: up}
	s = &memConn{net: m, local: server, remote: client, in: up, out: down}
	return c, s
}

func (c *memConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *memConn) LocalAddr() net.Addr                { return c.local }
func (c *memConn) RemoteAddr() net.Addr               { return c.remote }
func (c *memConn) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(&c.in.reader, t) }
func (c *memConn) SetWriteDeadline(t time.Time) error { return c.out.setDeadline(&c.out.writer, t) }

func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close sends an end to the other side, after what was written.
func (c *memConn) Close() error {
	c.once.Do(func() {
		c.in.closeRead()
		c.out.closeWrite(io.EOF)
		c.net.forget(c)
	})
	return nil
}

// reset breaks both directions at once; each side still has to close its end.
func (c *memConn) reset() {
	c.in.closeWrite(syscall.ECONNRESET)
	c.out.closeWrite(syscall.ECONNRESET)
}

// memWindow is how much a direction holds before its writer blocks.
const memWindow = 256 << 10

// memPipe is one direction of a connection.
type memPipe struct {
	mu             sync.Mutex
	change         chan struct{} // closed, and made anew, at every change
	buf            []byte
	end            error // after buf: io.EOF or a reset; nil while the writer may write
	unread         bool  // the reader has closed
	silent         bool  // the reader gets nothing until it is healed
	reader, writer deadline
}

// deadline is when an operation of one side fails; zero means never.
type deadline struct {
	at    time.Time
	timer *time.Timer // wakes who waits at that time
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newMemPipe() *memPipe { return &memPipe{change: make(chan struct{})} }

// changed wakes who waits; p.mu is held.
func (p *memPipe) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

func (p *memPipe) read(b []byte) (int, error) {
	for {
		n, change, err := p.tryRead(b)
		if change == nil {
			return n, err
		}
		<-change
	}
}

// tryRead returns a channel to wait on if there is nothing to read yet.
func (p *memPipe) tryRead(b []byte) (int, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.unread:
		return 0, nil, net.ErrClosed
	case p.reader.passed():
		return 0, nil, os.ErrDeadlineExceeded
	case len(b) == 0:
		return 0, nil, nil
	case p.silent:
		return 0, p.change, nil
	case errors.Is(p.end, syscall.ECONNRESET):
		return 0, nil, p.end
	case len(p.buf) > 0:
		n := copy(b, p.buf)
		if p.buf = p.buf[n:]; len(p.buf) == 0 {
			p.buf = nil
		}
		p.changed()
		return n, nil, nil
	case p.end != nil:
		return 0, nil, p.end
	}
	return 0, p.change, nil
}

func (p *memPipe) write(b []byte) (int, error) {
	total := 0
	for {
		n, change, err := p.tryWrite(b)
		total, b = total+n, b[n:]
		if change == nil {
			return total, err
		}
		<-change
	}
}

// tryWrite returns a channel to wait on if not all of b could be written yet.
func (p *memPipe) tryWrite(b []byte) (int, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(p.end, io.EOF):
		return 0, nil, net.ErrClosed
	case p.end != nil && !p.silent:
		return 0, nil, p.end
	case p.unread && !p.silent:
		return 0, nil, syscall.EPIPE
	case p.writer.passed():
		return 0, nil, os.ErrDeadlineExceeded
	}
	n := min(len(b), memWindow-len(p.buf))
	if n > 0 {
		p.buf = append(p.buf, b[:n]...)
		p.changed()
	}
	if n == len(b) {
		return n, nil, nil
	}
	return n, p.change, nil
}

func (p *memPipe) closeWrite(end error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == nil {
		p.end = end
		p.changed()
	}
}

func (p *memPipe) closeRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unread = true
	p.changed()
}

func (p *memPipe) setSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	p.changed()
}

// setDeadline sets d, which is one of p's two.
func (p *memPipe) setDeadline(d *deadline, t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{}
	if !t.IsZero() {
		wait := max(time.Until(t), 0)
		d.at = time.Now().Add(wait)
		d.timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changed()
		})
	}
	p.changed()
	return nil
}
