package rawexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/keeper"
)

const (
	// Name is how job files name the driver.
	Name = "raw_exec"
	// KeeperEnv is the variable with the keeper's socket.
	KeeperEnv = "BRUME_KEEPER"
)

// Main serves the driver as a plugin.
func Main() error { return plugins.Serve(New(os.Getenv(KeeperEnv))) }

// Driver is the driver raw_exec.
type Driver struct {
	socket string

	mu       sync.Mutex
	keeper   *keeper.Client
	disabled bool
	mhz      uint64                         // of a processor, on average
	tasks    map[string]*plugins.TaskConfig // of those started or recovered, for Exec and Inspect
	changed  chan struct{}                  // closed and replaced when configuration changes
}

// New returns a driver that uses the keeper at socket; "" is a driver that says it has none.
func New(socket string) *Driver {
	return &Driver{socket: socket, tasks: make(map[string]*plugins.TaskConfig), changed: make(chan struct{})}
}

// Describe describes the driver.
func (d *Driver) Describe() plugins.Description {
	return plugins.Description{
		Name: Name, Version: "0.1.0",
		Capabilities: plugins.Capabilities{
			SendSignals: true, Exec: true, FSIsolation: plugins.FSIsolationNone,
			NetworkModes: []plugins.NetworkMode{plugins.NetworkHost},
		},
		Config: plugins.Fields(map[string]plugins.Schema{
			"enabled": plugins.Default(plugins.Attr("enabled", "bool"), "true"),
		}),
		TaskConfig: plugins.Fields(map[string]plugins.Schema{
			"command":  plugins.Required("command", "string"),
			"args":     plugins.Attr("args", "list(string)"),
			"work_dir": plugins.Attr("work_dir", "string"),
		}),
	}
}

