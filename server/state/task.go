package state

import (
	"maps"
	"slices"
	"time"
	"unique"

	"github.com/brumehq/brume/api"
)

// maxEvents is how many events of a task are kept.
const maxEvents = 10

// taskState is what a node said of one task, times in unix nanoseconds on its clock.
type taskState struct {
	name        string
	state       status
	failed      bool
	restarts    uint64
	lastRestart int64
	startedAt   int64
	finishedAt  int64
	events      []taskEvent // oldest first
}

// taskEvent is one line of a task's history. Texts are shared by all rows that say the same.
type taskEvent struct {
	time   int64
	text   unique.Handle[string] // DisplayMessage; the zero handle is ""
	rare   *rareEvent            // nil for most
	exit   int32
	signal uint8
	typ    uint8 // in eventTypes; 0: in rare
	flags  uint8
}

const (
	eventFailsTask = 1 << iota
	eventOOM
)

// rareEvent is what few events carry.
type rareEvent struct {
	typ                                             string
	message, restartReason, driverError, killReason string
	details                                         []string // keys and values in turn, in the order of the keys
	killTimeout                                     time.Duration
	startDelay                                      int64
	exit, signal                                    int64 // where they do not fit a taskEvent
}

// eventTypes numbers the common types in the log. Numbers are never used again.
var eventTypes = [...]string{1: api.TaskReceived, 2: api.TaskSetup, 3: api.TaskSetupFailure, 4: api.TaskDriverFailure,
	5: api.TaskDriverMessage, 6: api.TaskStarted, 7: api.TaskTerminated, 8: api.TaskKilling, 9: api.TaskKilled,
	10: api.TaskRestarting, 11: api.TaskNotRestarting, 12: api.TaskRestartSignal, 13: api.TaskSignaling,
	14: api.TaskSiblingFailed, 15: api.TaskLeaderDead, 16: api.TaskFailedValidation}

// packTasks makes compact states, in the order of the tasks' names.
func packTasks(states map[string]*api.TaskState) ([]taskState, error) {
	tasks := make([]taskState, 0, len(states))
	for _, name := range slices.Sorted(maps.Keys(states)) {
		s := states[name]
		if s == nil {
			continue
		}
		state, err := statusOf(taskNames[:], "task state", s.State)
		if err != nil {
			return nil, err
		}
		t := taskState{name: name, state: state, failed: s.Failed, restarts: s.Restarts,
			lastRestart: nsOf(s.LastRestart), startedAt: nsOf(s.StartedAt), finishedAt: nsOf(s.FinishedAt)}
		kept := s.Events[max(0, len(s.Events)-maxEvents):]
		t.events = make([]taskEvent, 0, len(kept))
		for _, e := range kept {
			if e != nil {
				t.events = append(t.events, packEvent(e))
			}
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

func packEvent(e *api.TaskEvent) taskEvent {
	p := taskEvent{time: e.Time, flags: flag(e.FailsTask, eventFailsTask) | flag(e.OOMKilled, eventOOM)}
	if e.DisplayMessage != "" {
		p.text = unique.Make(e.DisplayMessage)
	}
	r := rareEvent{message: e.Message, restartReason: e.RestartReason, driverError: e.DriverError, killReason: e.KillReason,
		killTimeout: e.KillTimeout, startDelay: e.StartDelay}
	if i := slices.Index(eventTypes[1:], e.Type); i >= 0 {
		p.typ = uint8(i + 1)
	} else {
		r.typ = e.Type
	}
	if p.exit = int32(e.ExitCode); int(p.exit) != e.ExitCode {
		p.exit, r.exit = 0, int64(e.ExitCode)
	}
	if p.signal = uint8(e.Signal); int(p.signal) != e.Signal {
		p.signal, r.signal = 0, int64(e.Signal)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		r.details = append(r.details, k, e.Details[k])
	}
	if !r.empty() {
		p.rare = &r
	}
	return p
}

func (r *rareEvent) empty() bool {
	return r.typ == "" && r.message == "" && r.restartReason == "" && r.driverError == "" && r.killReason == "" &&
		len(r.details) == 0 && r.killTimeout == 0 && r.startDelay == 0 && r.exit == 0 && r.signal == 0
}

func (r *rareEvent) equal(o *rareEvent) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.typ == o.typ && r.message == o.message && r.restartReason == o.restartReason && r.driverError == o.driverError &&
		r.killReason == o.killReason && slices.Equal(r.details, o.details) && r.killTimeout == o.killTimeout &&
		r.startDelay == o.startDelay && r.exit == o.exit && r.signal == o.signal
}

func (e *taskEvent) equal(o *taskEvent) bool {
	return e.time == o.time && e.text == o.text && e.exit == o.exit && e.signal == o.signal && e.typ == o.typ &&
		e.flags == o.flags && e.rare.equal(o.rare)
}

func (t *taskState) equal(o *taskState) bool {
	return t.name == o.name && t.state == o.state && t.failed == o.failed && t.restarts == o.restarts &&
		t.lastRestart == o.lastRestart && t.startedAt == o.startedAt && t.finishedAt == o.finishedAt &&
		slices.EqualFunc(t.events, o.events, func(a, b taskEvent) bool { return a.equal(&b) })
}

// unpack makes the JSON shape.
func (t *taskState) unpack() *api.TaskState {
	s := &api.TaskState{State: taskNames[t.state], Failed: t.failed, Restarts: t.restarts, LastRestart: timeOf(t.lastRestart),
		StartedAt: timeOf(t.startedAt), FinishedAt: timeOf(t.finishedAt), Events: make([]*api.TaskEvent, len(t.events))}
	for i := range t.events {
		s.Events[i] = t.events[i].unpack()
	}
	return s
}

func (e *taskEvent) unpack() *api.TaskEvent {
	u := &api.TaskEvent{Type: eventTypes[e.typ], Time: e.time, ExitCode: int(e.exit), Signal: int(e.signal),
		FailsTask: e.flags&eventFailsTask != 0, OOMKilled: e.flags&eventOOM != 0}
	if e.text != (unique.Handle[string]{}) {
		u.DisplayMessage = e.text.Value()
	}
	r := e.rare
	if r == nil {
		return u
	}
	if e.typ == 0 {
		u.Type = r.typ
	}
	u.Message, u.RestartReason, u.DriverError, u.KillReason = r.message, r.restartReason, r.driverError, r.killReason
	u.KillTimeout, u.StartDelay = r.killTimeout, r.startDelay
	u.ExitCode += int(r.exit)
	u.Signal += int(r.signal)
	if len(r.details) > 0 {
		u.Details = make(map[string]string, len(r.details)/2)
	}
	for i := 0; i+1 < len(r.details); i += 2 {
		u.Details[r.details[i]] = r.details[i+1]
	}
	return u
}
