package planner

import (
	"context"
	"errors"
	"log/slog"
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
	maxEntryEvals = 200              // evaluations in one entry
	maxBytes      = 512 << 10        // of evaluations and explanations in one entry, roughly: half of it a single one's
	maxTwins      = 16               // evaluations that end with another one of their job; more wait for the next look
	inFlight      = 2                // entries of the planner in Raft at once
	retryFailed   = time.Minute      // until an evaluation whose plan was refused is looked at again
	explainEvery  = 10 * time.Second // between two explanations of one blocked evaluation
)

// Planner is the scheduling loop of one term: it takes open evaluations by priority, lets the scheduler place them one
// after the other on its view of the nodes, and commits the plans in order. While entries commit it goes on placing, on
// the view as it will be; if one fails, all that came after it is dropped and the view is made anew from the state.
// Everything in it but the inbox belongs to the goroutine of Run.
type Planner struct {
	cfg   Config
	inbox inbox
	queue *queue

	view     *scheduler.View
	ordinals map[string]uint32     // of the nodes in view
	occupied map[state.ID]struct{} // allocations that view counts, so that none is given back twice
	changes  uint64                // counts what may have made room

	open    []*entry // not proposed yet, in order; work is added to the last
	flying  []*entry // in Raft, in order
	refused bool     // the last of flying could not be proposed: what was to follow it must not be
	waits   chan flight
	landed  chan landing
}

// entry is a Raft entry of plans.
type entry struct {
	cmd   state.Plan
	rows  int
	size  int        // bytes of evaluations and explanations, roughly
	parts []*planned // something of theirs is in it
	ends  []*planned // their last part is in it
}

// Config is what a planner works with.
type Config struct {
	Store *state.Store
	// Propose gives a command to Raft; commands are applied in the order of its calls. Its errors, and those of the Wait
	// that it returns, are api.ErrNoLeader when the term is over, else why the command was refused.
	Propose func(state.Command) (Wait, error)
	Log     *slog.Logger
}

// Wait waits until the state has a command, and returns what the state says of it.
type Wait func() (result any, err error)

// planned is one job's plan on its way into the log.
type planned struct {
	work    *jobWork
	job     *api.Job
	plan    *scheduler.Plan
	twins   []*api.Evaluation // end with plan.Eval
	changes uint64            // Planner.changes when it was made
	dropped bool              // a placement of it was, for its node or job changed
}

// flight is an entry that was proposed, or why it could not be.
type flight struct {
	wait Wait
	err  error
}

// landing is an entry's outcome.
type landing struct {
	result any
	err    error
}

// New makes the planner of a term; it takes news from then on.
func New(cfg Config) *Planner {
	return &Planner{
		cfg: cfg, inbox: inbox{wake: make(chan struct{}, 1)},
		waits: make(chan flight, inFlight), landed: make(chan landing, inFlight),
	}
}

// Run schedules until ctx ends, from the state as it is: what it holds must be all that was committed before. Losing
// leadership is an error of kind api.ErrNoLeader.
func (p *Planner) Run(ctx context.Context) error {
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
func (p *Planner) wait() {
	for f := range p.waits {
		l := landing{err: f.err}
		if f.err == nil {
			l.result, l.err = f.wait()
		}
		p.landed <- l
	}
}

// timer fires when the next delayed evaluation is due; nil if there is none.
func (p *Planner) timer() <-chan time.Time {
	due := p.queue.nextDue()
	if due.IsZero() {
		return nil
	}
	return time.After(time.Until(due))
}

// fill proposes entries until enough are in flight, and makes new ones while there are jobs to look at.
func (p *Planner) fill() {
	for len(p.flying) < inFlight && !p.refused {
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
		wait, err := p.cfg.Propose(e.cmd)
		p.refused = err != nil
		p.waits <- flight{wait, err}
	}
}

// land takes the outcome of the oldest entry in flight.
func (p *Planner) land(l landing) error {
	e := p.flying[0]
	p.flying = slices.Delete(p.flying, 0, 1)
	if errors.Is(l.err, api.ErrNoLeader) {
		return l.err
	}
	if l.err != nil {
		return p.abandon(e, l.err)
	}
	snap := p.cfg.Store.Snapshot()
	out := l.result.(state.Planned)
	p.giveBack(snap, e, out.Dropped)
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
func (p *Planner) settle(snap *state.Snapshot, d *planned) error {
	d.work.retry = d.work.blocked != nil && p.changes > d.changes
	p.queue.done(d.work)
	if ev := snap.Eval(d.plan.Eval.ID); d.dropped && ev != nil && ev.Status != api.EvalStatusPending {
		// A placement of an earlier entry was dropped, and the last one has ended the evaluation since.
		again := *ev
		again.Status = api.EvalStatusPending
		return p.putEvals(&again)
	}
	return nil
}

// abandon handles an entry that the state refused or that could not be written: a fault of ours, for plans name only what
// the state holds. Its evaluations fail with that reason and are followed by new ones later; everything else is planned
// anew from the state.
func (p *Planner) abandon(e *entry, reason error) error {
	p.cfg.Log.Error("plan refused", "err", reason)
	var evals []*api.Evaluation
	now := time.Now()
	for _, d := range e.parts {
		failed := fail(d.plan.Eval, reason)
		next := followUp(failed, now.Add(retryFailed))
		failed.NextEval = next.ID
		evals = append(evals, failed, next)
		for _, t := range d.twins {
			evals = append(evals, fail(t, reason))
		}
	}
	for range p.flying {
		if l := <-p.landed; errors.Is(l.err, api.ErrNoLeader) {
			return l.err
		}
	}
	if err := p.putEvals(evals...); err != nil {
		return err
	}
	p.rebuild()
	return nil
}

// fail is a failed evaluation. It carries no explanation: that may be what the entry was refused for.
func fail(e *api.Evaluation, reason error) *api.Evaluation {
	failed := *e
	failed.Status, failed.StatusDescription = api.EvalStatusFailed, "plan refused: "+reason.Error()
	failed.FailedTGAllocs, failed.QueuedAllocations, failed.ClassEligibility = nil, nil, nil
	return &failed
}

// putEvals commits evaluations and takes them up.
func (p *Planner) putEvals(evals ...*api.Evaluation) error {
	cmd := state.PutEvals{Evals: evals}
	wait, err := p.cfg.Propose(cmd)
	if err == nil {
		_, err = wait()
	}
	if err == nil {
		p.Committed(cmd, nil)
	}
	return err
}

// followUp is a new evaluation of the same job that waits until a time.
func followUp(e *api.Evaluation, until time.Time) *api.Evaluation {
	return &api.Evaluation{
		ID: uuid.NewString(), Namespace: e.Namespace, JobID: e.JobID, Type: e.Type, Priority: e.Priority,
		JobModifyIndex: e.JobModifyIndex, TriggeredBy: api.EvalTriggerScheduled, Status: api.EvalStatusPending,
		WaitUntil: until, PreviousEval: e.ID,
	}
}
