package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/brumehq/brume/agent/allocdir"
	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
)

// alloc runs one allocation. One goroutine, run, owns it; reconcile hands it newer versions through updates.
type alloc struct {
	h       *host
	log     *slog.Logger
	id      string
	updates chan *placement // holds the newest version that run has not taken yet; only reconcile sends

	want     *placement // owned by run
	rec      localdb.Alloc
	tasks    map[string]*task
	states   map[string]*api.TaskState // each task's newest; the states themselves do not change
	changes  chan taskChange
	hurry    bool          // the agent is stopping its tasks
	restored bool          // an earlier agent began it
	told     chan struct{} // closed when run has done what the first update asks for
}

// newAlloc makes an allocation from what the hubs said, or from what an earlier agent stored.
func newAlloc(h *host, want *placement, rec *localdb.Record) *alloc {
	a := &alloc{
		h: h, log: h.log.With("alloc", want.alloc.ID), id: want.alloc.ID, updates: make(chan *placement, 1), want: want,
		tasks: make(map[string]*task), states: make(map[string]*api.TaskState), changes: make(chan taskChange),
		restored: rec != nil, told: make(chan struct{}),
	}
	a.rec.Alloc = want.alloc
	for _, spec := range want.group.Tasks {
		t := newTask(h, a.id, spec.Name)
		t.changed, t.told = a.changes, a.told
		t.want.Store(want)
		if rec != nil {
			t.restored = true
			if stored := rec.Tasks[spec.Name]; stored != nil {
				t.rec = *stored
				t.begun.Store(!stored.State.StartedAt.IsZero())
			}
			if t.rec.State.State == api.TaskStateDead {
				close(t.over)
			}
		} else {
			t.note(newEvent(api.TaskReceived, "Task received by the node"))
		}
		a.tasks[spec.Name] = t
		a.states[spec.Name] = copyState(&t.rec.State)
	}
	if rec != nil {
		a.rec = rec.Alloc
	}
	return a
}

// update hands run a newer version. Only reconcile calls it.
func (a *alloc) update(p *placement) {
	select {
	case <-a.updates: // superseded before run took it
	default:
	}
	a.updates <- p
}

