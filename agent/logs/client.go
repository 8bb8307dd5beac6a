//go:build linux

package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/brumehq/brume/api"
)

// ErrSinkGone says that the log process has ended, or that its connection was lost. The caller starts another and opens
// its streams again.
var ErrSinkGone = errors.New("log process gone")

// SinkClient asks the log process. It is safe for concurrent use; requests are answered in order.
type SinkClient struct {
	conn net.Conn
	done chan struct{}

	writing sync.Mutex // held while a request is queued and written, for the order; taken before mu

	mu      sync.Mutex
	waiting []chan response // in the order of their requests
	gone    bool
}

// DialSink connects to the log process that serves socket.
func DialSink(ctx context.Context, socket string) (*SinkClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("log process: %w", err)
	}
	c := &SinkClient{conn: conn, done: make(chan struct{})}
	go c.read() // ends with the connection; Detach waits for it
	return c, nil
}

// Open makes the log process collect a stream. It is idempotent: a stream that is open already goes on, with the limits
// of spec; one whose pipe or directory is another now is drained and replaced.
func (c *SinkClient) Open(ctx context.Context, spec StreamSpec) error {
	_, err := c.ask(ctx, request{Op: opOpen, Stream: &spec})
	return err
}

// Close moves what the stream's pipe holds into its files and ends the stream. All that was written before Close is in
// the files when it returns nil. The error is api.ErrNotFound for a stream that is not open.
func (c *SinkClient) Close(ctx context.Context, id string) error {
	_, err := c.ask(ctx, request{Op: opClose, ID: id})
	return err
}

// List returns the open streams by ID.
func (c *SinkClient) List(ctx context.Context) ([]StreamStatus, error) {
	resp, err := c.ask(ctx, request{Op: opList})
	return resp.Streams, err
}

// Shutdown ends the log process after it moved what the pipes hold.
func (c *SinkClient) Shutdown(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opShutdown})
	return err
}

// Done is closed when the log process has ended or the connection was lost.
func (c *SinkClient) Done() <-chan struct{} { return c.done }

// Detach closes the connection and leaves the log process as it is.
func (c *SinkClient) Detach() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// ask sends a request and waits for its response.
func (c *SinkClient) ask(ctx context.Context, req request) (response, error) {
	line, err := json.Marshal(req)
	if err != nil {
		return response{}, fmt.Errorf("log process: %w", err)
	}
	wait := make(chan response, 1) // so that the reader need not wait for a caller that gave up
	if err := c.send(append(line, '\n'), wait); err != nil {
		return response{}, err
	}
	select {
	case <-ctx.Done():
		return response{}, ctx.Err()
	case resp, ok := <-wait:
		if !ok {
			return resp, ErrSinkGone
		}
		return resp, resp.err()
	}
}

// send writes a request whose response goes to wait. The reader goes on meanwhile: a log process that first wants to be
// rid of its responses reads the request then.
func (c *SinkClient) send(line []byte, wait chan response) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return ErrSinkGone
	}
	c.waiting = append(c.waiting, wait)
	c.mu.Unlock()
	if _, err := c.conn.Write(line); err != nil {
		_ = c.conn.Close() // half a request may be out; the reader ends all that wait
		return fmt.Errorf("%w: %w", ErrSinkGone, err)
	}
	return nil
}

func (r response) err() error {
	if r.Error == "" {
		return nil
	}
	if kind := api.KindOfName(r.Kind); kind != nil {
		return api.E(kind, r.Error)
	}
	return errors.New(r.Error)
}

// read hands responses to those that wait, in order, until the connection ends.
func (c *SinkClient) read() {
	defer close(c.done)
	dec := json.NewDecoder(c.conn)
	for {
		var resp response
		if err := dec.Decode(&resp); err != nil {
			break
		}
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.mu.Unlock()
			break // nobody asked: not the log process's protocol
		}
		wait := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		wait <- resp
	}
	_ = c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, wait := range c.waiting {
		close(wait)
	}
	c.waiting = nil
}
