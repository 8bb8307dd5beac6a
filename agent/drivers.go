package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

const (
	// firstFingerprint is how long a node waits for its drivers before it registers without the slow ones.
	firstFingerprint = 3 * time.Second
	fingerprintAgain = 5 * time.Second // before a stream that ended is opened again
	pluginAgain      = 30 * time.Second
)

// errNoDriver says that this node has no such driver and will not get it.
var errNoDriver = errors.New("this node has no such driver")

// driver is one process of a driver plugin.
type driver struct {
	plugins.Client
	name string
	caps plugins.Capabilities
}

// driverSet runs the node's driver plugins, each in a process of its own that is started again when it dies, and says in
// the node's record how they are. It is safe for use by many goroutines.
type driverSet struct {
	log     *slog.Logger
	node    *nodeRecord
	plugins []pluginSpec
	said    chan plugins.TaskEvent // what drivers tell of tasks, for reconcile to hand on

	mu      sync.Mutex
	specs   map[string]string  // driver name -> the file that offers it
	current map[string]*driver // by name, those whose process lives
	unnamed int                // plugins that did not say their name yet
	changed chan struct{}      // closed at the next change of the above
}

// pluginSpec is one plugin to keep running.
type pluginSpec struct {
	file  string // name of its file, or of the built-in driver
	begin func(context.Context) (*plugin, error)
}

// plugin is a plugin that runs.
type plugin struct {
	name    string // of its driver
	client  plugins.Client
	gone    <-chan struct{}       // closed when its process has ended; nil if it has none
	release func(context.Context) // lets go of it; with an ended context the agent is going too
}

func newDriverSet(log *slog.Logger, node *nodeRecord, specs []pluginSpec) *driverSet {
	return &driverSet{
		log: log, node: node, plugins: specs, unnamed: len(specs), said: make(chan plugins.TaskEvent),
		specs: make(map[string]string), current: make(map[string]*driver), changed: make(chan struct{}),
	}
}

// run keeps all plugins running until ctx ends. It calls ready once each has said how it is, or has had its time.
func (s *driverSet) run(ctx context.Context, ready func()) {
	var first, running sync.WaitGroup
	for _, spec := range s.plugins {
		first.Add(1)
		running.Go(func() { s.supervise(ctx, spec, sync.OnceFunc(first.Done)) })
	}
	known := make(chan struct{})
	running.Go(func() {
		first.Wait()
		close(known)
	})
	timeout := time.NewTimer(firstFingerprint)
	defer timeout.Stop()
	select {
	case <-known:
	case <-timeout.C:
		s.log.Warn("some drivers are slow to say how they are")
	case <-ctx.Done():
	}
	ready()
	running.Wait()
}

