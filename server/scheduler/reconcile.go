package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/brumehq/brume/api"
)

// Why allocations are stopped, as users read it.
const (
	whyJobStopped = "the job is stopped"
	whyNoGroup    = "the group is no longer in the job"
	whyCount      = "not needed any more: the group's count is lower"
	whyDuplicate  = "another allocation has its name"
	whyUser       = "stopped by a user"
	whyFailed     = "it failed and is replaced"
	whyLost       = "it was lost"
)

// reconcile compares what the job wants with its allocations, group by group: it plans stops and in-place updates, and
// leaves in each group what is to be placed.
func (p *pass) reconcile() []*group {
	groups := p.groups()
	for _, g := range groups {
		switch {
		case p.stopped():
			p.stopAll(g, whyJobStopped)
		case g.def == nil:
			p.stopAll(g, whyNoGroup)
		default:
			r := reconciler{p: p, g: g, changes: map[*api.Job]api.Change{}}
			r.run()
		}
	}
	return groups
}

// stopAll stops what runs, and what failed with it, so that nothing of the past counts if the group comes back. Finished
// batch allocations stay finished.
func (p *pass) stopAll(g *group, why string) {
	for _, a := range g.allocs {
		switch {
		case a.DesiredStatus != api.AllocDesiredRun:
			p.loseLeaving(g, a)
		case a.ClientStatus != api.AllocClientComplete:
			p.stop(g, a, why)
			g.plan.Stop++
		}
	}
}

// loseLeaving ends an allocation that is stopping on a node that will not report it.
func (p *pass) loseLeaving(g *group, a *Alloc) {
	if gone := p.gone(a); gone != "" && !a.terminal() {
		p.stop(g, a, gone)
	}
}

// reconciler compares one group of the job with its allocations. Each allocation that counts is in one of its lists or
// among the group's replacements.
type reconciler struct {
	p *pass
	g *group

	live  []*Alloc // running or about to
	held  []held   // failed, and not to be replaced now
	ended []*Alloc // finished batch allocations

	changes map[*api.Job]api.Change // what the present version means for allocations of an older one
}

func (r *reconciler) run() {
	for _, a := range r.g.allocs {
		r.classify(a)
	}
	r.dropDuplicates()
	r.dropExcess()
	r.update()
	r.nameNew()
}

// classify puts an allocation into its list.
func (r *reconciler) classify(a *Alloc) {
	gone := r.p.gone(a)
	switch {
	case a.DesiredStatus != api.AllocDesiredRun:
		r.p.loseLeaving(r.g, a)
	case a.ClientStatus == api.AllocClientComplete && r.p.batch():
		if r.outdated(a) {
			r.again(want{prev: a, stop: r.p.replaced()})
		} else {
			r.ended = append(r.ended, a)
		}
	case a.StopRequested:
		r.again(want{prev: a, stop: whyUser})
	case a.ClientStatus == api.AllocClientLost:
		r.again(want{prev: a, stop: whyLost, tracker: a.Tracker})
	case a.terminal():
		r.classifyFailed(a)
	case gone != "":
		r.again(want{prev: a, stop: gone, tracker: a.Tracker})
	default:
		r.live = append(r.live, a)
	}
}

func (r *reconciler) again(w want) { r.g.replace = append(r.g.replace, w) }

// classifyFailed decides on an allocation that failed, or a service that ended by itself: replace it now, later or never.
// A version that changes what runs does not wait for the back-off of the one before.
func (r *reconciler) classifyFailed(a *Alloc) {
	if r.outdated(a) {
		r.again(want{prev: a, stop: r.p.replaced()})
		return
	}
	now, policy := r.p.req.Now, r.g.def.ReschedulePolicy
	failed := a.failedAt(now)
	delay, ok := backOff(policy, a, failed)
	switch until := failed.Add(delay); {
	case !ok:
		r.held = append(r.held, held{Alloc: a})
	case until.After(now) && (a.FollowUp == ID{} || a.FollowUp.String() != r.p.req.Eval.ID):
		r.held = append(r.held, held{Alloc: a, until: until})
	default:
		t := tracked(policy, a, r.p.v.Node(a.Node), delay, now)
		r.again(want{prev: a, stop: whyFailed, avoid: true, tracker: t})
	}
}

// present reports whether a runs the job's present version.
func (r *reconciler) present(a *Alloc) bool {
	return a.Job.Version == r.p.job.Version && a.Job.CreateIndex == r.p.job.CreateIndex
}

// change says what the job's present version means for a.
func (r *reconciler) change(a *Alloc) api.Change {
	if r.present(a) {
		return api.ChangeNone
	}
	c, ok := r.changes[a.Job]
	if !ok {
		c = api.GroupChange(a.Job, r.p.job, r.g.name)
		r.changes[a.Job] = c
	}
	return c
}

// outdated reports whether what became of a says nothing of the present version: something else ran, or it belongs to a
// purged job of the same name.
func (r *reconciler) outdated(a *Alloc) bool {
	return a.Job.CreateIndex != r.p.job.CreateIndex || r.change(a) == api.ChangeDestructive
}

func (p *pass) replaced() string {
	return fmt.Sprintf("replaced by version %d of the job", p.job.Version)
}

// drop stops an allocation that is not wanted beside the others.
func (r *reconciler) drop(a *Alloc, why string) {
	r.p.stop(r.g, a, why)
	r.g.plan.Stop++
}

