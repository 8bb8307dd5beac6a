package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/brumehq/brume/api"
)

// topScores is how many of the best nodes an explanation lists.
const topScores = 5

// closed says why nothing may be placed on a node whatever a job asks; "" if it is open.
func closed(n *api.Node) string {
	switch {
	case n.Status != api.NodeStatusReady:
		return "node is " + n.Status
	case n.Drain:
		return "node is draining"
	case n.SchedulingEligibility == api.NodeIneligible:
		return "node is " + api.NodeIneligible
	}
	return ""
}

// What placer.scratch.verdict holds of a class.
const (
	notAsked = 0
	allowed  = 1
	brokenBy = 2 // and more: the index of the first broken rule, plus this
)

// classVerdict asks the rules that all nodes of a class answer alike, once for each class.
func (p *placer) classVerdict(i int32) int32 {
	verdict := &p.v.scratch.verdict[p.v.class[i]]
	if *verdict == notAsked {
		*verdict = allowed
		if k := firstBroken(p.rules.class, p.v.nodes[i]); k >= 0 {
			*verdict = brokenBy + int32(k)
		}
	}
	return *verdict
}

// broken says which rule keeps the group off a node, "" if none does, and where the node still counts as offered: whether
// it is open and in the job's node pool, and whether it is in one of its datacenters too.
func (p *placer) broken(i int32) (text string, inPool, available bool) {
	n := p.v.nodes[i]
	if why := closed(n); why != "" {
		return why, false, false
	}
	if verdict := p.classVerdict(i); verdict != allowed {
		k := verdict - brokenBy
		return p.rules.class[k].text, k != poolRule, k != poolRule && k != datacenterRule
	}
	if k := firstBroken(p.rules.node, n); k >= 0 {
		return p.rules.node[k].text, true, true
	}
	return "", true, true
}

// survey looks at every node once: it counts what keeps the group off it, and fills the heap with those that have room.
func (p *placer) survey() {
	m := p.newMetric()
	s := &p.v.scratch
	s.heap = s.heap[:0]
	able, exhausted := 0, map[obstacle]int{}
	for slot, n := range p.v.nodes {
		if n == nil {
			continue
		}
		i := int32(slot)
		if !p.passes(i, m) {
			continue
		}
		able++
		if o := p.obstacle(i); o.kind != fits {
			exhausted[o]++
			p.countExhausted(i, m)
			continue
		}
		s.heap = append(s.heap, candidate{slot: i})
	}
	p.share = math.Ceil(float64(p.g.def.Count) / float64(max(able, 1)))
	for k := range s.heap {
		s.heap[k] = p.candidate(s.heap[k].slot, false)
	}
	p.listScores(m)
	p.listDimensions(m, exhausted)
	p.heapify()
	p.metric = m
}

