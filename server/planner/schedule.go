package planner

import (
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/scheduler"
	"github.com/brumehq/brume/server/state"
)

// schedule looks at one job and adds what is decided to the open entries.
func (p *Planner) schedule(w *jobWork) {
	snap := p.cfg.Store.Snapshot()
	eval, twins := w.take(snap)
	if eval == nil {
		p.queue.done(w)
		return
	}
	req := scheduler.Request{
		Eval: eval, Job: snap.Job(w.name.Namespace, w.name.ID), Allocs: allocsOf(snap, w.name), Now: time.Now(),
	}
	if w.blocked != nil && w.blocked.ID != eval.ID {
		req.Blocked = w.blocked
	}
	rand.Read(req.Seed[:])
	plan := scheduler.Schedule(p.view, req)
	shorten(plan.Eval)
	if plan.Blocked != nil {
		shorten(plan.Blocked)
	}
	if eval.Status == api.EvalStatusBlocked && plan.Eval.Status == api.EvalStatusBlocked && plan.Empty() {
		if quiet := p.stillBlocked(eval, plan.Eval, req.Now); quiet {
			p.queue.done(w)
			return
		}
	}
	plan.Eval.SnapshotIndex = snap.Index()
	var evals []*api.Evaluation
	for _, t := range twins { // before plan.Eval, whose numbers are to stay
		evals = append(evals, twin(t, plan.Eval))
	}
	evals = append(append(evals, plan.Eval), plan.FollowUp...)
	for _, e := range []*api.Evaluation{plan.Blocked, plan.Cancelled} {
		if e != nil {
			evals = append(evals, e)
		}
	}
	p.write(&planned{work: w, job: req.Job, plan: plan, twins: twins, changes: p.changes}, evals)
}

// shorten keeps an evaluation far below what an entry holds: of an explanation that is too long the first groups stay, and
// a list of too many classes becomes "any".
func shorten(e *api.Evaluation) {
	size := e.Msgsize()
	if size <= maxBytes/2 {
		return
	}
	if len(e.ClassEligibility) > 0 {
		e.ClassEligibility, e.EscapedComputedClass = nil, true
		size = e.Msgsize()
	}
	groups := slices.Sorted(maps.Keys(e.FailedTGAllocs))
	short := maps.Clone(e.FailedTGAllocs)
	for size > maxBytes/2 && len(groups) > 1 {
		last := groups[len(groups)-1]
		size -= len(last) + short[last].Msgsize()
		delete(short, last)
		groups = groups[:len(groups)-1]
	}
	e.FailedTGAllocs = short
}

// stillBlocked reports whether an evaluation that was tried again and found no room is not worth an entry: its explanation
// is as it was, or so fresh that it may be wrong for a moment; then it is looked at once more.
func (p *Planner) stillBlocked(was, is *api.Evaluation, now time.Time) bool {
	if sameExplanation(was, is) {
		return true
	}
	next := time.Unix(0, was.ModifyTime).Add(explainEvery)
	if !next.After(now) {
		return false
	}
	p.queue.look(was, next)
	return true
}

// sameExplanation reports whether two evaluations could not be placed for the same reasons, as people read them.
func sameExplanation(a, b *api.Evaluation) bool {
	return maps.EqualFunc(a.FailedTGAllocs, b.FailedTGAllocs, func(x, y *api.AllocMetric) bool {
		return x.NodesEvaluated == y.NodesEvaluated && x.CoalescedFailures == y.CoalescedFailures &&
			x.NearestMiss == y.NearestMiss && maps.Equal(x.ConstraintFiltered, y.ConstraintFiltered) &&
			maps.Equal(x.DimensionExhausted, y.DimensionExhausted)
	})
}

// take picks the evaluation to schedule: the newest one that a user waits for, else the oldest, else the blocked one; nil
// if none is open any more. The others that were ready, up to maxTwins, are its twins: what they ask for is looked at as
// well.
func (w *jobWork) take(snap *state.Snapshot) (eval *api.Evaluation, twins []*api.Evaluation) {
	w.retry = false
	ready := slices.DeleteFunc(w.ready, func(e *api.Evaluation) bool { // news of it may have come twice
		now := snap.Eval(e.ID)
		return now == nil || now.Status != api.EvalStatusPending
	})
	w.ready = nil
	if len(ready) == 0 {
		return w.blocked, nil
	}
	at := 0
	for i, e := range ready {
		if e.TriggeredBy == api.EvalTriggerJobRegister || e.TriggeredBy == api.EvalTriggerJobDeregister {
			at = i
		}
	}
	eval = ready[at]
	twins = slices.Delete(ready, at, at+1)
	if len(twins) > maxTwins {
		twins, w.ready = twins[:maxTwins], twins[maxTwins:]
	}
	return eval, twins
}

// twin is an evaluation that ended with another one of its job, and as that did; a long explanation stays with that.
func twin(e, as *api.Evaluation) *api.Evaluation {
	t := *e
	t.Status, t.StatusDescription, t.SnapshotIndex = as.Status, as.StatusDescription, as.SnapshotIndex
	t.BlockedEval = as.BlockedEval
	if as.Msgsize() <= maxBytes/(4*maxTwins) {
		t.FailedTGAllocs, t.QueuedAllocations = as.FailedTGAllocs, as.QueuedAllocations
	}
	return &t
}

