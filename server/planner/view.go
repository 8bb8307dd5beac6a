package planner

import (
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/scheduler"
	"github.com/brumehq/brume/server/state"
)

// rebuild makes view and queue from the state, for which nothing of the planner may be in flight.
func (p *Planner) rebuild() {
	p.inbox.take() // the state holds what it names
	snap := p.cfg.Store.Snapshot()
	p.queue, p.open, p.flying, p.refused = newQueue(), nil, nil, false
	p.view, p.ordinals, p.occupied = scheduler.NewView(), map[string]uint32{}, map[state.ID]struct{}{}
	for n := range snap.Nodes("") {
		p.ordinals[n.ID] = n.Ordinal
		p.view.PutNode(n)
	}
	for r := range snap.Rows("") {
		if !r.ClientTerminal() {
			p.occupied[r.ID()] = struct{}{}
			p.view.Occupy(r.Node(), scheduler.UsageOf(r.TaskGroup(), r.Ports()))
		}
	}
	now := time.Now()
	for e := range snap.OpenEvals() {
		p.queue.put(e, now)
	}
	for _, w := range p.queue.jobs { // what has changed since they were computed is not known
		w.retry = true
		p.queue.settle(w)
	}
}

// read takes what was committed into view and queue. Room that came free wakes the blocked evaluations it may serve.
func (p *Planner) read(n news) {
	snap := p.cfg.Store.Snapshot()
	classes := map[string]bool{}
	for _, id := range n.nodes {
		if class := p.putNode(snap, id); class != "" {
			classes[class] = true
		}
	}
	for _, id := range n.ended {
		if class := p.release(snap, id); class != "" {
			classes[class] = true
		}
	}
	if len(classes) > 0 {
		p.changes++
		p.queue.wake(classes)
	}
	now := time.Now()
	for _, id := range n.evals {
		if e := snap.Eval(id); e != nil {
			p.queue.put(e, now)
		}
	}
	for _, id := range p.queue.due(now) {
		if e := snap.Eval(id); e != nil {
			p.queue.put(e, now)
			p.queue.again(e)
		}
	}
}

// putNode takes a changed node into the view and returns its class if work can be placed on it, else "".
func (p *Planner) putNode(snap *state.Snapshot, id string) string {
	n := snap.Node(id)
	if n == nil {
		if ordinal, known := p.ordinals[id]; known {
			p.view.RemoveNode(ordinal)
			delete(p.ordinals, id)
		}
		return ""
	}
	p.ordinals[id] = n.Ordinal
	p.view.PutNode(n)
	if n.Status != api.NodeStatusReady || n.SchedulingEligibility != api.NodeEligible {
		return ""
	}
	return n.ComputedClass
}

// release gives back what an allocation held, once it is terminal, and returns the class of its node; "" if there was
// nothing to give back.
func (p *Planner) release(snap *state.Snapshot, id state.ID) string {
	r := snap.Row(id)
	if _, held := p.occupied[id]; !held || r == nil || !r.ClientTerminal() {
		return ""
	}
	delete(p.occupied, id)
	p.view.Release(r.Node(), scheduler.UsageOf(r.TaskGroup(), r.Ports()))
	if n := p.view.Node(r.Node()); n != nil {
		return n.ComputedClass
	}
	return ""
}

// giveBack releases the placements of an entry that were dropped, and looks at their nodes: news of those is on its way.
func (p *Planner) giveBack(snap *state.Snapshot, e *entry, dropped []state.ID) {
	if len(dropped) == 0 {
		return
	}
	gone := make(map[scheduler.ID]bool, len(dropped))
	for _, id := range dropped {
		gone[scheduler.ID(id)] = true
		delete(p.occupied, id)
	}
	nodes := map[uint32]bool{}
	for _, d := range e.parts {
		for i := range d.plan.Place {
			if pl := &d.plan.Place[i]; gone[pl.ID] {
				d.dropped = true
				nodes[pl.Node] = true
				p.view.Release(pl.Node, scheduler.UsageOf(d.job.Group(pl.Group), pl.Ports))
			}
		}
	}
	for ordinal := range nodes {
		if n := snap.NodeByOrdinal(ordinal); n != nil {
			p.view.PutNode(n)
		} else {
			p.view.RemoveNode(ordinal)
		}
	}
}
