package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/brumehq/brume/agent/taskenv"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

// driverWait is how long a start waits for a plugin that is being started again.
const driverWait = 30 * time.Second

// setupError is a start that failed before the driver was asked; it will fail again.
type setupError struct {
	step string
	err  error
}

func (e *setupError) Error() string { return e.step + ": " + e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// recoverable reports whether a start that failed with err may succeed later.
func recoverable(err error) bool {
	if _, setup := errors.AsType[*setupError](err); setup {
		return false
	}
	return plugins.Recoverable(err) || errors.Is(err, plugins.ErrPluginGone) || errors.Is(err, errNotRemembered)
}

// errNotRemembered stops a task from running without a record of it.
var errNotRemembered = errors.New("the local database did not take it")

// start prepares the task and has the driver start it. On success, or when the driver died over it and the next one knows
// the task, rec names a run. live ending breaks it off.
func (t *task) start(ctx, live context.Context) error {
	config, d, err := t.prepare(live)
	if err != nil {
		return err
	}
	config.ID = t.allocID + "/" + t.name + "/" + randomSuffix()
	t.rec.ID, t.rec.Driver, t.rec.Handle, t.rec.Exit = config.ID, d.name, nil, nil
	if t.store() != nil { // the intent, so that recovery finds what is started from here on
		t.rec.ID = ""
		return errNotRemembered
	}
	handle, network, err := t.ask(live, d, config)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the next agent finds out what became of it
	case errors.Is(err, plugins.ErrPluginGone):
		return t.adopt(ctx, config, d)
	case err != nil:
		t.forget(ctx)
		return err
	}
	return t.started(ctx, d, handle, network)
}

// ask has the driver start the task, and hears what it says meanwhile: fetching an image may take long.
func (t *task) ask(live context.Context, d *driver, config *plugins.TaskConfig) (handle *plugins.TaskHandle, network *plugins.NetworkOverride, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		handle, network, err = d.Start(live, config)
	}()
	for {
		select {
		case <-done:
			return handle, network, err
		case e := <-t.said:
			t.hear(e)
		}
	}
}

// started puts a run on record; only then is the task called running.
func (t *task) started(ctx context.Context, d *driver, handle *plugins.TaskHandle, network *plugins.NetworkOverride) error {
	data, err := json.Marshal(handle)
	if err != nil {
		t.forget(ctx)
		return err
	}
	t.rec.Handle, t.on = data, d
	t.rec.State.State = api.TaskStateRunning
	t.rec.State.StartedAt = time.Now()
	t.rec.State.FinishedAt = time.Time{}
	message := "Task started by driver " + d.name
	if network != nil && network.Addr != "" {
		message += " at " + network.Addr
	}
	t.note(newEvent(api.TaskStarted, message))
	if t.store() != nil {
		t.forget(ctx)
		return errNotRemembered
	}
	t.changed <- taskChange{t.name, copyState(&t.rec.State)}
	return nil
}

// resume finds out about a run that an earlier agent began: one with a handle is left to await, one that was only
// intended is adopted if the driver knows it. A task that is to stop is found first too: what is not found cannot be stopped.
func (t *task) resume(ctx context.Context) {
	if t.rec.ID == "" {
		return
	}
	// Also of one that has ended: the driver holds what is left in its pipes until it forgets the run.
	if err := t.openLogs(ctx); err != nil && ctx.Err() == nil {
		t.log.Warn("collect output again", "err", err)
	}
	if t.rec.Handle != nil {
		return
	}
	config, _, err := t.prepare(ctx)
	if err == nil {
		config.ID = t.rec.ID
		err = t.adopt(ctx, config, nil)
	}
	if err != nil && ctx.Err() == nil {
		t.log.Info("an intended start did not happen", "err", err)
		t.forget(ctx)
	}
}

// adopt asks the driver's next process, which is not the gone one, for a run that it was asked to start but whose handle
// never came. If it does not know the run, the run is forgotten and an error that allows another try is returned.
func (t *task) adopt(ctx context.Context, config *plugins.TaskConfig, gone *driver) error {
	handle := &plugins.TaskHandle{Config: config, State: plugins.TaskStateRunning}
	d, err := t.h.drivers.ask(ctx, t.rec.Driver, gone, func(d *driver) error { return d.Recover(ctx, handle) })
	if d == nil {
		return err
	}
	if err != nil {
		if ctx.Err() == nil {
			t.forget(ctx)
		}
		return fmt.Errorf("%w while the task was starting", plugins.ErrPluginGone)
	}
	return t.started(ctx, d, handle, nil)
}

