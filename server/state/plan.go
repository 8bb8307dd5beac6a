package state

import (
	"fmt"
	"slices"

	"github.com/brumehq/brume/api"
)

// Plan is what scheduling decided, of one evaluation or of several. Applied twice it changes nothing. A placement whose
// node is not ready and eligible any more, or whose job is stopped or gone, is dropped and its evaluation made pending
// again. The result is a Planned.
type Plan struct {
	Place   []PlaceGroup
	Stop    []Stop
	InPlace []InPlace
	Wait    []Wait
	Evals   []*api.Evaluation // new and changed: as they are to be
}

// PlaceGroup is the placements of one group by one evaluation. A large one may go in several entries.
type PlaceGroup struct {
	Job    JobRef
	Group  string
	EvalID string
	Metric *api.AllocMetric // kept once for all of them; nil: none
	Rows   []Placement
}

// Placement is one new allocation.
type Placement struct {
	ID       ID
	Index    int    // of its name
	Node     uint32 // ordinal
	Ports    []uint16
	Previous ID                     // the allocation that it replaces; zero: none
	Tracker  *api.RescheduleTracker // nil: first of its line
}

// Stop is an allocation that is to be stopped.
type Stop struct {
	ID           ID
	Description  string
	ClientStatus string // api.AllocClientLost if its node will not report it; else ""
}

// InPlace moves allocations to another version of their job without stopping them.
type InPlace struct {
	Job JobRef
	IDs []ID
}

// Wait ties a failed allocation to the evaluation that will replace it after its back-off.
type Wait struct {
	ID       ID
	FollowUp string
}

// Planned answers a Plan.
type Planned struct {
	Dropped  []ID     // placements that were not made
	Requeued []string // their evaluations, pending again
}

// requeued is why an evaluation is pending again.
const requeued = "a node or the job changed before the placement was committed"

func (c Plan) kind() kind { return kindPlan }

func (c Plan) encode(e *encoder) error {
	e.count(len(c.Place))
	for i := range c.Place {
		if err := e.placeGroup(&c.Place[i]); err != nil {
			return err
		}
	}
	e.count(len(c.Stop))
	for _, s := range c.Stop {
		status, err := statusOf(clientNames[:], "client status", s.ClientStatus)
		if err != nil {
			return err
		}
		e.id(s.ID)
		e.text(s.Description)
		e.byte(byte(status))
	}
	e.count(len(c.InPlace))
	for _, p := range c.InPlace {
		e.jobRef(p.Job)
		e.ids(p.IDs)
	}
	e.count(len(c.Wait))
	for _, w := range c.Wait {
		e.id(w.ID)
		e.text(w.FollowUp)
	}
	return e.evals(c.Evals)
}

// basePort is what host ports are written relative to: dynamic ports come out small.
const basePort = api.MinDynamicPort

