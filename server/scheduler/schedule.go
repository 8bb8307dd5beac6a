package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/brumehq/brume/api"
)

// Schedule decides what req changes and, unless it is a dry run, occupies v with the placements.
func Schedule(v *View, req Request) *Plan {
	p := &pass{v: v, req: &req, job: req.Job, src: newSource(req.Seed), plan: &Plan{Groups: map[string]*GroupPlan{}}}
	p.tie = p.src.uint32()
	if reason := p.refusal(); reason != "" {
		p.finish(api.EvalStatusFailed, reason)
		return p.plan
	}
	groups := p.reconcile()
	p.followUp(groups)
	p.fill(groups)
	p.finish(api.EvalStatusComplete, "")
	if req.DryRun {
		p.undo()
	}
	return p.plan
}

// pass is one call of Schedule.
type pass struct {
	v    *View
	req  *Request
	job  *api.Job // nil if it is gone
	plan *Plan
	src  *source
	tie  uint32 // decides between nodes of equal score

	failed []*ruleset // of the groups of which something could not be placed
}

// held is an allocation that failed, and when it may be replaced; the zero time: never.
type held struct {
	*Alloc
	until time.Time
}

// group is what is known and decided of one group while a plan is made.
type group struct {
	name   string
	def    *api.Group // nil: the job has no such group any more
	plan   *GroupPlan
	allocs []*Alloc // in the order of compareAllocs

	kept     []*Alloc // stay where they are, those of an older version until it is their turn included
	outdated []*Alloc // of those: to be stopped and replaced, in that order
	held     []held   // failed, and not to be replaced now
	replace  []want   // replacements of what failed, was lost or stopped
	fresh    []int    // indexes of further new allocations

	// unsettled counts allocations of the present version that are not healthy: an update in progress.
	unsettled int
}

// want is a replacement to be placed.
type want struct {
	index   int
	prev    *Alloc
	tracker *api.RescheduleTracker
	avoid   bool   // prev failed: rather not on its node again
	stop    string // why prev is to be stopped once it is replaced; "": it is not, or is already
}

// refusal says why the evaluation cannot be worked on; "" if it can.
func (p *pass) refusal() string {
	if p.job == nil {
		return ""
	}
	switch p.job.Type {
	case "", api.JobTypeService, api.JobTypeBatch:
		return ""
	}
	return "jobs of type " + p.job.Type + " are not supported yet"
}

func (p *pass) stopped() bool { return p.job == nil || p.job.Stop }

func (p *pass) batch() bool { return p.job.Type == api.JobTypeBatch }

// groups sorts the job's allocations by group: those of the job in its order, then those that only allocations know.
func (p *pass) groups() []*group {
	byName := map[string]*group{}
	var all []*group
	add := func(name string, def *api.Group) *group {
		g := &group{name: name, def: def, plan: &GroupPlan{}}
		byName[name] = g
		all = append(all, g)
		p.plan.Groups[name] = g.plan
		return g
	}
	if !p.stopped() {
		for _, def := range p.job.TaskGroups {
			add(def.Name, def)
		}
	}
	known := len(all)
	for i := range p.req.Allocs {
		a := &p.req.Allocs[i]
		g := byName[a.Group]
		if g == nil {
			g = add(a.Group, nil)
		}
		g.allocs = append(g.allocs, a)
	}
	slices.SortFunc(all[known:], func(a, b *group) int { return strings.Compare(a.name, b.name) })
	for _, g := range all {
		if !slices.IsSortedFunc(g.allocs, compareAllocs) {
			slices.SortFunc(g.allocs, compareAllocs)
		}
	}
	return all
}

func compareAllocs(a, b *Alloc) int {
	return cmp.Or(
		cmp.Compare(a.Index, b.Index),
		cmp.Compare(a.CreateTime, b.CreateTime),
		slices.Compare(a.ID[:], b.ID[:]),
	)
}

// stop plans to stop a. A node that is gone cannot report it, so the plan calls it lost.
func (p *pass) stop(g *group, a *Alloc, why string) {
	s := Stop{ID: a.ID, Description: why}
	if !a.terminal() {
		if gone := p.gone(a); gone != "" {
			s.ClientStatus = api.AllocClientLost
			g.plan.Lost++
		}
	}
	p.plan.Stop = append(p.plan.Stop, s)
}

// gone says why nothing runs on a's node any more as far as the hubs know; "" if its node is there.
func (p *pass) gone(a *Alloc) string {
	n := p.v.Node(a.Node)
	switch {
	case n == nil:
		return "its node is gone"
	case n.Status == api.NodeStatusDown, n.Status == api.NodeStatusDisconnected:
		return "its node is " + n.Status
	}
	return ""
}

// undo gives back what the plan's placements occupy.
func (p *pass) undo() {
	usage := map[string]Usage{}
	for i := range p.plan.Place {
		place := &p.plan.Place[i]
		u, ok := usage[place.Group]
		if !ok {
			u = UsageOf(p.job.Group(place.Group), nil)
			usage[place.Group] = u
		}
		u.Ports = place.Ports
		p.v.Release(place.Node, u)
	}
}
