package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/brumehq/brume/plugins"
)

// Name is how job files name the driver.
const Name = "fake"

// Main serves the driver as a plugin.
func Main() error { return plugins.Serve(New()) }

// Driver is the fake driver. What it knows of a task a later Driver learns by Recover, and counts its time from the start:
// one that was to end meanwhile has ended as configured. That a task was being stopped is forgotten.
type Driver struct {
	mu     sync.Mutex
	tasks  map[string]*task
	runs   map[string]int // of each task of each allocation, for fail_times
	health plugins.Fingerprint
	watch  []chan struct{} // each holds one: the health is another
}

// New returns a driver without tasks, which is healthy.
func New() *Driver {
	return &Driver{
		tasks: make(map[string]*task), runs: make(map[string]int),
		health: plugins.Fingerprint{
			Health: plugins.Healthy, Description: "it runs nothing",
			Attributes: map[string]string{"driver.fake": "1"},
		},
	}
}

// config is a task's config block.
type config struct {
	RunFor                string `codec:"run_for"`
	ExitCode              int    `codec:"exit_code"`
	ExitSignal            int    `codec:"exit_signal"`
	OOMKilled             bool   `codec:"oom_killed"`
	FailTimes             int    `codec:"fail_times"`
	StartError            string `codec:"start_error"`
	StartErrorRecoverable bool   `codec:"start_error_recoverable"`
	StartBlockFor         string `codec:"start_block_for"`
	KillAfter             string `codec:"kill_after"`
	StdoutString          string `codec:"stdout_string"`
	StdoutRepeat          int    `codec:"stdout_repeat"`
	StdoutEvery           string `codec:"stdout_every"`
}

// Describe describes the driver. Of a task: it runs for run_for ("" is until it is stopped), then ends with exit_code,
// exit_signal and oom_killed; with fail_times only the first so many runs in an allocation fail, with code 1 if none is
// given. start_error fails the start, start_block_for delays it. kill_after is how long it withstands a stop.
// stdout_string is written stdout_repeat times, once each stdout_every.
func (d *Driver) Describe() plugins.Description {
	text := func(name string) plugins.Schema { return plugins.Default(plugins.Attr(name, "string"), `""`) }
	number := func(name, value string) plugins.Schema { return plugins.Default(plugins.Attr(name, "number"), value) }
	flag := func(name string) plugins.Schema { return plugins.Default(plugins.Attr(name, "bool"), "false") }
	return plugins.Description{
		Name: Name, Version: "0.1.0",
		Capabilities: plugins.Capabilities{SendSignals: true},
		TaskConfig: plugins.Fields(map[string]plugins.Schema{
			"run_for": text("run_for"), "exit_code": number("exit_code", "0"), "exit_signal": number("exit_signal", "0"),
			"oom_killed": flag("oom_killed"), "fail_times": number("fail_times", "0"), "start_error": text("start_error"),
			"start_error_recoverable": flag("start_error_recoverable"), "start_block_for": text("start_block_for"),
			"kill_after": text("kill_after"), "stdout_string": text("stdout_string"),
			"stdout_repeat": number("stdout_repeat", "1"), "stdout_every": text("stdout_every"),
		}),
	}
}

