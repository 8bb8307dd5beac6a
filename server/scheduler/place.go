package scheduler

import (
	"slices"

	"github.com/brumehq/brume/api"
)

// scratch is memory that one call of Schedule leaves to the next.
type scratch struct {
	verdict []int32 // by class: see placer.classVerdict
	onJob   []int32 // by slot: allocations of the job that stay
	onGroup []int32 // by slot: of the group
	heap    []candidate
}

// zeroed returns s with n zero elements.
func zeroed[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// candidate is a node that has room for one more allocation of the group.
type candidate struct {
	score float64
	tie   uint32
	slot  int32
}

func (c candidate) better(d candidate) bool {
	return c.score > d.score || c.score == d.score && c.tie < d.tie
}

// placer places the allocations of one group. All its nodes are scored once, into a heap; a placement changes one node
// only, so the heap is always as good as scoring all of them again. What also depends on other nodes, distinct_property,
// can only lose nodes by a placement, and is asked again when a node comes to the top.
type placer struct {
	*pass
	g     *group
	rules *ruleset

	ask     amounts
	ports   []api.Port
	dynamic int // how many of ports come from the node's range

	metric *api.AllocMetric // of the last survey
	share  float64          // allocations per node if the group were spread evenly over the nodes that may run it
	values []valueCounts
	memory []uint16 // where placements' ports come from
}

// valueCounts counts, for one distinct_property rule, the allocations by value.
type valueCounts map[string]int

// fill places what the groups lack, in the job's order.
func (p *pass) fill(groups []*group) {
	p.v.scratch.onJob = zeroed(p.v.scratch.onJob, len(p.v.nodes))
	for _, g := range groups {
		for _, a := range g.kept {
			p.v.scratch.onJob[p.v.slots[a.Node]]++
		}
	}
	for _, g := range groups {
		if len(g.replace)+len(g.fresh)+len(g.outdated) > 0 {
			pl := p.newPlacer(g, groups)
			pl.fillMissing()
			pl.fillOutdated()
		}
	}
}

func (p *pass) newPlacer(g *group, groups []*group) *placer {
	u := UsageOf(g.def, nil)
	pl := &placer{pass: p, g: g, rules: rulesOf(p.job, g.def), ask: u.amounts(), ports: PortAsks(g.def)}
	for _, port := range pl.ports {
		if port.Value == 0 {
			pl.dynamic++
		}
	}
	s := &p.v.scratch
	s.verdict = zeroed(s.verdict, len(p.v.classes.names))
	s.onGroup = zeroed(s.onGroup, len(p.v.nodes))
	for _, a := range g.kept {
		s.onGroup[p.v.slots[a.Node]]++
	}
	pl.countValues(groups)
	return pl
}

// fillMissing places replacements and new allocations.
func (p *placer) fillMissing() {
	wanted := len(p.g.replace) + len(p.g.fresh)
	p.g.plan.Place = wanted
	if wanted == 0 {
		return
	}
	p.survey()
	p.plan.Place = slices.Grow(p.plan.Place, wanted)
	placed := 0
	for _, w := range p.g.replace {
		if w.avoid {
			p.g.plan.RescheduleNow++
		}
		if !p.place(w) {
			break
		}
		placed++
		if w.stop != "" {
			p.stop(p.g, w.prev, w.stop)
		}
	}
	if placed == len(p.g.replace) {
		for _, index := range p.g.fresh {
			if !p.place(want{index: index}) {
				break
			}
			placed++
		}
	}
	if placed < wanted {
		p.fail(wanted - placed)
	}
}

// fillOutdated stops allocations of older versions and places their replacements, no more at a time than the group's
// update block allows: whatever of the present version is missing or not healthy counts as under way.
func (p *placer) fillOutdated() {
	batch := p.g.outdated
	if u := p.g.def.Update; u != nil && u.MaxParallel > 0 && !p.batch() {
		underWay := p.g.unsettled + p.g.plan.Place
		batch = batch[:min(len(batch), max(0, u.MaxParallel-underWay))]
	}
	p.g.plan.Remaining = len(p.g.outdated) - len(batch)
	if len(batch) == 0 {
		return
	}
	for _, a := range batch {
		p.leave(a)
	}
	p.survey()
	placed := 0
	for placed < len(batch) && p.place(want{index: batch[placed].Index, prev: batch[placed]}) {
		placed++
	}
	stopped := batch[:placed:placed]
	if placed < len(batch) {
		p.fail(len(batch) - placed)
		stopped = append(stopped, p.vacate(batch[placed:])...)
	}
	why := p.replaced()
	gone := make(map[*Alloc]bool, len(stopped))
	for _, a := range stopped {
		p.stop(p.g, a, why)
		gone[a] = true
	}
	p.g.plan.Destructive = len(stopped)
	p.g.plan.Remaining += len(batch) - len(stopped)
	p.g.kept = filter(p.g.kept, func(a *Alloc) bool { return !gone[a] })
}

// vacate returns those of older versions, whose replacements found no place, that are stopped all the same: their end makes
// the room, and the replacement follows when the node reports it. The others go on, for stopping them would gain nothing.
func (p *placer) vacate(rest []*Alloc) []*Alloc {
	var stopped []*Alloc
	for _, a := range rest {
		i := p.v.slots[a.Node]
		if p.obstacle(i).distinct() || p.makesRoom(a, i) {
			stopped = append(stopped, a)
		} else {
			p.enter(i)
		}
	}
	return stopped
}

// makesRoom reports whether the replacement of a fits on a's node, in slot i, once a is gone.
func (p *placer) makesRoom(a *Alloc, i int32) bool {
	n := p.v.nodes[i]
	if closed(n) != "" || !p.rules.feasible(n) {
		return false
	}
	def := a.Job.Group(a.Group)
	if def == nil {
		return false
	}
	u := UsageOf(def, a.Ports)
	p.v.release(i, u.amounts(), u.Ports)
	left := p.obstacle(i)
	p.v.occupy(i, u.amounts(), u.Ports)
	return left.kind == fits
}

// place puts w on the best node that has room; false: there is none.
func (p *placer) place(w want) bool {
	avoid := noSlot
	if w.avoid {
		if i, ok := p.v.slots[w.prev.Node]; ok {
			avoid = i
		}
	}
	aside, ok := p.pick(avoid)
	if !ok {
		return false
	}
	i := p.v.scratch.heap[0].slot
	placement := Placement{
		ID:      p.src.id(),
		Group:   p.g.name,
		Index:   w.index,
		Node:    p.v.ordinals[i],
		Ports:   p.choosePorts(i),
		Tracker: w.tracker,
	}
	if w.prev != nil {
		placement.Previous = w.prev.ID
	}
	p.plan.Place = append(p.plan.Place, placement)
	p.v.occupy(i, p.ask, placement.Ports)
	p.enter(i)
	p.settle(aside)
	if p.g.plan.Metric == nil {
		p.g.plan.Metric = p.metric
	}
	return true
}

// enter counts an allocation of the group on a node, for the rules about where the others are.
func (p *placer) enter(i int32) {
	p.v.scratch.onGroup[i]++
	p.v.scratch.onJob[i]++
	p.countValue(i, 1)
}

// leave takes an allocation that is about to be stopped out of that count.
func (p *placer) leave(a *Alloc) {
	i := p.v.slots[a.Node] // its node is there, else it would be lost
	p.v.scratch.onGroup[i]--
	p.v.scratch.onJob[i]--
	p.countValue(i, -1)
}

// countValues counts, for each distinct_property rule, the allocations that stay and those placed so far.
func (p *placer) countValues(groups []*group) {
	p.values = make([]valueCounts, len(p.rules.properties))
	for k := range p.rules.properties {
		rule := &p.rules.properties[k]
		p.values[k] = valueCounts{}
		for _, g := range groups {
			if g != p.g && !rule.jobWide {
				continue
			}
			for _, a := range g.kept {
				p.addValue(k, p.v.nodes[p.v.slots[a.Node]], 1)
			}
		}
		if rule.jobWide {
			for i := range p.plan.Place {
				p.addValue(k, p.v.Node(p.plan.Place[i].Node), 1)
			}
		}
	}
}

func (p *placer) countValue(i int32, by int) {
	for k := range p.values {
		p.addValue(k, p.v.nodes[i], by)
	}
}

func (p *placer) addValue(k int, n *api.Node, by int) {
	if value, ok := p.rules.properties[k].target.resolve(n); ok {
		p.values[k][value] += by
	}
}

// choosePorts takes ports on a node that has them. Dynamic ones are looked for from a point that the seed chooses, so that
// a port that was just given back is not soon given out again.
func (p *placer) choosePorts(i int32) []uint16 {
	n := len(p.ports)
	if n == 0 {
		return nil
	}
	if len(p.memory) < n {
		p.memory = make([]uint16, max(n, 1024/n*n))
	}
	chosen := p.memory[:n:n]
	p.memory = p.memory[n:]
	node := &p.v.ports[i]
	for k, ask := range p.ports {
		if ask.Value > 0 {
			chosen[k] = uint16(ask.Value)
			node.take(ask.Value)
		}
	}
	for k, ask := range p.ports {
		if ask.Value == 0 {
			port := node.next(node.lo + p.src.below(node.hi-node.lo+1))
			chosen[k] = uint16(port)
			node.take(port)
		}
	}
	return chosen
}