// allocsOf are a job's allocations as the scheduler wants them.
func allocsOf(snap *state.Snapshot, job state.JobName) []scheduler.Alloc {
	var allocs []scheduler.Alloc
	for r := range snap.RowsOfJob(job.Namespace, job.ID) {
		if r.ClientTerminal() && r.DesiredStatus() != api.AllocDesiredRun {
			continue
		}
		allocs = append(allocs, scheduler.Alloc{
			ID: scheduler.ID(r.ID()), Group: r.Group(), Index: r.Index(), Node: r.Node(), Job: r.Job(), Ports: r.Ports(),
			DesiredStatus: r.DesiredStatus(), ClientStatus: r.ClientStatus(), Healthy: r.Healthy(),
			StopRequested: r.StopRequested(), CreateTime: r.CreateTime(), FinishedAt: r.FinishedAt(),
			FollowUp: followUpOf(snap, r), Tracker: r.Tracker(),
		})
	}
	return allocs
}

// followUpOf is the evaluation that an allocation waits for; zero once it has been decided, since it does not come again.
func followUpOf(snap *state.Snapshot, r *state.Row) scheduler.ID {
	e := snap.Eval(r.FollowupEval())
	if e == nil || e.Status != api.EvalStatusPending {
		return scheduler.ID{}
	}
	id, err := state.ParseID(e.ID)
	if err != nil {
		return scheduler.ID{} // cannot be: state takes no other ids
	}
	return scheduler.ID(id)
}

// write adds a plan to the open entries; a large one takes several, and its evaluations are in the last.
func (p *Planner) write(d *planned, evals []*api.Evaluation) {
	e := p.lastOpen()
	e.parts = append(e.parts, d)
	room := func() int { // in e, which becomes a new entry when it is full
		if e.rows >= maxRows || e.size >= maxBytes {
			e = &entry{parts: []*planned{d}}
			p.open = append(p.open, e)
		}
		return maxRows - e.rows
	}
	for stops := d.plan.Stop; len(stops) > 0; {
		n := min(room(), len(stops))
		for _, s := range stops[:n] {
			e.cmd.Stop = append(e.cmd.Stop, state.Stop{ID: state.ID(s.ID), Description: s.Description, ClientStatus: s.ClientStatus})
		}
		e.rows, stops = e.rows+n, stops[n:]
	}
	for ids := d.plan.InPlace; len(ids) > 0; {
		n := min(room(), len(ids))
		in := state.InPlace{Job: state.RefOf(d.job)}
		for _, id := range ids[:n] {
			in.IDs = append(in.IDs, state.ID(id))
		}
		e.cmd.InPlace = append(e.cmd.InPlace, in)
		e.rows, ids = e.rows+n, ids[n:]
	}
	for waits := d.plan.Wait; len(waits) > 0; {
		n := min(room(), len(waits))
		for _, w := range waits[:n] {
			e.cmd.Wait = append(e.cmd.Wait, state.Wait{ID: state.ID(w.ID), FollowUp: w.FollowUp.String()})
		}
		e.rows, waits = e.rows+n, waits[n:]
	}
	for place := d.plan.Place; len(place) > 0; {
		n := min(room(), groupRun(place))
		p.writeRows(e, d, place[:n])
		e.rows, place = e.rows+n, place[n:]
	}
	size := 0
	for _, ev := range evals {
		size += ev.Msgsize()
	}
	if e.size > 0 && e.size+size > maxBytes {
		e = &entry{parts: []*planned{d}}
		p.open = append(p.open, e)
	}
	e.cmd.Evals = append(e.cmd.Evals, evals...)
	e.size += size
	e.ends = append(e.ends, d)
}

func (e *entry) full() bool {
	return e.rows >= maxRows || len(e.cmd.Evals) >= maxEntryEvals || e.size >= maxBytes
}

// lastOpen is the entry that work is added to.
func (p *Planner) lastOpen() *entry {
	if n := len(p.open); n > 0 && !p.open[n-1].full() {
		return p.open[n-1]
	}
	p.open = append(p.open, &entry{})
	return p.open[len(p.open)-1]
}

// groupRun is how many placements at the front of rows are of one group.
func groupRun(rows []scheduler.Placement) int {
	n := 1
	for n < len(rows) && rows[n].Group == rows[0].Group {
		n++
	}
	return n
}

// writeRows adds placements of one group.
func (p *Planner) writeRows(e *entry, d *planned, rows []scheduler.Placement) {
	g := state.PlaceGroup{
		Job: state.RefOf(d.job), Group: rows[0].Group, EvalID: d.plan.Eval.ID, Rows: make([]state.Placement, len(rows)),
	}
	if gp := d.plan.Groups[g.Group]; gp != nil {
		g.Metric = gp.Metric
	}
	e.size += len(g.Group) + 100
	if g.Metric != nil {
		e.size += g.Metric.Msgsize()
	}
	for i := range rows {
		r := &rows[i]
		p.occupied[state.ID(r.ID)] = struct{}{}
		g.Rows[i] = state.Placement{
			ID: state.ID(r.ID), Index: r.Index, Node: r.Node, Ports: r.Ports, Previous: state.ID(r.Previous), Tracker: r.Tracker,
		}
	}
	e.cmd.Place = append(e.cmd.Place, g)
}