// placeGroup writes 22 bytes a row where names count up, nodes have two-byte ordinals and there is one dynamic port.
func (e *encoder) placeGroup(g *PlaceGroup) error {
	e.jobRef(g.Job)
	e.text(g.Group)
	e.text(g.EvalID)
	if err := e.metric(g.Metric); err != nil {
		return err
	}
	ports := 0
	if len(g.Rows) > 0 {
		ports = len(g.Rows[0].Ports)
	}
	e.count(ports)
	e.count(len(g.Rows))
	next := 0
	for i := range g.Rows {
		r := &g.Rows[i]
		if len(r.Ports) != ports {
			return fmt.Errorf("group %s: placements with %d and %d ports: %w", g.Group, ports, len(r.Ports), api.ErrInvalid)
		}
		if err := r.check(); err != nil {
			return fmt.Errorf("group %s: %w", g.Group, err)
		}
		replaces := r.Previous != (ID{}) || r.Tracker != nil
		e.int(int64(r.Index-next)<<1 | int64(flag(replaces, 1)))
		next = r.Index + 1
		e.uint(uint64(r.Node))
		e.id(r.ID)
		for _, p := range r.Ports {
			e.int(int64(p) - basePort)
		}
		if replaces {
			e.id(r.Previous)
			if err := e.tracker(r.Tracker); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Placement) check() error {
	if p.Index < 0 || p.Index >= 1<<31 || p.ID == (ID{}) {
		return fmt.Errorf("placement %q with index %d: %w", p.ID, p.Index, api.ErrInvalid)
	}
	return nil
}

func (e *encoder) metric(m *api.AllocMetric) error {
	e.bool(m != nil)
	if m == nil {
		return nil
	}
	return e.object(m)
}

func (d *decoder) metric() *api.AllocMetric {
	if !d.bool() {
		return nil
	}
	m := new(api.AllocMetric)
	d.object(m)
	return m
}

// tracker writes a tracker; nil is a count of 0, so an empty one is one more.
func (e *encoder) tracker(t *api.RescheduleTracker) error {
	if t == nil {
		e.count(0)
		return nil
	}
	e.count(len(t.Events) + 1)
	e.text(t.LastReschedule)
	for _, ev := range t.Events {
		if ev == nil {
			return fmt.Errorf("reschedule tracker: an event is null: %w", api.ErrInvalid)
		}
		prev, err := ParseID(ev.PrevAllocID)
		if err != nil {
			return fmt.Errorf("reschedule tracker: %w", err)
		}
		e.since(ev.RescheduleTime)
		e.id(prev)
		e.text(ev.PrevNodeID)
		e.int(int64(ev.Delay))
	}
	return nil
}

func decodePlan(d *decoder) Command {
	var c Plan
	for range d.count(1) {
		c.Place = append(c.Place, d.placeGroup())
	}
	for range d.count(len(ID{}) + 2) {
		c.Stop = append(c.Stop, Stop{ID: d.id(), Description: d.text(), ClientStatus: clientNames[d.limited(uint64(len(clientNames)))]})
	}
	for range d.count(1) {
		c.InPlace = append(c.InPlace, InPlace{Job: d.jobRef(), IDs: d.ids()})
	}
	for range d.count(len(ID{}) + 1) {
		c.Wait = append(c.Wait, Wait{ID: d.id(), FollowUp: d.text()})
	}
	c.Evals = d.evals()
	return c
}

func (d *decoder) placeGroup() PlaceGroup {
	g := PlaceGroup{Job: d.jobRef(), Group: d.text(), EvalID: d.text(), Metric: d.metric()}
	ports := d.count(1)
	n := d.count(len(ID{}) + 2 + ports)
	g.Rows = make([]Placement, 0, n)
	next := int64(0)
	for range n {
		var r Placement
		delta := d.int()
		r.Index = int(next + delta>>1)
		next = int64(r.Index) + 1
		r.Node = uint32(d.limited(1 << 32))
		r.ID = d.id()
		d.check(r.check())
		if ports > 0 && d.err == nil {
			r.Ports = make([]uint16, ports)
		}
		for i := range r.Ports {
			r.Ports[i] = d.port()
		}
		if delta&1 == 1 {
			r.Previous, r.Tracker = d.id(), d.tracker()
		}
		g.Rows = append(g.Rows, r)
	}
	return g
}

func (d *decoder) port() uint16 {
	p := d.int() + basePort
	if p < 0 || p > 1<<16-1 {
		d.fail(fmt.Errorf("port %d", p))
	}
	return uint16(p)
}

func (d *decoder) tracker() *api.RescheduleTracker {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	t := &api.RescheduleTracker{LastReschedule: d.text()}
	for range n - 1 {
		if d.err != nil {
			return nil
		}
		t.Events = append(t.Events, &api.RescheduleEvent{RescheduleTime: d.since(), PrevAllocID: d.id().String(),
			PrevNodeID: d.text(), Delay: d.duration()})
	}
	return t
}

func (c Plan) apply(t *txn) (any, error) {
	for _, s := range c.Stop {
		t.stop(s)
	}
	for _, p := range c.InPlace {
		t.moveInPlace(p)
	}
	for _, w := range c.Wait {
		t.wait(w)
	}
	var out Planned
	for i := range c.Place {
		t.placeGroup(&c.Place[i], &out)
	}
	t.requeue(c.Evals, out.Requeued)
	t.putEvals(c.Evals)
	return out, nil
}

// stop makes an allocation one that its node is to stop. What a node said last of an allocation stays.
func (t *txn) stop(s Stop) {
	r := t.row(s.ID)
	if r == nil {
		return
	}
	client := status(slices.Index(clientNames[:], s.ClientStatus))
	lose := client != 0 && !r.ClientTerminal()
	if r.desired != desiredRun && !lose {
		return
	}
	n := r.edit(t)
	if r.desired == desiredRun {
		n.desired = desiredStop
		n.editExtra().description = s.Description
	}
	if lose {
		n.status = client
		n.editExtra().clientDescription = s.Description
	}
	n.allocModifyIndex = t.index
	t.putAlloc(n, true)
}

// moveInPlace makes allocations run another version of their job.
func (t *txn) moveInPlace(p InPlace) {
	v := t.versionRow(p.Job)
	if v == nil {
		return
	}
	for _, id := range p.IDs {
		r := t.row(id)
		if r == nil || r.version == v.version || r.ClientTerminal() || r.Namespace() != p.Job.Namespace || r.JobID() != p.Job.ID {
			continue
		}
		group := groupIndex(v.version.job, r.Group())
		if group < 0 {
			continue
		}
		n := r.edit(t)
		n.version, n.group = v.version, uint16(group)
		n.allocModifyIndex = t.index
		t.putAlloc(n, true)
	}
}

func groupIndex(j *api.Job, name string) int {
	return slices.IndexFunc(j.TaskGroups, func(g *api.Group) bool { return g.Name == name })
}

// wait notes which evaluation will replace a failed allocation.
func (t *txn) wait(w Wait) {
	r := t.row(w.ID)
	if r == nil || r.FollowupEval() == w.FollowUp {
		return
	}
	n := r.edit(t)
	n.editExtra().followup = w.FollowUp
	t.putAlloc(n, false)
}

// placeGroup adds the allocations that can be added still.
func (t *txn) placeGroup(g *PlaceGroup, out *Planned) {
	v := t.versionRow(g.Job)
	group := -1
	if j := t.job(g.Job.Namespace, g.Job.ID); v != nil && j != nil && j.job.CreateIndex == g.Job.CreateIndex && !j.job.Stop {
		group = groupIndex(v.version.job, g.Group)
	}
	o := &origin{evalID: g.EvalID, index: t.index, seq: t.origins, time: t.time, seed: t.seed, metric: g.Metric}
	t.origins++
	for i := range g.Rows {
		p := &g.Rows[i]
		if group < 0 || !t.takesWork(p.Node) {
			if t.row(p.ID) != nil {
				continue // placed already
			}
			out.Dropped = append(out.Dropped, p.ID)
			if !slices.Contains(out.Requeued, g.EvalID) {
				out.Requeued = append(out.Requeued, g.EvalID)
			}
			continue
		}
		r := &Row{id: p.ID, version: v.version, origin: o, ports: p.Ports, node: p.Node, index: uint32(p.Index),
			seq: uint32(i), group: uint16(group), desired: desiredRun, status: clientPending,
			modifyIndex: t.index, allocModifyIndex: t.index, modifyTime: t.time}
		if p.Previous != (ID{}) || p.Tracker != nil {
			r.extra = &extra{previous: p.Previous, tracker: p.Tracker}
		}
		if t.addAlloc(r) {
			t.replaced(p.Previous, p.ID)
		}
	}
}

// takesWork reports whether a node is ready and eligible.
func (t *txn) takesWork(ordinal uint32) bool {
	n := t.nodeByOrdinal(ordinal)
	return n != nil && n.Status == api.NodeStatusReady && n.SchedulingEligibility == api.NodeEligible && !n.Drain
}

// replaced links an allocation to the one that took its place.
func (t *txn) replaced(id, by ID) {
	r := t.row(id)
	if r == nil || r.extra != nil && r.extra.next == by {
		return
	}
	n := r.edit(t)
	n.editExtra().next = by
	t.putAlloc(n, false)
}

// requeue makes evaluations pending again, in evals where they are there.
func (t *txn) requeue(evals []*api.Evaluation, ids []string) {
	for _, id := range ids {
		i := slices.IndexFunc(evals, func(e *api.Evaluation) bool { return e.ID == id })
		if i >= 0 {
			evals[i].Status, evals[i].StatusDescription = api.EvalStatusPending, requeued
		} else if old := t.evals.get(&api.Evaluation{ID: id}); old != nil {
			e := *old
			e.Status, e.StatusDescription = api.EvalStatusPending, requeued
			t.putEval(&e)
		}
	}
}

func (s *rows) row(id ID) *Row { return s.allocs.get(&Row{id: id}) }

// row and nodeByOrdinal look up without allocating a key each time.
func (t *txn) row(id ID) *Row {
	t.rowKey.id = id
	return t.allocs.get(&t.rowKey)
}

func (t *txn) nodeByOrdinal(ordinal uint32) *api.Node {
	t.nodeKey.Ordinal = ordinal
	return t.nodes.getBy(nodesByOrdinal, &t.nodeKey)
}