// prepare does all that comes before the driver is asked, in order: find the driver, make the directories, compute the
// environment, check the configuration, open the log pipes.
func (t *task) prepare(live context.Context) (*plugins.TaskConfig, *driver, error) {
	want := t.want.Load()
	spec := want.task(t.name)
	d, err := t.awaitDriver(live, spec.Driver)
	if err != nil {
		return nil, nil, err
	}
	dir := t.h.dirs.alloc(t.allocID)
	if len(t.rec.State.Events) == 0 || t.rec.State.StartedAt.IsZero() && t.rec.State.Restarts == 0 {
		t.note(newEvent(api.TaskSetup, "Building the task's directory"))
	}
	inMemory, err := dir.BuildTask(t.name, spec.User)
	if err != nil {
		return nil, nil, &setupError{"task directory", err}
	}
	if !inMemory {
		t.log.Debug("secrets are kept on disk: mounting needs root")
	}
	env := t.environment(want, spec, d)
	encoded, err := d.EncodeTaskConfig(live, spec.Config, env.Vars())
	if err != nil {
		if live.Err() != nil || errors.Is(err, plugins.ErrPluginGone) {
			return nil, nil, err
		}
		return nil, nil, &setupError{"config of driver " + d.name, err}
	}
	if err := t.openLogs(live); err != nil {
		return nil, nil, fmt.Errorf("collect output: %w", err)
	}
	return t.config(want, spec, env, encoded), d, nil
}

// awaitDriver waits for the driver's plugin to run, for a while.
func (t *task) awaitDriver(live context.Context, name string) (*driver, error) {
	ctx, cancel := context.WithTimeout(live, driverWait)
	defer cancel()
	d, err := t.h.drivers.get(ctx, name, nil)
	switch {
	case errors.Is(err, errNoDriver):
		return nil, &setupError{"driver " + name, err}
	case err != nil && live.Err() == nil:
		return nil, fmt.Errorf("driver %s: %w and was not started again within %s", name, plugins.ErrPluginGone, driverWait)
	}
	return d, err
}

func (t *task) environment(want *placement, spec *api.Task, d *driver) *taskenv.Env {
	dir := t.h.dirs.alloc(t.allocID)
	p := taskenv.Params{
		Node: t.h.node.current(), Region: t.h.region, Alloc: want.alloc, Group: want.group, Task: spec,
		Dirs: taskenv.Dirs{Alloc: dir.SharedDir(), Task: dir.LocalDir(t.name), Secrets: dir.SecretsDir(t.name)},
	}
	if d.caps.FSIsolation == plugins.FSIsolationImage {
		p.Dirs = taskenv.Dirs{Alloc: "/alloc", Task: "/local", Secrets: "/secrets"}
	} else {
		p.Host = taskenv.HostEnv(t.h.environ, spec.User)
	}
	return taskenv.New(p)
}

func (t *task) config(want *placement, spec *api.Task, env *taskenv.Env, encoded []byte) *plugins.TaskConfig {
	a, n := want.alloc, t.h.node.current()
	stdout, stderr := t.logPaths()
	return &plugins.TaskConfig{
		Name: t.name, DriverConfig: encoded, Env: env.Map(), User: env.Replace(spec.User),
		AllocDir: t.h.dirs.alloc(t.allocID).Path(), StdoutPath: stdout, StderrPath: stderr,
		GroupName: want.group.Name, JobName: a.Job.Name, JobID: a.JobID, AllocID: a.ID, Namespace: a.Namespace,
		NodeName: n.Name, NodeID: n.ID, Resources: resources(want, t.name, n),
	}
}

// resources are a task's part of its allocation, in the three forms in which drivers look for them.
func resources(want *placement, name string, n *api.Node) plugins.Resources {
	var r plugins.Resources
	if all := want.alloc.AllocatedResources; all != nil {
		if mine := all.Tasks[name]; mine != nil {
			r.CPUShares, r.MemoryMB, r.MemoryMaxMB = mine.Cpu.CpuShares, mine.Memory.MemoryMB, mine.Memory.MemoryMaxMB
		}
		for _, p := range all.Shared.Ports {
			r.Ports = append(r.Ports, plugins.PortMapping{Label: p.Label, Value: p.Value, To: p.To, HostIP: p.HostIP})
		}
	}
	if total := n.NodeResources.Cpu.CpuShares; total > 0 {
		r.PercentTicks = float64(r.CPUShares) / float64(total)
	}
	return r
}

// forget has the driver forget the current run, ending it if it still runs, and takes it off the record.
func (t *task) forget(ctx context.Context) {
	if t.rec.ID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	_, err := t.h.drivers.ask(ctx, t.rec.Driver, nil, func(d *driver) error {
		err := d.Destroy(ctx, t.rec.ID, true)
		if !errors.Is(err, plugins.ErrTaskNotFound) || t.rec.Handle == nil {
			return err
		}
		if err := recoverRun(ctx, d, t.rec.Handle); err != nil { // a new process of the plugin has to be told of it first
			return err
		}
		return d.Destroy(ctx, t.rec.ID, true)
	})
	if err != nil && !errors.Is(err, plugins.ErrTaskNotFound) && ctx.Err() == nil {
		t.log.Warn("driver forgets a run", "err", err)
	}
	t.rec.ID, t.rec.Handle, t.rec.Exit, t.on = "", nil, nil, nil
}

func randomSuffix() string {
	b := make([]byte, 4)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// driverFailureEvent says why a start failed.
func driverFailureEvent(err error) *api.TaskEvent {
	kind := api.TaskDriverFailure
	if _, setup := errors.AsType[*setupError](err); setup {
		kind = api.TaskSetupFailure
	}
	e := newEvent(kind, err.Error())
	e.DriverError = err.Error()
	e.Details["driver_error"] = err.Error()
	return e
}
