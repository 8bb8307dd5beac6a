package state

import (
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/brumehq/brume/api"
)

// AllocStatuses is what nodes reported of their allocations, with the evaluations that follow. An allocation that is not
// known is passed over, and a final client status stays. What says nothing new changes nothing. The result is the
// []*Row that changed, as they are now.
type AllocStatuses struct {
	Statuses []*api.AllocStatus
	Evals    []*api.Evaluation

	// Base, if set, is a state that the log holds already: of what it knows, only what is new is written.
	Base *Snapshot

	rows []statusRow // decoded
}

// statusRow is one report in compact form.
type statusRow struct {
	id          ID
	status      status
	healthy     health
	description string
	tasks       []taskReport // nil: nothing said
}

// taskReport is a task's state; with adds, its events come after those that are known.
type taskReport struct {
	taskState
	adds bool
}

func (c AllocStatuses) kind() kind { return kindAllocStatuses }

func (c AllocStatuses) encode(e *encoder) error {
	e.count(len(c.Statuses))
	for _, s := range c.Statuses {
		if err := e.allocStatus(s, c.Base); err != nil {
			return err
		}
	}
	return e.evals(c.Evals)
}

func (e *encoder) allocStatus(s *api.AllocStatus, base *Snapshot) error {
	id, err := ParseID(s.ID)
	if err != nil {
		return err
	}
	client, err := statusOf(clientNames[:], "client status", s.ClientStatus)
	if err != nil {
		return err
	}
	tasks, err := packTasks(s.TaskStates)
	if err != nil {
		return err
	}
	e.id(id)
	e.byte(byte(client) | byte(healthOf(s.Healthy))<<4)
	e.text(s.ClientDescription)
	e.count(len(tasks))
	var known []taskState
	if base != nil {
		if r := base.row(id); r != nil && r.client != nil {
			known = r.client.tasks
		}
	}
	for i := range tasks {
		t := taskReport{taskState: tasks[i]}
		if k := findTask(known, t.name); k != nil {
			t.events, t.adds = newEvents(k.events, t.events)
		}
		e.task(&t)
	}
	return nil
}

func findTask(tasks []taskState, name string) *taskState {
	for i := range tasks {
		if tasks[i].name == name {
			return &tasks[i]
		}
	}
	return nil
}

// newEvents returns the events that come after the last known one; ok is false if that is not among them.
func newEvents(known, events []taskEvent) (rest []taskEvent, ok bool) {
	if len(known) == 0 {
		return events, false
	}
	last := &known[len(known)-1]
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].equal(last) {
			return events[i+1:], true
		}
	}
	return events, false
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
	for _, at := range [...]int64{t.lastRestart, t.startedAt, t.finishedAt} {
		if at != 0 {
			e.since(at)
		}
	}
	e.count(len(t.events))
	before := e.time
	for i := range t.events {
		ev := &t.events[i]
		e.event(ev, before)
		before = ev.time
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
	for i, at := range [...]*int64{&t.lastRestart, &t.startedAt, &t.finishedAt} {
		if flags&(taskLastRestart<<i) != 0 {
			*at = d.since()
		}
	}
	t.events = make([]taskEvent, 0, d.count(3))
	before := d.time
	for range cap(t.events) {
		ev := d.event(before)
		before = ev.time
		t.events = append(t.events, ev)
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
	if text := d.text(); text != "" {
		ev.text = unique.Make(text)
	}
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

func decodeAllocStatuses(d *decoder) Command {
	var c AllocStatuses
	n := d.count(len(ID{}) + 3)
	c.rows = make([]statusRow, 0, n)
	for range n {
		r := statusRow{id: d.id()}
		b := d.byte()
		r.status, r.healthy = status(b&15), health(b>>4)
		if r.status == 0 || int(r.status) >= len(clientNames) || r.healthy > healthBad {
			d.fail(fmt.Errorf("client status %d", b))
		}
		r.description = d.text()
		for range d.count(3) {
			r.tasks = append(r.tasks, d.task())
		}
		c.rows = append(c.rows, r)
	}
	c.Evals = d.evals()
	return c
}

func (c AllocStatuses) apply(t *txn) (any, error) {
	var changed []*Row
	for i := range c.rows {
		if r := t.report(&c.rows[i]); r != nil {
			changed = append(changed, r)
		}
	}
	t.putEvals(c.Evals)
	return changed, nil
}

// report merges a node's report into its allocation; nil if it says nothing new.
func (t *txn) report(s *statusRow) *Row {
	r := t.row(s.id)
	if r == nil {
		return nil
	}
	var was clientState
	if r.client != nil {
		was = *r.client
	}
	now, client := was, r.status
	if !r.ClientTerminal() {
		client, now.description = s.status, s.description
	}
	if s.healthy != healthUnknown && s.healthy != was.healthy {
		now.healthy, now.healthTime, now.healthIndex = s.healthy, t.time, t.index
	}
	if len(s.tasks) > 0 {
		now.tasks = mergeTasks(was.tasks, s.tasks, r.TaskGroup())
	}
	if client == r.status && now.description == was.description && now.healthy == was.healthy && equalTasks(now.tasks, was.tasks) {
		return nil
	}
	n := r.edit(t)
	n.status, n.client = client, &now
	t.putAlloc(n, false)
	return n
}

func equalTasks(a, b []taskState) bool {
	return slices.EqualFunc(a, b, func(a, b taskState) bool { return a.equal(&b) })
}

// mergeTasks makes the tasks as reported, each with the events that are known of it where the report only adds some.
func mergeTasks(known []taskState, reports []taskReport, g *api.Group) []taskState {
	tasks := make([]taskState, len(reports))
	for i := range reports {
		tasks[i] = reports[i].taskState
		tasks[i].name = sharedName(g, tasks[i].name)
		if !reports[i].adds {
			continue
		}
		if k := findTask(known, tasks[i].name); k != nil {
			tasks[i].events = addEvents(k.events, tasks[i].events)
		}
	}
	return tasks
}

// sharedName returns the job's own copy of a task's name where it has one.
func sharedName(g *api.Group, name string) string {
	for _, t := range g.Tasks {
		if t != nil && t.Name == name {
			return t.Name
		}
	}
	return name
}

// addEvents appends those events that are not known yet and keeps the last ones.
func addEvents(known, added []taskEvent) []taskEvent {
	all := make([]taskEvent, 0, len(known)+len(added))
	all = append(all, known...)
	for i := range added {
		if !slices.ContainsFunc(known, func(k taskEvent) bool { return k.equal(&added[i]) }) {
			all = append(all, added[i])
		}
	}
	if drop := len(all) - maxEvents; drop > 0 {
		all = slices.Clone(all[drop:])
	}
	return all
}

// StopAllocs notes that users asked for allocations to be stopped, and adds the evaluations whose plans will do so.
// Unknown allocations and those that are stopping or done are passed over. The result is the number noted.
type StopAllocs struct {
	IDs   []ID
	Evals []*api.Evaluation
}

func (c StopAllocs) kind() kind { return kindStopAllocs }

func (c StopAllocs) encode(e *encoder) error {
	e.ids(c.IDs)
	return e.evals(c.Evals)
}

func (c StopAllocs) apply(t *txn) (any, error) {
	noted := 0
	for _, id := range c.IDs {
		r := t.row(id)
		if r == nil || r.ClientTerminal() || r.desired != desiredRun || r.StopRequested() {
			continue
		}
		n := r.edit(t)
		n.editExtra().stopRequested = true
		t.putAlloc(n, false)
		noted++
	}
	t.putEvals(c.Evals)
	return noted, nil
}
