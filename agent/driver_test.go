package agent

import (
	"context"
	"sync"
	"time"

	"github.com/brumehq/brume/plugins"
)

// scripted is a driver whose tasks end when a test says so. It stands for the driver and for the processes it started:
// forgetAll is what a plugin's death does to its memory.
type scripted struct {
	mu      sync.Mutex
	tasks   map[string]*scriptedTask // by id
	unknown map[string]bool          // running, but not known to the plugin of the moment
	calls   []string                 // "start web", "stop web SIGTERM 5s", …
	onStart func(ctx context.Context, task *plugins.TaskConfig) error
	onStop  func(name string) // nil: the task ends at once
	events  chan plugins.TaskEvent
}

type scriptedTask struct {
	name  string
	ended chan struct{}
	exit  plugins.ExitResult
}

func newScripted() *scripted {
	return &scripted{tasks: make(map[string]*scriptedTask), unknown: make(map[string]bool), events: make(chan plugins.TaskEvent)}
}

func (d *scripted) Describe() plugins.Description {
	return plugins.Description{
		Name: "scripted", Version: "1.0.0",
		TaskConfig: plugins.Fields(map[string]plugins.Schema{"command": plugins.Attr("command", "string")}),
	}
}

func (d *scripted) Fingerprint(ctx context.Context) (<-chan plugins.Fingerprint, error) {
	out := make(chan plugins.Fingerprint, 1) // the first does not wait
	out <- plugins.Fingerprint{Health: plugins.Healthy, Attributes: map[string]string{"driver.scripted": "1"}}
	go func() {
		<-ctx.Done()
		close(out)
	}()
	return out, nil
}

// Events passes on what a test sends to events.
func (d *scripted) Events(ctx context.Context) (<-chan plugins.TaskEvent, error) {
	out := make(chan plugins.TaskEvent)
	go func() {
		defer close(out)
		for {
			select {
			case e := <-d.events:
				out <- e
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (d *scripted) Start(ctx context.Context, c *plugins.TaskConfig) (*plugins.TaskHandle, *plugins.NetworkOverride, error) {
	d.mu.Lock()
	d.calls = append(d.calls, "start "+c.Name)
	hook := d.onStart
	d.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	d.begin(c)
	return &plugins.TaskHandle{Version: 1, Config: c, State: plugins.TaskStateRunning, DriverState: []byte(c.ID)}, nil, nil
}

func (d *scripted) begin(c *plugins.TaskConfig) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks[c.ID] = &scriptedTask{name: c.Name, ended: make(chan struct{})}
}

func (d *scripted) Recover(_ context.Context, h *plugins.TaskHandle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tasks[h.Config.ID] == nil {
		return plugins.ErrTaskNotFound
	}
	d.calls = append(d.calls, "recover "+h.Config.Name)
	delete(d.unknown, h.Config.ID)
	return nil
}

func (d *scripted) find(id string) (*scriptedTask, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tasks[id] == nil || d.unknown[id] {
		return nil, plugins.ErrTaskNotFound
	}
	return d.tasks[id], nil
}

func (d *scripted) Wait(ctx context.Context, id string) (plugins.ExitResult, error) {
	t, err := d.find(id)
	if err != nil {
		return plugins.ExitResult{}, err
	}
	select {
	case <-t.ended:
		return t.exit, nil
	case <-ctx.Done():
		return plugins.ExitResult{}, ctx.Err()
	}
}

func (d *scripted) Stop(_ context.Context, id string, timeout time.Duration, signal string) error {
	t, err := d.find(id)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.calls = append(d.calls, "stop "+t.name+" "+signal+" "+timeout.String())
	hook := d.onStop
	d.mu.Unlock()
	if hook != nil {
		hook(t.name)
		return nil
	}
	d.finish(t.name, plugins.ExitResult{ExitCode: 130, Signal: 2})
	return nil
}

func (d *scripted) Destroy(_ context.Context, id string, _ bool) error {
	if _, err := d.find(id); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tasks, id)
	return nil
}

// finish ends the running tasks of that name.
func (d *scripted) finish(name string, r plugins.ExitResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tasks {
		select {
		case <-t.ended:
			continue
		default:
		}
		if t.name == name {
			t.exit = r
			close(t.ended)
		}
	}
}

// forgetAll is a new process of the plugin, which knows no task until it is told.
func (d *scripted) forgetAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.tasks {
		d.unknown[id] = true
	}
}

// seen returns what was asked of the driver so far.
func (d *scripted) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.calls...)
}

// alive counts tasks that run.
func (d *scripted) alive() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, t := range d.tasks {
		select {
		case <-t.ended:
		default:
			n++
		}
	}
	return n
}