// SetHealth makes the driver report another health, to tests in the same process.
func (d *Driver) SetHealth(h plugins.Health, description string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health.Health, d.health.Description = h, description
	for _, w := range d.watch {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Fingerprint reports the health.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan plugins.Fingerprint, error) {
	out := make(chan plugins.Fingerprint)
	changed := make(chan struct{}, 1) // so that SetHealth never waits
	changed <- struct{}{}
	d.mu.Lock()
	d.watch = append(d.watch, changed)
	d.mu.Unlock()
	go func() { // ends with ctx, and says so by closing out
		defer close(out)
		defer d.unwatch(changed)
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			d.mu.Lock()
			now := d.health
			d.mu.Unlock()
			select {
			case out <- now:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (d *Driver) unwatch(changed chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch = slices.DeleteFunc(d.watch, func(c chan struct{}) bool { return c == changed })
}

// state is what a handle keeps.
type state struct {
	Started time.Time
	Run     int // the how many-th of the task in its allocation, from 1
}

// Start starts a task as its configuration says.
func (d *Driver) Start(ctx context.Context, task *plugins.TaskConfig) (*plugins.TaskHandle, *plugins.NetworkOverride, error) {
	var c config
	if err := task.Decode(&c); err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	block, err := duration("start_block_for", c.StartBlockFor)
	if err != nil {
		return nil, nil, err
	}
	if block > 0 {
		select {
		case <-time.After(block):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	if c.StartError != "" {
		err := errors.New(c.StartError)
		if c.StartErrorRecoverable {
			err = plugins.NewRecoverable(err)
		}
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tasks[task.ID] != nil {
		return nil, nil, fmt.Errorf("task %s is started already", task.ID)
	}
	key := task.AllocID + "/" + task.Name
	s := state{Started: time.Now(), Run: d.runs[key] + 1}
	if err := d.run(task, c, s); err != nil {
		return nil, nil, err
	}
	d.runs[key] = s.Run
	data, err := json.Marshal(s)
	handle := &plugins.TaskHandle{Version: 1, Config: task, State: plugins.TaskStateRunning, DriverState: data}
	return handle, nil, err
}

// Recover makes a task known that an earlier driver started.
func (d *Driver) Recover(_ context.Context, handle *plugins.TaskHandle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tasks[handle.Config.ID] != nil {
		return nil
	}
	if len(handle.DriverState) == 0 {
		return plugins.ErrTaskNotFound
	}
	var s state
	var c config
	if err := errors.Join(json.Unmarshal(handle.DriverState, &s), handle.Config.Decode(&c)); err != nil {
		return fmt.Errorf("handle: %w", err)
	}
	key := handle.Config.AllocID + "/" + handle.Config.Name
	d.runs[key] = max(d.runs[key], s.Run)
	c.StdoutString = "" // it is written already
	return d.run(handle.Config, c, s)
}

// run makes a task of its configuration. d.mu is held.
func (d *Driver) run(spec *plugins.TaskConfig, c config, s state) error {
	t := &task{id: spec.ID, name: spec.Name, started: s.Started, ended: make(chan struct{})}
	runFor, err := duration("run_for", c.RunFor)
	killAfter, killErr := duration("kill_after", c.KillAfter)
	every, everyErr := duration("stdout_every", c.StdoutEvery)
	if err := errors.Join(err, killErr, everyErr); err != nil {
		return err
	}
	t.killAfter = killAfter
	exit := plugins.ExitResult{ExitCode: c.ExitCode, Signal: c.ExitSignal, OOMKilled: c.OOMKilled}
	switch {
	case c.FailTimes >= s.Run && exit.Successful():
		exit.ExitCode = 1
	case c.FailTimes > 0 && c.FailTimes < s.Run:
		exit = plugins.ExitResult{}
	}
	if c.StdoutString != "" {
		out, err := openOutput(spec.StdoutPath)
		if err != nil {
			return err
		}
		t.writing.Go(func() { t.write(out, c.StdoutString, c.StdoutRepeat, every) })
	}
	d.tasks[spec.ID] = t
	if c.RunFor != "" {
		t.mu.Lock() // the time may be over at once
		defer t.mu.Unlock()
		t.timer = time.AfterFunc(time.Until(s.Started.Add(runFor)), func() { t.end(exit) })
	}
	return nil
}

func duration(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

func (d *Driver) task(id string) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tasks[id]; t != nil {
		return t, nil
	}
	return nil, plugins.ErrTaskNotFound
}

// Wait waits for a task's end.
func (d *Driver) Wait(ctx context.Context, id string) (plugins.ExitResult, error) {
	t, err := d.task(id)
	if err != nil {
		return plugins.ExitResult{}, err
	}
	select {
	case <-t.ended:
		return t.result(), nil
	case <-ctx.Done():
		return plugins.ExitResult{}, ctx.Err()
	}
}

// Stop ends a task: at once, or after its kill_after, or by force after timeout.
func (d *Driver) Stop(ctx context.Context, id string, timeout time.Duration, signal string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig := syscall.SIGINT
	if signal != "" {
		if sig, err = plugins.ParseSignal(signal); err != nil {
			return err
		}
	}
	if t.killAfter > timeout {
		sig = syscall.SIGKILL
	}
	select {
	case <-t.ended:
		return nil
	case <-time.After(min(t.killAfter, timeout)):
	case <-ctx.Done():
		return ctx.Err()
	}
	t.end(plugins.ExitResult{ExitCode: 128 + int(sig), Signal: int(sig)})
	return nil
}

// Destroy forgets a task.
func (d *Driver) Destroy(_ context.Context, id string, force bool) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if !force && t.running() {
		return errors.New("cannot destroy running task")
	}
	t.end(plugins.ExitResult{ExitCode: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)})
	t.writing.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tasks, id)
	return nil
}

// Signal notes a signal, which Inspect tells; SIGKILL ends the task.
func (d *Driver) Signal(_ context.Context, id, signal string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig, err := plugins.ParseSignal(signal)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.signals++
	t.mu.Unlock()
	if sig == syscall.SIGKILL {
		t.end(plugins.ExitResult{ExitCode: 128 + int(sig), Signal: int(sig)})
	}
	return nil
}
