package state

import (
	"fmt"
	"slices"
	"time"
	"unique"
)

// taskReport is a task's state. With adds, its events come after those that are known, and a start, last restart or
// number of restarts that is zero is as known.
type taskReport struct {
	taskState
	adds bool
}

func findTask(tasks []taskState, name string) *taskState {
	for i := range tasks {
		if tasks[i].name == name {
			return &tasks[i]
		}
	}
	return nil
}

// reportOn makes the report of a task, as an addition to what is known of it (or nil) if it can be one: if it takes no
// start or restart back and its events go on from the known ones. taskReport.on undoes it.
func reportOn(known, now *taskState) *taskReport {
	r := &taskReport{taskState: *now}
	if known == nil || known.startedAt != 0 && now.startedAt == 0 || known.lastRestart != 0 && now.lastRestart == 0 || now.restarts < known.restarts {
		return r
	}
	added, ok := eventsAfter(known.events, now.events)
	if !ok {
		return r
	}
	r.events, r.adds = added, true
	if now.startedAt == known.startedAt {
		r.startedAt = 0
	}
	if now.lastRestart == known.lastRestart {
		r.lastRestart = 0
	}
	if now.restarts == known.restarts {
		r.restarts = 0
	}
	return r
}

// eventsAfter returns the events that follow the last known one. ok is false if that is not among them, or if two cannot
// be told apart.
func eventsAfter(known, events []taskEvent) (added []taskEvent, ok bool) {
	if len(known) == 0 {
		return nil, false
	}
	at := -1
	for i := range events {
		if hasEvent(events[:i], &events[i]) {
			return nil, false
		}
		if events[i].equal(&known[len(known)-1]) {
			at = i
		}
	}
	if at < 0 {
		return nil, false
	}
	added = events[at+1:]
	for i := range added {
		if hasEvent(known, &added[i]) {
			return nil, false
		}
	}
	return added, true
}

func hasEvent(events []taskEvent, e *taskEvent) bool {
	return slices.ContainsFunc(events, func(o taskEvent) bool { return o.equal(e) })
}

// on is the task's state as reported, given what is known of it now (or nil).
func (r *taskReport) on(known *taskState) taskState {
	t := r.taskState
	if !r.adds || known == nil {
		return t
	}
	t.events = addEvents(known.events, r.events)
	if t.startedAt == 0 {
		t.startedAt = known.startedAt
	}
	if t.lastRestart == 0 {
		t.lastRestart = known.lastRestart
	}
	if t.restarts == 0 {
		t.restarts = known.restarts
	}
	return t
}

// addEvents appends those events that are not known yet and keeps the last ones.
func addEvents(known, added []taskEvent) []taskEvent {
	all := make([]taskEvent, 0, len(known)+len(added))
	all = append(all, known...)
	for i := range added {
		if !hasEvent(known, &added[i]) {
			all = append(all, added[i])
		}
	}
	if drop := len(all) - maxEvents; drop > 0 {
		all = slices.Clone(all[drop:])
	}
	return all
}

// Flags of a task in the log.
const (
	taskFailed = 1 << (iota + 2) // above the state
	taskAdds
	taskRestarts
	taskLastRestart
	taskStarted
	taskFinished
)

func (e *encoder) task(t *taskReport) {
	e.text(t.name)
	e.byte(byte(t.state) | flag(t.failed, taskFailed) | flag(t.adds, taskAdds) | flag(t.restarts > 0, taskRestarts) |
		flag(t.lastRestart != 0, taskLastRestart) | flag(t.startedAt != 0, taskStarted) | flag(t.finishedAt != 0, taskFinished))
	if t.restarts > 0 {
		e.uint(t.restarts)
	}
	e.count(len(t.events))
	before := e.time
	for i := range t.events {
		ev := &t.events[i]
		e.event(ev, before)
		before = ev.time
	}
	for _, at := range [...]int64{t.lastRestart, t.startedAt, t.finishedAt} {
		if at != 0 {
			e.int(at - before) // little: the last event is about one of them
		}
	}
}

func (d *decoder) task() taskReport {
	var t taskReport
	t.name = d.text()
	flags := d.byte()
	t.state, t.failed, t.adds = status(flags&3), flags&taskFailed != 0, flags&taskAdds != 0
	if flags&taskRestarts != 0 {
		t.restarts = d.uint()
	}
	n := d.count(3)
	t.events = make([]taskEvent, 0, n)
	before := d.time
	for range n {
		ev := d.event(before)
		before = ev.time
		t.events = append(t.events, ev)
	}
	for i, at := range [...]*int64{&t.lastRestart, &t.startedAt, &t.finishedAt} {
		if flags&(taskLastRestart<<i) != 0 {
			*at = before + d.int()
		}
	}
	t.events = t.events[max(0, len(t.events)-maxEvents):]
	return t
}

// An event begins with its type; eventMore says that a byte of these follows.
const (
	eventMore = 1 << 5

	moreExit   = 1 << 2 // above the event's own flags
	moreSignal = 1 << 3
	moreRare   = 1 << 4
)

func (e *encoder) event(ev *taskEvent, before int64) {
	more := ev.flags | flag(ev.exit != 0, moreExit) | flag(ev.signal != 0, moreSignal) | flag(ev.rare != nil, moreRare)
	e.byte(ev.typ | flag(more != 0, eventMore))
	e.int(ev.time - before)
	text := ""
	if ev.text != (unique.Handle[string]{}) {
		text = ev.text.Value()
	}
	e.text(text)
	if more == 0 {
		return
	}
	e.byte(more)
	if ev.exit != 0 {
		e.int(int64(ev.exit))
	}
	if ev.signal != 0 {
		e.byte(ev.signal)
	}
	if r := ev.rare; r != nil {
		for _, s := range [...]string{r.typ, r.message, r.restartReason, r.driverError, r.killReason} {
			e.text(s)
		}
		e.strings(r.details)
		for _, v := range [...]int64{int64(r.killTimeout), r.startDelay, r.exit, r.signal} {
			e.int(v)
		}
	}
}

func (d *decoder) event(before int64) taskEvent {
	var ev taskEvent
	first := d.byte()
	if ev.typ = first &^ eventMore; int(ev.typ) >= len(eventTypes) {
		d.fail(fmt.Errorf("task event of type %d", ev.typ))
		return taskEvent{}
	}
	ev.time = before + d.int()
	ev.text = d.sharedText()
	if first&eventMore == 0 {
		return ev
	}
	more := d.byte()
	ev.flags = more & (eventFailsTask | eventOOM)
	if more&moreExit != 0 {
		ev.exit = int32(d.int())
	}
	if more&moreSignal != 0 {
		ev.signal = d.byte()
	}
	if more&moreRare != 0 {
		r := &rareEvent{}
		for _, s := range [...]*string{&r.typ, &r.message, &r.restartReason, &r.driverError, &r.killReason} {
			*s = d.text()
		}
		r.details = d.strings()
		r.killTimeout = time.Duration(d.int())
		r.startDelay, r.exit, r.signal = d.int(), d.int(), d.int()
		ev.rare = r
	}
	return ev
}