// get returns the process of a driver that is not gone, waiting for it to be started if need be. The error is errNoDriver
// or ctx's.
func (s *driverSet) get(ctx context.Context, name string, gone *driver) (*driver, error) {
	for {
		s.mu.Lock()
		d, named, unnamed, changed := s.current[name], s.specs[name] != "", s.unnamed, s.changed
		s.mu.Unlock()
		switch {
		case d != nil && d != gone:
			return d, nil
		case !named && unnamed == 0:
			return nil, errNoDriver
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask calls f with the process of a driver that is not gone, and with the next one if that dies over it. It returns the
// process that answered, with f's error, or get's error.
func (s *driverSet) ask(ctx context.Context, name string, gone *driver, f func(*driver) error) (*driver, error) {
	for {
		d, err := s.get(ctx, name, gone)
		if err != nil {
			return nil, err
		}
		if err := f(d); !errors.Is(err, plugins.ErrPluginGone) {
			return d, err
		}
		gone = d
	}
}

// supervise runs one plugin again and again until ctx ends.
func (s *driverSet) supervise(ctx context.Context, spec pluginSpec, first func()) {
	defer first()
	log := s.log.With("plugin", spec.file)
	name := ""
	for try := 0; ctx.Err() == nil; {
		began := time.Now()
		err := s.live(ctx, spec, &name, first)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errTaken) {
			log.Error("plugin is not used", "err", err)
			return
		}
		if name != "" {
			s.node.setDriver(name, down(err))
		}
		first()
		if time.Since(began) > restartSteady {
			try = 0
		}
		wait := backoff(try, pluginAgain)
		try++
		log.Error("driver plugin", "err", err, "again", wait)
		if !pause(ctx, wait) {
			return
		}
	}
}

// errTaken says that another plugin offers the same driver.
var errTaken = errors.New("another plugin offers the same driver")

// live begins the plugin and follows it until it is gone or ctx ends.
func (s *driverSet) live(ctx context.Context, spec pluginSpec, name *string, first func()) error {
	p, err := spec.begin(ctx)
	if err != nil {
		return err
	}
	defer p.release(ctx)
	*name = p.name
	return s.offer(ctx, spec.file, p, first)
}

// offer lets tasks use a plugin until it is gone, and keeps the node's record of it current.
func (s *driverSet) offer(ctx context.Context, file string, p *plugin, first func()) error {
	caps, err := p.client.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	d := &driver{Client: p.client, name: p.name, caps: caps}
	if err := s.add(file, d); err != nil {
		return err
	}
	defer s.drop(d)
	following := stage(ctx)
	defer following.end()
	following.run(func(ctx context.Context) { s.follow(ctx, d, first) })
	following.run(func(ctx context.Context) { s.listen(ctx, d) })
	select {
	case <-p.gone:
		return plugins.ErrPluginGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen hands on what a driver tells of its tasks, for as long as the stream lasts: it is news, not state.
func (s *driverSet) listen(ctx context.Context, d *driver) {
	for {
		stream, err := d.Events(ctx)
		if errors.Is(err, plugins.ErrUnsupported) {
			return
		}
		if err == nil {
			for e := range stream {
				select {
				case s.said <- e:
				case <-ctx.Done():
				}
			}
		}
		if !pause(ctx, fingerprintAgain) {
			return
		}
	}
}

// follow puts each fingerprint of a driver into the node's record.
func (s *driverSet) follow(ctx context.Context, d *driver, first func()) {
	for {
		stream, err := d.Fingerprint(ctx)
		if err == nil {
			for f := range stream {
				s.node.setDriver(d.name, driverStatus(f))
				first()
			}
			err = errors.New("the stream of fingerprints ended")
		}
		if ctx.Err() != nil {
			return
		}
		s.node.setDriver(d.name, &api.DriverStatus{HealthDescription: err.Error(), UpdateTime: time.Now()})
		first()
		if !pause(ctx, fingerprintAgain) {
			return
		}
	}
}

// down is the status of a driver whose plugin does not run.
func down(err error) *api.DriverStatus {
	return &api.DriverStatus{HealthDescription: "the plugin is not running: " + err.Error(), UpdateTime: time.Now()}
}

func driverStatus(f plugins.Fingerprint) *api.DriverStatus {
	s := &api.DriverStatus{
		Attributes: f.Attributes, Detected: f.Health != plugins.Undetected, Healthy: f.Health == plugins.Healthy,
		HealthDescription: f.Description, UpdateTime: time.Now(),
	}
	if f.Err != nil {
		s.Healthy, s.HealthDescription = false, f.Err.Error()
	}
	return s
}

// add makes a driver known; only one plugin may offer it.
func (s *driverSet) add(file string, d *driver) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.announce()
	have := s.specs[d.name]
	if have == "" {
		s.unnamed--
	}
	if have != "" && have != file {
		s.unnamed--
		return fmt.Errorf("%w: %s is that of %s", errTaken, d.name, have)
	}
	s.specs[d.name], s.current[d.name] = file, d
	return nil
}

func (s *driverSet) drop(d *driver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current[d.name] == d {
		delete(s.current, d.name)
	}
	s.announce()
}

func (s *driverSet) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
