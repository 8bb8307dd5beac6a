package plugins

import (
	"context"
	"fmt"
	"time"
)

// Client is a driver as a host uses it, whether it runs in a process of its own or in this one. What the driver does not
// implement answers ErrUnsupported. After its plugin has ended, all of it answers ErrPluginGone.
type Client interface {
	Capabilities(ctx context.Context) (Capabilities, error)
	// EncodeTaskConfig checks a task's config block by the driver's schema and encodes it for TaskConfig.DriverConfig;
	// see Schema.Encode.
	EncodeTaskConfig(ctx context.Context, config map[string]any, vars map[string]string) ([]byte, error)
	Tasks
	Inspector
	Signaler
	StatsReporter
	EventReporter
	Execer
	Networker
}

// InProcess is the Client of a driver in this process. It starts no goroutine of its own.
func InProcess(d Driver) Client { return newClient(d) }

// client puts the optional interfaces of a driver, local or remote, behind one type.
type client struct {
	Tasks
	about describer
}

// describer answers what a Description holds.
type describer interface {
	capabilities(ctx context.Context) (Capabilities, error)
	taskSchema(ctx context.Context) (Schema, error)
}

// local describes a driver of this process.
type local struct{ d Driver }

func (l local) capabilities(context.Context) (Capabilities, error) {
	return l.d.Describe().Capabilities, nil
}
func (l local) taskSchema(context.Context) (Schema, error) { return l.d.Describe().TaskConfig, nil }

func newClient(d Driver) *client { return &client{Tasks: d, about: local{d}} }

func (c *client) Capabilities(ctx context.Context) (Capabilities, error) {
	return c.about.capabilities(ctx)
}

func (c *client) EncodeTaskConfig(ctx context.Context, config map[string]any, vars map[string]string) ([]byte, error) {
	schema, err := c.about.taskSchema(ctx)
	if err != nil {
		return nil, err
	}
	return schema.Encode(config, vars)
}

func (c *client) Inspect(ctx context.Context, taskID string) (*TaskStatus, error) {
	d, err := as[Inspector](c, "inspect a task")
	if err != nil {
		return nil, err
	}
	return d.Inspect(ctx, taskID)
}

func (c *client) Signal(ctx context.Context, taskID, signal string) error {
	d, err := as[Signaler](c, "signal a task")
	if err != nil {
		return err
	}
	return d.Signal(ctx, taskID, signal)
}

func (c *client) Stats(ctx context.Context, taskID string, interval time.Duration) (<-chan Usage, error) {
	d, err := as[StatsReporter](c, "measure a task")
	if err != nil {
		return nil, err
	}
	return d.Stats(ctx, taskID, max(interval, minStatsInterval))
}

// minStatsInterval keeps a host's mistake from turning into a busy loop.
const minStatsInterval = 100 * time.Millisecond

func (c *client) Events(ctx context.Context) (<-chan TaskEvent, error) {
	d, err := as[EventReporter](c, "report events")
	if err != nil {
		return nil, err
	}
	return d.Events(ctx)
}

func (c *client) Exec(ctx context.Context, taskID string, command []string, io ExecIO) (ExitResult, error) {
	d, err := as[Execer](c, "run a command in a task")
	if err != nil {
		return ExitResult{}, err
	}
	return d.Exec(ctx, taskID, command, io)
}

func (c *client) CreateNetwork(ctx context.Context, allocID, hostname string) (*NetworkIsolation, bool, error) {
	d, err := as[Networker](c, "make a network")
	if err != nil {
		return nil, false, err
	}
	return d.CreateNetwork(ctx, allocID, hostname)
}

func (c *client) DestroyNetwork(ctx context.Context, allocID string, spec *NetworkIsolation) error {
	d, err := as[Networker](c, "remove a network")
	if err != nil {
		return err
	}
	return d.DestroyNetwork(ctx, allocID, spec)
}

// as returns the driver as T, or says what it cannot do.
func as[T any](c *client, what string) (T, error) {
	d, ok := c.Tasks.(T)
	if !ok {
		return d, fmt.Errorf("%w: %s", ErrUnsupported, what)
	}
	return d, nil
}
