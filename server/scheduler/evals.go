package scheduler

import (
	"slices"

	"github.com/brumehq/brume/api"
)

// followUp plans evaluations for the ends of the back-offs that begin now. Those that end close together share one.
func (p *pass) followUp(groups []*group) {
	var begun []held
	for _, g := range groups {
		for _, h := range g.held {
			if h.until.IsZero() {
				continue
			}
			g.plan.RescheduleLater++
			if h.FollowUp == (ID{}) {
				begun = append(begun, h)
			}
		}
	}
	slices.SortStableFunc(begun, func(a, b held) int { return a.until.Compare(b.until) })
	for len(begun) > 0 {
		n := 1
		for n < len(begun) && begun[n].until.Sub(begun[0].until) <= followUpWindow {
			n++
		}
		id := p.src.id()
		e := p.evaluation(id, api.EvalTriggerRetryFailedAlloc, api.EvalStatusPending)
		e.WaitUntil = begun[n-1].until
		p.plan.FollowUp = append(p.plan.FollowUp, e)
		for _, h := range begun[:n] {
			p.plan.Wait = append(p.plan.Wait, Wait{ID: h.ID, FollowUp: id})
		}
		begun = begun[n:]
	}
}

// evaluation makes a new evaluation of the same job.
func (p *pass) evaluation(id ID, trigger, status string) *api.Evaluation {
	now := p.req.Now.UnixNano()
	return &api.Evaluation{
		ID:             id.String(),
		Namespace:      p.req.Eval.Namespace,
		JobID:          p.req.Eval.JobID,
		Type:           p.req.Eval.Type,
		Priority:       p.req.Eval.Priority,
		JobModifyIndex: p.job.JobModifyIndex,
		TriggeredBy:    trigger,
		Status:         status,
		PreviousEval:   p.req.Eval.ID,
		CreateTime:     now,
		ModifyTime:     now,
	}
}

// finish writes the evaluations' part of the plan: how this one ends, and which one waits for capacity.
func (p *pass) finish(status, description string) {
	now := p.req.Now.UnixNano()
	e := *p.req.Eval
	e.Status, e.StatusDescription, e.ModifyTime = status, description, now
	e.FailedTGAllocs, e.ClassEligibility, e.EscapedComputedClass, e.BlockedEval = nil, nil, false, ""
	e.QueuedAllocations = map[string]int{}
	for name, g := range p.plan.Groups {
		e.QueuedAllocations[name] = g.Queued
		if g.Failed != nil {
			if e.FailedTGAllocs == nil {
				e.FailedTGAllocs = map[string]*api.AllocMetric{}
			}
			e.FailedTGAllocs[name] = g.Failed
		}
	}
	if len(p.plan.FollowUp) > 0 {
		e.NextEval = p.plan.FollowUp[0].ID
	}
	p.plan.Eval = &e
	switch blocked := p.req.Blocked; {
	case len(p.failed) > 0:
		p.block()
	case blocked != nil:
		cancelled := *blocked
		cancelled.Status, cancelled.ModifyTime = api.EvalStatusCanceled, now
		cancelled.StatusDescription = "evaluation " + e.ID + " placed what it waited for"
		if p.job == nil || p.job.Stop {
			cancelled.StatusDescription = "the job is stopped"
		}
		p.plan.Cancelled = &cancelled
	}
}

// block leaves exactly one evaluation of the job blocked: the one there is, this one if it was blocked before, or a new
// one.
func (p *pass) block() {
	e := p.plan.Eval
	var b *api.Evaluation
	switch {
	case p.req.Blocked != nil:
		known := *p.req.Blocked
		b = &known
	case e.TriggeredBy == api.EvalTriggerQueuedAllocs:
		b = e
	default:
		b = p.evaluation(p.src.id(), api.EvalTriggerQueuedAllocs, api.EvalStatusBlocked)
	}
	b.Status, b.ModifyTime = api.EvalStatusBlocked, p.req.Now.UnixNano()
	b.StatusDescription = "waits for capacity"
	b.JobModifyIndex = p.job.JobModifyIndex
	b.FailedTGAllocs, b.QueuedAllocations = e.FailedTGAllocs, e.QueuedAllocations
	b.ClassEligibility, b.EscapedComputedClass = p.eligibility()
	if b != e {
		e.BlockedEval = b.ID
		p.plan.Blocked = b
	}
}

// eligibility says of each class of nodes whether one of the groups that could not be placed may run there, and whether
// the class does not tell.
func (p *pass) eligibility() (map[string]bool, bool) {
	classes := map[string]bool{}
	escaped := false
	decided := make([]bool, len(p.v.classes.names))
	for i, n := range p.v.nodes {
		if n == nil || decided[p.v.class[i]] {
			continue
		}
		c := p.v.class[i]
		decided[c] = true
		classes[p.v.classes.names[c]] = slices.ContainsFunc(p.failed, func(rs *ruleset) bool {
			return firstBroken(rs.class, n) < 0
		})
	}
	for _, rs := range p.failed {
		escaped = escaped || rs.escaped
	}
	return classes, escaped
}