// run starts the tasks and returns when all of them are dead, having reported every change on the way. When ctx ends it
// returns and leaves running tasks to the next agent.
func (a *alloc) run(ctx context.Context) {
	if err := a.prepare(); err != nil {
		if !a.restored {
			a.refuse(err)
			return
		}
		a.log.Error("restore allocation", "err", err) // its tasks may well run: they are not given up
	}
	var running sync.WaitGroup
	for _, t := range a.tasks {
		live, kill := context.WithCancelCause(ctx)
		t.kill = kill
		running.Go(func() {
			t.run(ctx, live)
			kill(nil)
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	a.report()
	a.follow(ctx, done)
	if ctx.Err() == nil {
		a.finish()
	}
}

// follow reacts to what tasks and hubs say until all tasks have returned.
func (a *alloc) follow(ctx context.Context, done <-chan struct{}) {
	healthy := time.NewTimer(0)
	defer healthy.Stop()
	<-healthy.C
	a.react(healthy)
	tell := sync.OnceFunc(func() { close(a.told) })
	for {
		select {
		case c := <-a.changes:
			a.states[c.name] = c.state
			a.react(healthy)
			if ctx.Err() == nil && !a.allDead() { // finish reports the end
				a.report()
			}
		case p := <-a.updates:
			if p != a.want {
				a.take(p)
			}
			a.react(healthy)
			tell()
		case <-healthy.C:
			a.setHealthy(true)
			a.report()
		case <-done:
			return
		}
	}
}

// prepare makes the allocation's directory and puts it on record.
func (a *alloc) prepare() error {
	for name := range a.tasks {
		if name == allocdir.Shared || name != filepath.Base(name) || name == ".." || name == "." {
			return fmt.Errorf("task name %q cannot name a directory", name)
		}
	}
	if err := a.h.db.PutAlloc(&a.rec); err != nil {
		return err
	}
	return a.h.dirs.alloc(a.id).Build()
}

// refuse fails a new allocation that could not even be begun.
func (a *alloc) refuse(err error) {
	a.log.Warn("begin allocation", "err", err)
	for name, t := range a.tasks {
		t.note(failing(newEvent(api.TaskSetupFailure, "Allocation could not be begun: "+err.Error())))
		t.rec.State.State, t.rec.State.Failed, t.rec.State.FinishedAt = api.TaskStateDead, true, time.Now()
		_ = t.store()
		close(t.over)
		a.states[name] = copyState(&t.rec.State)
	}
	a.setHealthy(false)
	a.finish()
}

// finish puts the end on record and reports it.
func (a *alloc) finish() {
	a.rec.Ended = time.Now().UnixNano()
	if err := a.h.db.PutAlloc(&a.rec); err != nil {
		a.log.Error("remember allocation", "err", err)
	}
	names := make([]string, 0, len(a.tasks))
	for name := range a.tasks {
		names = append(names, name)
	}
	if err := a.h.dirs.alloc(a.id).Unmount(names...); err != nil {
		a.log.Warn("take secrets away", "err", err)
	}
	a.report()
}

// take puts a newer version in the place of the older.
func (a *alloc) take(p *placement) {
	if p.alloc.Job.Version != a.want.alloc.Job.Version {
		a.rec.Healthy = nil // a new version has to show that it is healthy
	}
	a.want, a.rec.Alloc = p, p.alloc
	a.hurry = a.hurry || p.hurry
	for _, t := range a.tasks {
		if p.task(t.name) != nil {
			t.want.Store(p)
		}
	}
	if err := a.h.db.PutAlloc(&a.rec); err != nil {
		a.log.Error("remember allocation", "err", err)
	}
}

// react does what the states of the tasks and the wish of the hubs ask for: it is called after every change of either, and
// stopping what is stopping already changes nothing.
func (a *alloc) react(healthy *time.Timer) {
	failed, leader := a.verdict()
	switch {
	case a.want.alloc.DesiredStatus != api.AllocDesiredRun:
		a.stopAll()
	case failed != "":
		a.stopOthers(failed, &stopReason{event: api.TaskSiblingFailed, text: fmt.Sprintf("Task %q of the group failed", failed)})
	case leader != "":
		a.stopOthers(leader, &stopReason{event: api.TaskLeaderDead, text: fmt.Sprintf("Leader task %q of the group is done", leader)})
	}
	if failed != "" {
		a.setHealthy(false)
	}
	healthy.Stop()
	if due, ok := a.healthyAt(); ok {
		healthy.Reset(time.Until(due))
	}
}

// verdict names a task that failed for good and a leader task that is dead, "" for none.
func (a *alloc) verdict() (failed, leader string) {
	for _, spec := range a.want.group.Tasks {
		s := a.states[spec.Name]
		if s == nil || s.State != api.TaskStateDead {
			continue
		}
		if s.Failed && failed == "" {
			failed = spec.Name
		}
		if spec.Leader {
			leader = spec.Name
		}
	}
	return failed, leader
}

// stopAll stops the leader task and, when it is dead, the others.
func (a *alloc) stopAll() {
	reason := &stopReason{text: a.want.alloc.DesiredDescription, delay: a.want.group.ShutdownDelay, hurry: a.hurry}
	if reason.text == "" {
		reason.text = "The allocation is no longer wanted"
	}
	for _, spec := range a.want.group.Tasks {
		if spec.Leader && a.states[spec.Name] != nil && a.states[spec.Name].State != api.TaskStateDead {
			a.tasks[spec.Name].kill(reason)
			return
		}
	}
	a.stopOthers("", reason)
}

func (a *alloc) stopOthers(but string, reason *stopReason) {
	for name, t := range a.tasks {
		if name != but {
			t.kill(reason)
		}
	}
}

// healthyAt says when the allocation will have been healthy for long enough: all its tasks running for min_healthy_time.
// It is false while not all run, once the verdict is known, and for groups without an update policy.
func (a *alloc) healthyAt() (time.Time, bool) {
	update := a.want.group.Update
	if update == nil || a.rec.Healthy != nil || a.want.alloc.DesiredStatus != api.AllocDesiredRun {
		return time.Time{}, false
	}
	var since time.Time
	for _, s := range a.states {
		if s.State != api.TaskStateRunning {
			return time.Time{}, false
		}
		if s.StartedAt.After(since) {
			since = s.StartedAt
		}
	}
	return since.Add(update.MinHealthyTime), true
}

// setHealthy puts the first verdict on record; batch groups have none.
func (a *alloc) setHealthy(ok bool) {
	if a.want.group.Update == nil || a.rec.Healthy != nil && *a.rec.Healthy == ok {
		return
	}
	a.rec.Healthy = &ok
	if err := a.h.db.PutAlloc(&a.rec); err != nil {
		a.log.Error("remember allocation", "err", err)
	}
}

func (a *alloc) allDead() bool {
	for _, s := range a.states {
		if s.State != api.TaskStateDead {
			return false
		}
	}
	return true
}

// report queues the newest state for the hubs.
func (a *alloc) report() {
	status, description := clientStatus(a.states)
	a.h.reporter.report(&api.AllocStatus{
		ID: a.id, ClientStatus: status, ClientDescription: description,
		TaskStates: maps.Clone(a.states), Healthy: a.rec.Healthy, Time: time.Now().UnixNano(),
	})
}

// clientStatus sums up tasks' states. An allocation is over only when its last task is: until then it holds its ports and
// memory, whatever has failed.
func clientStatus(states map[string]*api.TaskState) (status, description string) {
	dead, running, failed := 0, 0, false
	for _, s := range states {
		switch s.State {
		case api.TaskStateDead:
			dead++
			failed = failed || s.Failed
		case api.TaskStateRunning:
			running++
		}
	}
	switch {
	case dead == len(states) && failed:
		return api.AllocClientFailed, "Failed tasks"
	case dead == len(states):
		return api.AllocClientComplete, "All tasks have completed"
	case running > 0 || dead > 0:
		return api.AllocClientRunning, "Tasks are running"
	}
	return api.AllocClientPending, "No tasks have started"
}

// newPlacement ties an allocation to the version of its job.
func newPlacement(a *api.Allocation, j *api.Job) (*placement, error) {
	if j == nil {
		return nil, errors.New("it comes without its job")
	}
	c := *a
	c.Job = j
	for _, g := range j.TaskGroups {
		if g.Name == a.TaskGroup {
			return &placement{alloc: &c, group: g}, nil
		}
	}
	return nil, fmt.Errorf("its job has no group %q", a.TaskGroup)
}
