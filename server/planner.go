package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/scheduler"
	"github.com/brumehq/brume/server/state"
)

const (
	maxRows       = 4000             // of placements and stops in one entry; more stalls small writes
	maxEntryEvals = 200              // they carry explanations of up to a few KiB
	inFlight      = 2                // entries of the planner in Raft at once
	retryFailed   = time.Minute      // until an evaluation whose plan was refused is looked at again
	explainEvery  = 10 * time.Second // between two explanations of one blocked evaluation
)

// planner is the scheduling loop of one term: it takes open evaluations by priority, lets the scheduler place them one
// after the other on its view of the nodes, and commits the plans in order. While entries commit it goes on placing, on
// the view as it will be; if one fails, all that came after it is dropped and the view is made anew from the state.
// Everything in it belongs to the goroutine of run.
type planner struct {
	h     *Hub
	inbox *inbox
	queue *queue

	view     *scheduler.View
	ordinals map[string]uint32     // of the nodes in view
	occupied map[state.ID]struct{} // allocations that view counts, so that none is given back twice
	changes  uint64                // counts what may have made room

	open   []*entry // not proposed yet, in order; work is added to the last
	flying []*entry // in Raft, in order
	waits  chan flight
	landed chan landing
}

// entry is a Raft entry of plans.
type entry struct {
	cmd   state.Plan
	rows  int
	parts []*planned // something of theirs is in it
	ends  []*planned // their last part is in it
}

// planned is one job's plan on its way into the log.
type planned struct {
	work    *jobWork
	job     *api.Job
	plan    *scheduler.Plan
	changes uint64 // planner.changes when it was made
	dropped bool   // a placement of it was, for its node or job changed
}

// flight is an entry that was proposed, or why it could not be.
type flight struct {
	proposal
	err error
}

// landing is an entry's outcome.
type landing struct {
	result any
	err    error
}

func newPlanner(h *Hub, t *term) *planner {
	return &planner{h: h, inbox: &t.news, waits: make(chan flight, inFlight), landed: make(chan landing, inFlight)}
}

// run schedules until ctx ends. Losing leadership is an error of kind api.ErrNoLeader.
func (p *planner) run(ctx context.Context) error {
	var waiter sync.WaitGroup
	defer waiter.Wait() // ends with the entries in flight, which Raft answers one way or the other
	defer close(p.waits)
	waiter.Go(p.wait)
	p.rebuild()
	for {
		p.read(p.inbox.take())
		p.fill()
		select {
		case <-ctx.Done():
			return nil
		case <-p.inbox.wake:
		case <-p.timer():
		case l := <-p.landed:
			if err := p.land(l); err != nil {
				return err
			}
		}
	}
}

// wait waits for entries in order. landed has room for all that can be in flight.
func (p *planner) wait() {
	for f := range p.waits {
		l := landing{err: f.err}
		if f.err == nil {
			_, l.result, l.err = f.proposal.wait()
		}
		p.landed <- l
	}
}

// timer fires when the next delayed evaluation is due; nil if there is none.
func (p *planner) timer() <-chan time.Time {
	due := p.queue.nextDue()
	if due.IsZero() {
		return nil
	}
	return time.After(time.Until(due))
}

// fill proposes entries until enough are in flight, and makes new ones while there are jobs to look at.
func (p *planner) fill() {
	for len(p.flying) < inFlight {
		for len(p.open) == 0 || len(p.open) == 1 && !p.open[0].full() {
			w := p.queue.next()
			if w == nil {
				break
			}
			p.schedule(w)
		}
		if len(p.open) == 0 {
			return
		}
		e := p.open[0]
		p.open = slices.Delete(p.open, 0, 1)
		p.flying = append(p.flying, e)
		pr, err := p.h.propose(e.cmd)
		p.waits <- flight{pr, err}
	}
}

// land takes the outcome of the oldest entry in flight.
func (p *planner) land(l landing) error {
	e := p.flying[0]
	p.flying = slices.Delete(p.flying, 0, 1)
	if errors.Is(l.err, api.ErrNoLeader) {
		return l.err
	}
	if l.err != nil {
		return p.abandon(e, l.err)
	}
	snap := p.h.store.Snapshot()
	out := l.result.(state.Planned)
	p.giveBack(e, out.Dropped)
	for _, s := range e.cmd.Stop {
		if s.ClientStatus != "" {
			p.release(snap, s.ID)
		}
	}
	now := time.Now()
	for _, ev := range e.cmd.Evals {
		if ev := snap.Eval(ev.ID); ev != nil {
			p.queue.put(ev, now)
		}
	}
	for _, id := range out.Requeued {
		if ev := snap.Eval(id); ev != nil {
			p.queue.put(ev, now)
		}
	}
	for _, d := range e.ends {
		if err := p.settle(snap, d); err != nil {
			return err
		}
	}
	return nil
}

// settle ends a plan whose entries are all committed.
func (p *planner) settle(snap *state.Snapshot, d *planned) error {
	d.work.retry = d.work.blocked != nil && p.changes > d.changes
	p.queue.done(d.work)
	if ev := snap.Eval(d.plan.Eval.ID); d.dropped && ev != nil && ev.Status != api.EvalStatusPending {
		// A placement of an earlier entry was dropped, and the last one has ended the evaluation since.
		again := *ev
		again.Status = api.EvalStatusPending
		_, _, err := p.h.apply(context.Background(), state.PutEvals{Evals: []*api.Evaluation{&again}})
		return err
	}
	return nil
}

// abandon handles an entry that the state refused or that could not be written: a fault of ours, for plans name only what
// the state holds. Its evaluations fail with that reason and are followed by new ones later; everything else is planned
// anew from the state.
func (p *planner) abandon(e *entry, reason error) error {
	p.h.log.Error("plan refused", "err", reason)
	var evals []*api.Evaluation
	now := time.Now()
	for _, d := range e.parts {
		failed := *d.plan.Eval
		failed.Status, failed.StatusDescription = api.EvalStatusFailed, "plan refused: "+reason.Error()
		next := followUp(&failed, now.Add(retryFailed))
		failed.NextEval = next.ID
		evals = append(evals, &failed, next)
	}
	for range p.flying {
		if l := <-p.landed; errors.Is(l.err, api.ErrNoLeader) {
			return l.err
		}
	}
	if _, _, err := p.h.apply(context.Background(), state.PutEvals{Evals: evals}); err != nil {
		return err
	}
	p.rebuild()
	return nil
}

// followUp is a new evaluation of the same job that waits until a time.
func followUp(e *api.Evaluation, until time.Time) *api.Evaluation {
	return &api.Evaluation{
		ID: uuid.NewString(), Namespace: e.Namespace, JobID: e.JobID, Type: e.Type, Priority: e.Priority,
		JobModifyIndex: e.JobModifyIndex, TriggeredBy: api.EvalTriggerScheduled, Status: api.EvalStatusPending,
		WaitUntil: until, PreviousEval: e.ID,
	}
}
