package state

import (
	"fmt"
	"slices"

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
	if s == nil {
		return fmt.Errorf("a status is null: %w", api.ErrInvalid)
	}
	id, err := ParseID(s.ID)
	if err != nil {
		return err
	}
	client, err := statusOf(clientNames[:], "client status", s.ClientStatus)
	if err != nil {
		return err
	}
	if client == 0 {
		return fmt.Errorf("allocation %s without client status: %w", s.ID, api.ErrInvalid)
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
		e.task(reportOn(findTask(known, tasks[i].name), &tasks[i]))
	}
	return nil
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
		tasks[i] = reports[i].on(findTask(known, reports[i].name))
		tasks[i].name = sharedName(g, tasks[i].name)
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