// Configure takes whether the driver is on, and how fast the processors are.
func (d *Driver) Configure(_ context.Context, config plugins.Config, host plugins.HostConfig) error {
	c := struct {
		Enabled bool `codec:"enabled"`
	}{Enabled: true}
	if err := config.Decode(&c); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disabled = !c.Enabled
	if n := uint64(len(host.Topology.Cores)); n > 0 {
		var sum uint64
		for _, core := range host.Topology.Cores {
			sum += max(core.BaseMHz, core.GuessedMHz)
		}
		d.mhz = sum / n
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

var errNoKeeper = errors.New("no keeper: " + KeeperEnv + " does not name its socket (the agent sets it)")

// client returns the connection to the keeper, made at the first use.
func (d *Driver) client() (*keeper.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == "" {
		return nil, errNoKeeper
	}
	if d.keeper == nil {
		c, err := keeper.Dial(d.socket)
		if err != nil {
			return nil, err
		}
		d.keeper = c
	}
	return d.keeper, nil
}

// Close ends the connection to the keeper. Tasks go on.
func (d *Driver) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keeper == nil {
		return nil
	}
	return d.keeper.Close()
}

const (
	keeperPatience = 10 * time.Second // with a keeper that was killed and is being started again
	keeperPause    = 50 * time.Millisecond
)

// ask calls the keeper, again if it is gone: all that is asked of it may be asked twice. It gives up when ctx ends or
// after patience; no patience is for ever.
func ask[T any](ctx context.Context, d *Driver, patience time.Duration, f func(*keeper.Client) (T, error)) (T, error) {
	limit := time.Now().Add(patience)
	for {
		var none T
		c, err := d.client()
		if err == nil {
			none, err = f(c)
		}
		if errors.Is(err, keeper.ErrNotFound) {
			return none, plugins.ErrTaskNotFound
		}
		if !errors.Is(err, keeper.ErrGone) || patience > 0 && time.Now().After(limit) {
			return none, err
		}
		select {
		case <-time.After(keeperPause):
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

// tell is ask without an answer.
func tell(ctx context.Context, d *Driver, f func(*keeper.Client) error) error {
	_, err := ask(ctx, d, keeperPatience, func(c *keeper.Client) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

// state is what a handle keeps, for people: the keeper knows the task by its ID.
type state struct{ PID int }

// Start starts the task's process.
func (d *Driver) Start(ctx context.Context, task *plugins.TaskConfig) (*plugins.TaskHandle, *plugins.NetworkOverride, error) {
	d.mu.Lock()
	disabled := d.disabled
	d.mu.Unlock()
	if disabled {
		return nil, nil, errors.New("raw_exec is disabled in the plugin's configuration")
	}
	spec, err := specOf(task)
	if err != nil {
		return nil, nil, err
	}
	p, err := ask(ctx, d, keeperPatience, func(c *keeper.Client) (keeper.Process, error) {
		if err := ctx.Err(); err != nil { // a Destroy may have come already
			return keeper.Process{}, err
		}
		return c.Start(ctx, spec)
	})
	if err != nil {
		if errors.Is(err, keeper.ErrTemporary) || errors.Is(err, keeper.ErrGone) {
			err = plugins.NewRecoverable(err)
		}
		return nil, nil, err
	}
	data, err := json.Marshal(state{p.PID})
	if err != nil {
		return nil, nil, err
	}
	d.know(task)
	handle := &plugins.TaskHandle{Version: 1, Config: task, State: plugins.TaskStateRunning, DriverState: data}
	return handle, nil, nil
}

func (d *Driver) know(task *plugins.TaskConfig) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks[task.ID] = task
}

func (d *Driver) known(id string) *plugins.TaskConfig {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tasks[id]
}

// Recover asks the keeper whether it knows the task. A start whose answer was lost is known to it, or did not happen.
func (d *Driver) Recover(ctx context.Context, handle *plugins.TaskHandle) error {
	if _, err := d.inspect(ctx, handle.Config.ID); err != nil {
		return err
	}
	d.know(handle.Config)
	return nil
}

func (d *Driver) inspect(ctx context.Context, id string) (keeper.Process, error) {
	return ask(ctx, d, keeperPatience, func(c *keeper.Client) (keeper.Process, error) { return c.Inspect(ctx, id) })
}

// Wait waits for the process, through as many keepers as come and go meanwhile.
func (d *Driver) Wait(ctx context.Context, id string) (plugins.ExitResult, error) {
	e, err := ask(ctx, d, 0, func(c *keeper.Client) (keeper.Exit, error) { return c.Wait(ctx, id) })
	if err != nil {
		return plugins.ExitResult{}, err
	}
	return result(e)
}

func result(e keeper.Exit) (plugins.ExitResult, error) {
	if e.Unknown {
		return plugins.ExitResult{}, plugins.ErrExitUnknown
	}
	return plugins.ExitResult{ExitCode: e.Code, Signal: e.Signal}, nil
}

// killPatience is how long a killed process may take to end: one in the kernel's hands can take for ever.
const killPatience = 10 * time.Second

// Stop signals the process's group, then kills all that belongs to the task.
func (d *Driver) Stop(ctx context.Context, id string, timeout time.Duration, signal string) error {
	sig := syscall.SIGINT
	if signal != "" {
		var err error
		if sig, err = plugins.ParseSignal(signal); err != nil {
			return err
		}
	}
	if err := tell(ctx, d, func(c *keeper.Client) error { return c.Signal(ctx, id, sig) }); err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := d.Wait(patient, id); err != nil && patient.Err() == nil && !errors.Is(err, plugins.ErrExitUnknown) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return d.kill(ctx, id)
}

// kill kills all that belongs to the task, and waits for its process to end.
func (d *Driver) kill(ctx context.Context, id string) error {
	if err := tell(ctx, d, func(c *keeper.Client) error { return c.Kill(ctx, id) }); err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	if _, err := d.Wait(patient, id); err != nil && !errors.Is(err, plugins.ErrExitUnknown) {
		return fmt.Errorf("killed, and it does not end: %w", err)
	}
	return nil
}

// Destroy kills what is left of the task and has the keeper forget it.
func (d *Driver) Destroy(ctx context.Context, id string, force bool) error {
	p, err := d.inspect(ctx, id)
	if err != nil {
		return err
	}
	if p.Exit == nil && !force {
		return errors.New("cannot destroy running task")
	}
	if err := d.kill(ctx, id); err != nil {
		return err
	}
	if err := tell(ctx, d, func(c *keeper.Client) error { return c.Forget(ctx, id) }); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tasks, id)
	return nil
}

// Signal signals the process's group.
func (d *Driver) Signal(ctx context.Context, id, signal string) error {
	sig, err := plugins.ParseSignal(signal)
	if err != nil {
		return err
	}
	return tell(ctx, d, func(c *keeper.Client) error { return c.Signal(ctx, id, sig) })
}

// Inspect tells how the process fares.
func (d *Driver) Inspect(ctx context.Context, id string) (*plugins.TaskStatus, error) {
	p, err := d.inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &plugins.TaskStatus{
		ID: id, State: plugins.TaskStateRunning, StartedAt: p.StartedAt,
		Attributes: map[string]string{"pid": fmt.Sprint(p.PID)},
	}
	if task := d.known(id); task != nil {
		s.Name = task.Name
	}
	if p.Exit != nil {
		s.State, s.CompletedAt = plugins.TaskStateExited, p.Exit.At
		if exit, err := result(*p.Exit); err == nil {
			s.Exit = &exit
		}
	}
	return s, nil
}
