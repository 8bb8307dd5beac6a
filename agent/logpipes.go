package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/brumehq/brume/agent/allocdir"
	"github.com/brumehq/brume/agent/logs"
	"github.com/brumehq/brume/api"
)

// logTimeout bounds a request to the log process.
const logTimeout = 10 * time.Second

// logPipes has the node's log process collect what tasks write. It keeps that process running, tells each new one of all
// open streams, and holds the pipes open meanwhile, so that no task sees a broken one.
type logPipes struct {
	log     *slog.Logger
	process sidecar
	socket  string

	mu      sync.Mutex
	streams map[string]*stream // open, by id
	client  *logs.SinkClient   // nil while there is none
	changed chan struct{}      // closed when client changes
}

// stream is an open stream. Nothing is read through pipe: that it is open is what counts.
type stream struct {
	spec logs.StreamSpec
	pipe *os.File
}

func newLogPipes(cfg Config, d dirs) *logPipes {
	return &logPipes{
		log: cfg.Log, socket: d.sinkSocket(), streams: make(map[string]*stream), changed: make(chan struct{}),
		process: sidecar{name: "logs-sink", exe: cfg.Exe, args: []string{"logs-sink", "--socket", d.sinkSocket()}, logs: d.logs},
	}
}

// run keeps the log process running until ctx ends; if stop says so then it ends it too.
func (p *logPipes) run(ctx context.Context, stop func() bool) {
	defer p.releaseAll()
	for try := 0; ctx.Err() == nil; try++ {
		began := time.Now()
		client, err := p.connect(ctx)
		if err != nil {
			switch {
			case ctx.Err() == nil:
				p.log.Error("log process", "err", err)
			case stop() && p.process.starting():
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTimeout)
				p.process.awaitEnd(ctx, p.socket)
				cancel()
			}
		} else {
			select {
			case <-client.Done():
				p.log.Warn("log process has died, starting another")
			case <-ctx.Done():
			}
			p.set(nil)
			if ctx.Err() != nil && stop() {
				p.shutdown(ctx, client)
			}
			if err := client.Detach(); err != nil {
				p.log.Debug("detach from log process", "err", err)
			}
		}
		if time.Since(began) > restartSteady {
			try = 0
		}
		if try > 0 && !pause(ctx, backoff(try, restartLimit)) {
			return
		}
	}
}

// connect reaches the log process and opens all streams in it.
func (p *logPipes) connect(ctx context.Context) (*logs.SinkClient, error) {
	var client *logs.SinkClient
	err := p.process.ensure(ctx, func(ctx context.Context) (err error) {
		client, err = logs.DialSink(ctx, p.socket)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	specs := make([]logs.StreamSpec, 0, len(p.streams))
	for _, s := range p.streams {
		specs = append(specs, s.spec)
	}
	p.mu.Unlock()
	for _, s := range specs {
		if err := client.Open(ctx, s); err != nil {
			if errors.Is(err, logs.ErrSinkGone) || ctx.Err() != nil {
				return nil, errors.Join(err, client.Detach())
			}
			p.log.Error("collect output", "stream", s.ID, "err", err)
		}
	}
	p.set(client)
	return client, nil
}

func (p *logPipes) shutdown(ctx context.Context, client *logs.SinkClient) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTimeout)
	defer cancel()
	if err := client.Shutdown(ctx); err != nil && !errors.Is(err, logs.ErrSinkGone) {
		p.log.Warn("end log process", "err", err)
	}
	p.process.awaitEnd(ctx, p.socket)
}

func (p *logPipes) set(client *logs.SinkClient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = client
	close(p.changed)
	p.changed = make(chan struct{})
}

// open makes the pipes of a task and has them read.
func (p *logPipes) open(ctx context.Context, specs []logs.StreamSpec) error {
	for _, s := range specs {
		if err := os.MkdirAll(filepath.Dir(s.FIFO), 0o700); err != nil {
			return err
		}
		if err := logs.MakeFIFO(s.FIFO); err != nil {
			return err
		}
		if err := p.hold(s); err != nil {
			return err
		}
		if err := p.ask(ctx, func(c *logs.SinkClient) error { return c.Open(ctx, s) }); err != nil {
			return err
		}
	}
	return nil
}

// hold puts a stream among the open ones, with its pipe.
func (p *logPipes) hold(s logs.StreamSpec) error {
	pipe, err := os.OpenFile(s.FIFO, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	p.mu.Lock()
	old := p.streams[s.ID]
	p.streams[s.ID] = &stream{s, pipe}
	p.mu.Unlock()
	if old != nil {
		return old.pipe.Close()
	}
	return nil
}

func (p *logPipes) release(id string) {
	p.mu.Lock()
	s := p.streams[id]
	delete(p.streams, id)
	p.mu.Unlock()
	if s != nil {
		s.pipe.Close() // nothing was written to it
	}
}

func (p *logPipes) releaseAll() {
	p.mu.Lock()
	ids := slices.Collect(maps.Keys(p.streams))
	p.mu.Unlock()
	for _, id := range ids {
		p.release(id)
	}
}

// close has the rest of what is in a task's pipes written, and removes them. Without a log process what is in the pipes
// stays there until the allocation is removed.
func (p *logPipes) close(ctx context.Context, specs []logs.StreamSpec) error {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	var errs []error
	for _, s := range specs {
		err := p.ask(ctx, func(c *logs.SinkClient) error { return c.Close(ctx, s.ID) })
		p.release(s.ID)
		if err == nil || errors.Is(err, api.ErrNotFound) {
			err = os.Remove(s.FIFO)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ask calls f with the log process of the moment, and with the next one if that dies over it.
func (p *logPipes) ask(ctx context.Context, f func(*logs.SinkClient) error) error {
	for {
		p.mu.Lock()
		client, changed := p.client, p.changed
		p.mu.Unlock()
		if client != nil {
			if err := f(client); !errors.Is(err, logs.ErrSinkGone) {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// streams are the specifications of a task's two streams.
func (t *task) streams() []logs.StreamSpec {
	spec := t.want.Load().task(t.name)
	if t.h.logs == nil || spec.LogConfig.Disabled {
		return nil
	}
	out := make([]logs.StreamSpec, 0, 2)
	for _, stream := range []string{"stdout", "stderr"} {
		base := t.name + "." + stream
		out = append(out, logs.StreamSpec{
			ID: t.allocID + "/" + base, FIFO: filepath.Join(t.h.dirs.fifo(t.allocID), base),
			Root: t.h.dirs.alloc(t.allocID).Path(), Dir: filepath.Join(allocdir.Shared, allocdir.Logs), Base: base,
			MaxFiles: spec.LogConfig.MaxFiles, MaxFileSize: int64(spec.LogConfig.MaxFileSizeMB) << 20,
		})
	}
	return out
}

// logPaths are where the driver is to write a task's output.
func (t *task) logPaths() (stdout, stderr string) {
	s := t.streams()
	if s == nil {
		return os.DevNull, os.DevNull
	}
	return s[0].FIFO, s[1].FIFO
}

func (t *task) openLogs(ctx context.Context) error {
	t.begun.Store(true)
	if s := t.streams(); s != nil {
		return t.h.logs.open(ctx, s)
	}
	return nil
}

func (t *task) closeLogs(ctx context.Context) {
	if s := t.streams(); s != nil {
		if err := t.h.logs.close(ctx, s); err != nil && ctx.Err() == nil {
			t.log.Warn("close output", "err", err)
		}
	}
}