func (p *placer) newMetric() *api.AllocMetric {
	m := &api.AllocMetric{NodesAvailable: map[string]int{}}
	for _, dc := range p.job.Datacenters {
		if !strings.ContainsAny(dc, `*?[\`) {
			m.NodesAvailable[dc] = 0
		}
	}
	return m
}

// passes counts a node in m and reports whether it satisfies the rules.
func (p *placer) passes(i int32, m *api.AllocMetric) bool {
	m.NodesEvaluated++
	n := p.v.nodes[i]
	text, inPool, available := p.broken(i)
	if inPool {
		m.NodesInPool++
	}
	if available {
		m.NodesAvailable[n.Datacenter]++
	}
	if text == "" {
		return true
	}
	m.NodesFiltered++
	count(&m.ConstraintFiltered, text)
	if n.NodeClass != "" {
		count(&m.ClassFiltered, n.NodeClass)
	}
	return false
}

func (p *placer) countExhausted(i int32, m *api.AllocMetric) {
	m.NodesExhausted++
	if class := p.v.nodes[i].NodeClass; class != "" {
		count(&m.ClassExhausted, class)
	}
}

func (p *placer) listDimensions(m *api.AllocMetric, exhausted map[obstacle]int) {
	for o, n := range exhausted {
		if m.DimensionExhausted == nil {
			m.DimensionExhausted = map[string]int{}
		}
		m.DimensionExhausted[p.dimension(o)] += n
	}
}

func count(m *map[string]int, key string) {
	if *m == nil {
		*m = map[string]int{}
	}
	(*m)[key]++
}

// listScores keeps the scores of the best nodes.
func (p *placer) listScores(m *api.AllocMetric) {
	var best []candidate
	for _, c := range p.v.scratch.heap {
		if len(best) == topScores && !c.better(best[topScores-1]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c, func(b, c candidate) int {
			if b.better(c) {
				return -1
			}
			return 1
		})
		best = slices.Insert(best[:min(len(best), topScores-1)], at, c)
	}
	for _, c := range best {
		s := p.scores(c.slot, false)
		parts := map[string]float64{scoreBinPack: s.binPack}
		if s.spread != 0 {
			parts[scoreSpread] = s.spread
		}
		meta := &api.NodeScoreMeta{NodeID: p.v.nodes[c.slot].ID, Scores: parts, NormScore: s.total()}
		m.ScoreMetaData = append(m.ScoreMetaData, meta)
	}
}

// fail explains why n allocations of the group could not be placed: no node that satisfies the rules has room.
func (p *placer) fail(n int) {
	p.g.plan.Queued += n
	p.failed = append(p.failed, p.rules)
	if p.g.plan.Failed != nil {
		p.g.plan.Failed.CoalescedFailures += n
		return
	}
	m := p.newMetric()
	m.CoalescedFailures = n - 1
	near := nearest{p: p, classes: map[int32]int{}}
	exhausted := map[obstacle]int{}
	for slot, node := range p.v.nodes {
		if node == nil {
			continue
		}
		i := int32(slot)
		if !p.passes(i, m) {
			near.addFiltered(i)
			continue
		}
		exhausted[p.obstacle(i)]++
		p.countExhausted(i, m)
		near.addExhausted(i)
	}
	p.listDimensions(m, exhausted)
	m.NearestMiss = near.text()
	p.g.plan.Failed = m
}

// nearest finds the node that would need the least to take an allocation: one that satisfies the rules and lacks the
// smallest part of what is asked, else the one that breaks the fewest rules.
type nearest struct {
	p       *placer
	classes map[int32]int // how many rules a class breaks

	found    bool
	filtered bool
	distance float64
	slot     int32
}

func (b *nearest) add(i int32, filtered bool, distance float64) {
	better := !b.found ||
		b.filtered && !filtered ||
		b.filtered == filtered && (distance < b.distance ||
			distance == b.distance && b.p.v.ordinals[i] < b.p.v.ordinals[b.slot])
	if better {
		b.found, b.filtered, b.distance, b.slot = true, filtered, distance, i
	}
}

func (b *nearest) addFiltered(i int32) {
	n := b.p.v.nodes[i]
	broken, known := b.classes[b.p.v.class[i]]
	if !known {
		broken = countBroken(b.p.rules.class, n)
		b.classes[b.p.v.class[i]] = broken
	}
	broken += countBroken(b.p.rules.node, n)
	if closed(n) != "" {
		broken++
	}
	b.add(i, true, float64(broken))
}

func countBroken(rules []rule, n *api.Node) int {
	broken := 0
	for _, r := range rules {
		if !r.ok(n) {
			broken++
		}
	}
	return broken
}

func (b *nearest) addExhausted(i int32) {
	p := b.p
	left, ask := p.v.total[i].minus(p.v.used[i]), p.ask
	distance := lack(left.cpu, ask.cpu) + lack(left.memory, ask.memory) + lack(left.disk, ask.disk)
	o := p.obstacle(i)
	if o.distinct() {
		distance++
	}
	if len(p.ports) > 0 && p.portObstacle(&p.v.ports[i]).kind != fits {
		distance++
	}
	b.add(i, false, distance)
}

// lack is the part of ask that is missing.
func lack(left, ask int64) float64 {
	if ask <= max(left, 0) {
		return 0
	}
	return float64(ask-left) / float64(ask)
}

// text says which node came nearest and all that it lacks; "" if there are no nodes.
func (b *nearest) text() string {
	if !b.found {
		return ""
	}
	n := b.p.v.nodes[b.slot]
	misses := b.shortages()
	if b.filtered {
		misses = b.breaches()
	}
	name := n.Name
	if name == "" {
		name = n.ID
	}
	return name + ": " + strings.Join(misses, ", ")
}

func (b *nearest) breaches() []string {
	n := b.p.v.nodes[b.slot]
	var misses []string
	if why := closed(n); why != "" {
		misses = append(misses, why)
	}
	for _, rules := range [][]rule{b.p.rules.class, b.p.rules.node} {
		for _, r := range rules {
			if r.ok(n) {
				continue
			}
			if miss := r.miss(n); !slices.Contains(misses, miss) {
				misses = append(misses, miss)
			}
		}
	}
	return misses
}

func (b *nearest) shortages() []string {
	p := b.p
	left, ask := p.v.total[b.slot].minus(p.v.used[b.slot]), p.ask
	var misses []string
	short := func(what, unit string, left, ask int64) {
		if ask > left {
			misses = append(misses, fmt.Sprintf("%s short by %d %s", what, ask-left, unit))
		}
	}
	short("cpu", "MHz", left.cpu, ask.cpu)
	short("memory", "MiB", left.memory, ask.memory)
	short("disk", "MiB", left.disk, ask.disk)
	switch o := p.obstacle(b.slot); o.kind {
	case hostTaken:
		misses = append(misses, "it runs another allocation of the job, which asks for distinct_hosts")
	case valueTaken:
		rule := &p.rules.properties[o.which]
		value, _ := rule.target.resolve(p.v.nodes[b.slot])
		misses = append(misses, fmt.Sprintf("%s is %s, where the job has its %d already",
			rule.target.text, shortened(value), rule.limit))
	}
	node := &p.v.ports[b.slot]
	switch o := p.portObstacle(node); o.kind {
	case portTaken:
		port := p.ports[o.which]
		state := "in use"
		if node.reserved.has(port.Value) {
			state = "reserved"
		}
		misses = append(misses, fmt.Sprintf("port %s=%d is %s", port.Label, port.Value, state))
	case dynamicShort:
		misses = append(misses, fmt.Sprintf("%d dynamic ports wanted, %d free", p.inRange(node), node.free))
	}
	return misses
}
