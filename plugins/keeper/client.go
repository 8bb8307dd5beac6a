package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Client asks a keeper. Its methods may be called at the same time; all share one connection, which is made anew when the
// keeper was: calls that were under way then return ErrGone.
type Client struct {
	socket string

	mu     sync.Mutex
	link   *link
	closed bool
}

// dialTimeout bounds connecting, which to a live keeper takes no time.
const dialTimeout = 2 * time.Second

// Dial connects to the keeper that listens on socket. ErrGone says that there is none.
func Dial(socket string) (*Client, error) {
	c := &Client{socket: socket}
	if _, err := c.connect(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connection; calls under way return ErrGone.
func (c *Client) Close() error {
	c.mu.Lock()
	l := c.link
	c.link, c.closed = nil, true
	c.mu.Unlock()
	if l != nil {
		l.close()
	}
	return nil
}

// Start starts a process, or returns the one that has the ID. When it returns, the keeper's successor will know it too.
func (c *Client) Start(ctx context.Context, spec Spec) (Process, error) {
	return c.process(ctx, request{Op: opStart, Spec: &spec})
}

// Inspect returns a process as it is now.
func (c *Client) Inspect(ctx context.Context, id string) (Process, error) {
	return c.process(ctx, request{Op: opInspect, ID: id})
}

// Wait blocks until the process has ended.
func (c *Client) Wait(ctx context.Context, id string) (Exit, error) {
	p, err := c.process(ctx, request{Op: opWait, ID: id})
	if err != nil {
		return Exit{}, err
	}
	if p.Exit == nil {
		return Exit{}, fmt.Errorf("%w: it answers nonsense", ErrGone)
	}
	return *p.Exit, nil
}

// Signal signals the process and its group. For one that has ended it does nothing.
func (c *Client) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	_, err := c.call(ctx, request{Op: opSignal, ID: id, Signal: int(sig)})
	return err
}

// Kill kills the process and all that belongs to it: its session and their descendants.
func (c *Client) Kill(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{Op: opKill, ID: id})
	return err
}

// List returns all processes that are not forgotten, by ID.
func (c *Client) List(ctx context.Context) ([]Process, error) {
	a, err := c.call(ctx, request{Op: opList})
	return a.List, err
}

// Forget frees what the keeper holds for a process that has ended: its exit code and its pipes. ErrRunning says that it
// has not.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{Op: opForget, ID: id})
	return err
}

// Shutdown ends the keeper. Processes that run go on without one.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opShutdown})
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

func (c *Client) process(ctx context.Context, r request) (Process, error) {
	a, err := c.call(ctx, r)
	if err != nil {
		return Process{}, err
	}
	if a.Process == nil {
		return Process{}, fmt.Errorf("%w: it answers nonsense", ErrGone)
	}
	return *a.Process, nil
}

func (c *Client) call(ctx context.Context, r request) (answer, error) {
	l, err := c.connect()
	if err != nil {
		return answer{}, err
	}
	a, err := l.call(ctx, r)
	if err != nil {
		return answer{}, err
	}
	if a.Err != "" {
		return answer{}, remoteError(a)
	}
	return a, nil
}

// remoteError gives an answer's error its identity back.
func remoteError(a answer) error {
	known := kinds()[a.Kind]
	if known == nil {
		return errors.New(a.Err)
	}
	if a.Err == known.Error() {
		return known
	}
	return &kindError{a.Err, known}
}

type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

// connect returns the connection, a new one if the last is gone.
func (c *Client) connect() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("%w: the client is closed", ErrGone)
	}
	if c.link != nil && !c.link.gone() {
		return c.link, nil
	}
	conn, err := net.DialTimeout("unix", c.socket, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	c.link = newLink(conn)
	return c.link, nil
}

// link is one connection to a keeper.
type link struct {
	conn net.Conn
	done chan struct{} // closed when the connection is over, and reading with it

	writing sync.Mutex

	mu      sync.Mutex
	seq     uint64
	pending map[uint64]chan answer
}

func newLink(conn net.Conn) *link {
	l := &link{conn: conn, done: make(chan struct{}), pending: make(map[uint64]chan answer)}
	go l.read() // ends with the connection; close waits for it
	return l
}

func (l *link) gone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *link) close() {
	l.conn.Close()
	<-l.done
}

// read hands out answers until the connection ends.
func (l *link) read() {
	defer close(l.done)
	defer l.conn.Close()
	decoder := json.NewDecoder(bufio.NewReader(io.Reader(l.conn)))
	for {
		var a answer
		if decoder.Decode(&a) != nil {
			return
		}
		l.mu.Lock()
		out := l.pending[a.Seq]
		delete(l.pending, a.Seq)
		l.mu.Unlock()
		if out != nil {
			out <- a // it has room for this one answer
		}
	}
}

func (l *link) call(ctx context.Context, r request) (answer, error) {
	out := make(chan answer, 1) // so that read never waits for a caller that has gone
	l.mu.Lock()
	l.seq++
	r.Seq = l.seq
	l.pending[r.Seq] = out
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.pending, r.Seq)
		l.mu.Unlock()
	}()
	if err := l.send(r); err != nil {
		return answer{}, err
	}
	select {
	case a := <-out:
		return a, nil
	case <-ctx.Done():
		if r.Op == opWait {
			_ = l.send(request{Op: opCancel, Seq: r.Seq}) // if it fails, the connection is over and so is the wait
		}
		return answer{}, ctx.Err()
	case <-l.done:
		select {
		case a := <-out:
			return a, nil
		default:
			return answer{}, ErrGone
		}
	}
}

func (l *link) send(r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(line) >= maxRequest {
		return errors.New("arguments and environment are too long")
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if _, err := l.conn.Write(append(line, '\n')); err != nil {
		l.conn.Close()
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}
