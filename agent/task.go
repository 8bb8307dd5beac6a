package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

// placement is one version of what the hubs want of an allocation; it does not change.
type placement struct {
	alloc *api.Allocation // with its Job
	group *api.Group
	hurry bool // the agent is stopping its tasks: no shutdown delays
}

func (p *placement) task(name string) *api.Task {
	for _, t := range p.group.Tasks {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (p *placement) batch() bool { return p.alloc.Job.Type == api.JobTypeBatch }

// stopReason is the cause with which a task's context is cancelled.
type stopReason struct {
	event string        // an event type that says why, before the task is killed; "" for none
	text  string        // for the task's history
	delay time.Duration // the group's shutdown_delay
	hurry bool          // the agent itself is going: no shutdown delays
}

func (r *stopReason) Error() string { return r.text }

// exit is how a run of a task ended.
type exit struct {
	Code      int
	Signal    int
	OOMKilled bool
	Unknown   string // why the code is not known; "" when it is
}

func (x exit) ok() bool { return x == exit{} }

func (x exit) String() string {
	if x.Unknown != "" {
		return "Exit code unknown: " + x.Unknown
	}
	s := fmt.Sprintf("Exit code %d", x.Code)
	if x.Signal != 0 {
		s += fmt.Sprintf(", signal %d", x.Signal)
	}
	if x.OOMKilled {
		s += ", out of memory"
	}
	return s
}

// task runs one task of an allocation through all its restarts. One goroutine, run, owns it.
type task struct {
	h       *host
	log     *slog.Logger
	allocID string
	name    string
	want    atomic.Pointer[placement] // the newest; set by the allocation
	kill    context.CancelCauseFunc   // ends run with a *stopReason; called by the allocation
	changed chan<- taskChange         // to the allocation
	said    chan plugins.TaskEvent    // by the driver; a few are kept while run is busy

	rec      localdb.Task    // owned by run
	restored bool            // it was begun by an earlier agent: new runs wait for the hubs
	told     <-chan struct{} // closed when the hubs have said, since this agent started, what they want of the allocation
	begun    atomic.Bool     // its output is or was collected
	over     chan struct{}   // closed when the task is dead and its output complete
	on       *driver         // the plugin process that knows the current run; nil if none is sure to
}

// saidKept is how many of a driver's words wait for a busy task.
const saidKept = 4

// taskChange tells an allocation of a task's new state, which nobody changes any more.
type taskChange struct {
	name  string
	state *api.TaskState
}

func newTask(h *host, allocID, name string) *task {
	t := &task{h: h, log: h.log.With("alloc", allocID, "task", name), allocID: allocID, name: name, over: make(chan struct{}), said: make(chan plugins.TaskEvent, saidKept)}
	t.rec = localdb.Task{Name: name, State: api.TaskState{State: api.TaskStatePending}}
	return t
}

// run starts the task and starts it again, as its policy says, until it is dead. live ends when the task is to be stopped,
// with a *stopReason as its cause. When ctx ends, run returns and leaves a running task to the next agent.
func (t *task) run(ctx, live context.Context) {
	if t.rec.State.State == api.TaskStateDead {
		return
	}
	t.resume(ctx)
	for ctx.Err() == nil {
		var o outcome
		if t.rec.ID == "" {
			if !t.mayStart(live) {
				t.stopped(ctx, live)
				return
			}
			if err := t.start(ctx, live); err != nil {
				o.err, o.recover = err, recoverable(err)
			}
		}
		if t.rec.ID != "" {
			x, ok := t.await(ctx, live)
			if !ok {
				return
			}
			t.forget(ctx)
			o.ok = x.ok()
		}
		if ctx.Err() != nil || !t.again(ctx, live, o) {
			return
		}
	}
}

// mayStart waits until the task may run: after a restart's delay and, if an earlier agent had begun it, after the hubs
// said what they want of it, and the allocation has done that. It reports false if the task is to stop instead.
func (t *task) mayStart(live context.Context) bool {
	if t.restored {
		select {
		case <-t.told:
		case <-live.Done():
			return false
		}
	}
	if wait := time.Until(t.rec.Restart.Next); wait > 0 && !pause(live, wait) {
		return false
	}
	return live.Err() == nil
}

// again decides what follows a run, or a start that failed, and reports whether there is another run to come.
func (t *task) again(ctx, live context.Context, o outcome) bool {
	if live.Err() != nil {
		t.stopped(ctx, live)
		return false
	}
	want := t.want.Load()
	policy := want.task(t.name).RestartPolicy
	d, used := nextRun(policy, want.batch(), t.rec.Restart, o, time.Now(), t.allocID+"/"+t.name)
	t.rec.Restart = used
	if o.err != nil {
		t.note(driverFailureEvent(o.err))
	}
	if !d.restart {
		if d.failed {
			t.note(notRestartingEvent(d))
		}
		t.end(ctx, d.failed)
		return false
	}
	t.rec.Restart.Next = time.Now().Add(d.delay)
	t.rec.State.State = api.TaskStatePending
	t.rec.State.Restarts++
	t.rec.State.LastRestart = time.Now()
	t.note(restartingEvent(d))
	t.publish()
	return true
}

// stopped ends a task that was to stop, unless it is the agent that stops.
func (t *task) stopped(ctx, live context.Context) {
	if ctx.Err() != nil {
		return
	}
	t.note(newEvent(api.TaskKilled, "Task was stopped: "+context.Cause(live).Error()))
	t.end(ctx, false)
}

// end makes the task dead.
func (t *task) end(ctx context.Context, failed bool) {
	t.rec.State.State = api.TaskStateDead
	t.rec.State.Failed = failed
	t.rec.State.FinishedAt = time.Now()
	t.closeLogs(ctx)
	t.publish()
	close(t.over)
}

// note adds to the task's history without telling anybody yet.
func (t *task) note(e *api.TaskEvent) { addEvent(&t.rec.State, e) }

// publish stores the task and tells its allocation.
func (t *task) publish() {
	_ = t.store()
	t.changed <- taskChange{t.name, copyState(&t.rec.State)}
}

// hear adds what the driver says to the task's history.
func (t *task) hear(e plugins.TaskEvent) {
	event := newEvent(api.TaskDriverMessage, e.Message)
	maps.Copy(event.Details, e.Annotations)
	event.Details["driver_message"] = e.Message
	t.note(event)
	t.changed <- taskChange{t.name, copyState(&t.rec.State)}
}

// store writes the task to the local database; a failure is told to the operator here, and to the caller for whom it
// changes something.
func (t *task) store() error {
	err := t.h.db.PutTask(t.allocID, &t.rec)
	if err != nil {
		t.log.Error("remember task", "err", err)
	}
	return err
}

// ended is the exit that is on record for the current run, if it has ended.
func (t *task) ended() (exit, bool) {
	var x exit
	if t.rec.Exit == nil {
		return x, false
	}
	if err := json.Unmarshal(t.rec.Exit, &x); err != nil {
		return exit{Unknown: "the local database cannot tell: " + err.Error()}, true
	}
	return x, true
}