// dropDuplicates leaves one allocation of each name: a finished one, else the best that runs, else one that failed.
func (r *reconciler) dropDuplicates() {
	owned := map[int]bool{}
	for _, a := range r.ended {
		owned[a.Index] = true
	}
	first := func(a *Alloc) bool {
		if owned[a.Index] {
			r.drop(a, whyDuplicate)
			return false
		}
		owned[a.Index] = true
		return true
	}
	slices.SortFunc(r.live, r.compareWorth)
	r.live = filter(r.live, first)
	slices.SortFunc(r.live, compareAllocs)
	r.held = filter(r.held, func(h held) bool { return first(h.Alloc) })
	r.g.replace = filter(r.g.replace, func(w want) bool { return first(w.prev) })
}

// compareWorth puts first, of two allocations with one name, the one that is rather kept.
func (r *reconciler) compareWorth(a, b *Alloc) int {
	return cmp.Or(
		cmp.Compare(a.Index, b.Index),
		-compareBool(r.present(a), r.present(b)),
		-compareBool(healthy(a), healthy(b)),
		-compareBool(a.ClientStatus == api.AllocClientRunning, b.ClientStatus == api.AllocClientRunning),
		compareAllocs(a, b),
	)
}

// dropExcess stops what the count has no room for. A service stops what does not run, then what is unhealthy, then the
// highest names; instances of a batch job are not alike, so it stops the names that are beyond its count.
func (r *reconciler) dropExcess() {
	count := r.g.def.Count
	if r.p.batch() {
		within := func(a *Alloc) bool {
			if a.Index >= count {
				r.drop(a, whyCount)
			}
			return a.Index < count
		}
		r.live = filter(r.live, within)
		r.held = filter(r.held, func(h held) bool { return within(h.Alloc) })
		r.g.replace = filter(r.g.replace, func(w want) bool { return within(w.prev) })
		return
	}
	excess := len(r.live) + len(r.held) + len(r.g.replace) - count
	for ; excess > 0 && len(r.g.replace) > 0; excess-- {
		last := len(r.g.replace) - 1
		r.drop(r.g.replace[last].prev, whyCount)
		r.g.replace = r.g.replace[:last]
	}
	for ; excess > 0 && len(r.held) > 0; excess-- {
		last := len(r.held) - 1
		r.drop(r.held[last].Alloc, whyCount)
		r.held = r.held[:last]
	}
	if excess <= 0 {
		return
	}
	slices.SortFunc(r.live, func(a, b *Alloc) int {
		return cmp.Or(compareBool(unhealthy(a), unhealthy(b)), compareAllocs(a, b))
	})
	keep := len(r.live) - excess
	for _, a := range r.live[keep:] {
		r.drop(a, whyCount)
	}
	r.live = r.live[:keep]
	slices.SortFunc(r.live, compareAllocs)
}

// update sorts what runs into what is of the present version, what becomes so in place, and what must be replaced. A
// change in place must find the node still allowed, else it is a replacement too.
func (r *reconciler) update() {
	var rules *ruleset
	for _, a := range r.live {
		change := r.change(a)
		if change != api.ChangeDestructive && !r.present(a) {
			if rules == nil {
				rules = rulesOf(r.p.job, r.g.def)
			}
			if !rules.feasible(r.p.v.Node(a.Node)) {
				change = api.ChangeDestructive
			}
		}
		switch {
		case change == api.ChangeDestructive:
			r.g.outdated = append(r.g.outdated, a)
			continue
		case r.present(a):
			r.g.plan.Ignore++
		default:
			r.p.plan.InPlace = append(r.p.plan.InPlace, a.ID)
			r.g.plan.InPlace++
		}
		if !healthy(a) {
			r.g.unsettled++
		}
	}
	r.g.unsettled += len(r.held) // what failed of an older version is replaced, not held
	r.g.plan.Ignore += len(r.held) + len(r.ended)
	r.g.kept, r.g.held = r.live, r.held
	slices.SortStableFunc(r.g.outdated, func(a, b *Alloc) int { return -compareBool(unhealthy(a), unhealthy(b)) })
}

// nameNew gives every replacement a name, its predecessor's where that is within the count, and lists the lowest free
// names for what is missing. What still runs is stopped here, whether or not its replacement finds a place.
func (r *reconciler) nameNew() {
	count := r.g.def.Count
	taken := make([]bool, count)
	take := func(a *Alloc) {
		if a.Index < count {
			taken[a.Index] = true
		}
	}
	for _, a := range r.live {
		take(a)
	}
	for _, h := range r.held {
		take(h.Alloc)
	}
	for _, a := range r.ended {
		take(a)
	}
	for i := range r.g.replace {
		w := &r.g.replace[i]
		w.index = w.prev.Index
		take(w.prev)
		if !w.prev.terminal() {
			r.p.stop(r.g, w.prev, w.stop)
			w.stop = ""
		}
	}
	missing := count
	if !r.p.batch() {
		missing = count - len(r.live) - len(r.held) - len(r.g.replace)
	}
	free := 0
	nextFree := func() int {
		for free < count && taken[free] {
			free++
		}
		free++
		return free - 1
	}
	for i := range r.g.replace {
		if w := &r.g.replace[i]; w.index >= count {
			w.index = nextFree()
		}
	}
	r.g.fresh = make([]int, 0, max(missing, 0))
	for range missing {
		index := nextFree()
		if index >= count {
			break
		}
		r.g.fresh = append(r.g.fresh, index)
	}
}

func healthy(a *Alloc) bool { return a.Healthy != nil && *a.Healthy }

func unhealthy(a *Alloc) bool { return a.Healthy != nil && !*a.Healthy }

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// filter returns the elements of s, in order, for which ok is true; it uses the memory of s.
func filter[T any](s []T, ok func(T) bool) []T {
	return slices.DeleteFunc(s, func(e T) bool { return !ok(e) })
}
