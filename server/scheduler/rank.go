package scheduler

import (
	"fmt"
	"math"
)

// Names of the scores that a node's total is the mean of, as clients know them.
const (
	scoreBinPack  = "binpack"
	scoreSpread   = "job-anti-affinity"
	scoreReplaced = "node-reschedule-penalty"
)

// scores are the parts of a node's score that apply to it.
//
//   - binPack is how full the node would be: (20 − 10^c − 10^m) / 18, c and m being the free fractions of its CPU and
//     memory. 0 is empty, 1 full. Exponents make a node that is full in both better than two half full ones. This is the
//     "BestFit v3" formula of Google's talk on data centre scheduling (Columbia University, IEOR 4405, spring 2013).
//   - spread is 0 down to −1 as the node holds up to its even share of the group's allocations, so that a group survives
//     the loss of a node. It applies to nodes that hold some.
//   - replaced is −1 for the node on which the allocation that is being replaced has just failed.
type scores struct {
	binPack, spread, replaced float64
}

// total is the mean of the parts that apply.
func (s scores) total() float64 {
	sum, n := s.binPack, 1.0
	if s.spread != 0 {
		sum, n = sum+s.spread, n+1
	}
	if s.replaced != 0 {
		sum, n = sum+s.replaced, n+1
	}
	return sum / n
}

func (p *placer) scores(i int32, avoid bool) scores {
	used, total := p.v.used[i].plus(p.ask), p.v.total[i]
	s := scores{binPack: (20 - pow10(free(used.cpu, total.cpu)) - pow10(free(used.memory, total.memory))) / 18}
	if n := p.v.scratch.onGroup[i]; n > 0 {
		s.spread = -min(1, float64(n)/p.share)
	}
	if avoid {
		s.replaced = -1
	}
	return s
}

func pow10(x float64) float64 { return math.Exp(x * math.Ln10) }

// free is the fraction of total that is not used: 0 for a node that has none.
func free(used, total int64) float64 {
	if total <= 0 {
		return 0
	}
	return float64(total-used) / float64(total)
}

// candidate scores a node.
func (p *placer) candidate(i int32, avoid bool) candidate {
	return candidate{score: p.scores(i, avoid).total(), tie: p.v.ordinals[i]*2654435761 ^ p.tie, slot: i}
}

// noSlot stands for no node.
const noSlot int32 = -1

// pick brings the best node to the top of the heap; false: there is none. The node to avoid is held back for this time
// where another one is better once the penalty counts; it is then returned as aside, to be given to settle.
func (p *placer) pick(avoid int32) (aside candidate, ok bool) {
	aside.slot = noSlot
	p.trim()
	if len(p.v.scratch.heap) == 0 {
		return aside, false
	}
	top := p.v.scratch.heap[0]
	if top.slot != avoid {
		return aside, true
	}
	p.pop()
	p.trim()
	if h := p.v.scratch.heap; len(h) > 0 && h[0].better(p.candidate(avoid, true)) {
		return top, true
	}
	p.push(top)
	return aside, true
}

// settle puts the heap in order after a placement on the node at its top.
func (p *placer) settle(aside candidate) {
	i := p.v.scratch.heap[0].slot
	if p.obstacle(i).kind == fits {
		p.v.scratch.heap[0] = p.candidate(i, false)
		p.down(0)
	} else {
		p.pop()
	}
	if aside.slot != noSlot {
		p.push(aside)
	}
}

// trim drops nodes from the top that lost their place to placements on other nodes.
func (p *placer) trim() {
	if len(p.values) == 0 {
		return
	}
	for len(p.v.scratch.heap) > 0 && p.obstacle(p.v.scratch.heap[0].slot).kind != fits {
		p.pop()
	}
}

func (p *placer) heapify() {
	for k := len(p.v.scratch.heap)/2 - 1; k >= 0; k-- {
		p.down(k)
	}
}

func (p *placer) pop() {
	h := p.v.scratch.heap
	last := len(h) - 1
	h[0] = h[last]
	p.v.scratch.heap = h[:last]
	p.down(0)
}

func (p *placer) push(c candidate) {
	h := append(p.v.scratch.heap, c)
	k := len(h) - 1
	for k > 0 {
		parent := (k - 1) / 2
		if !h[k].better(h[parent]) {
			break
		}
		h[k], h[parent] = h[parent], h[k]
		k = parent
	}
	p.v.scratch.heap = h
}

func (p *placer) down(k int) {
	h := p.v.scratch.heap
	for {
		child := 2*k + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && h[right].better(h[child]) {
			child = right
		}
		if !h[child].better(h[k]) {
			return
		}
		h[k], h[child] = h[child], h[k]
		k = child
	}
}

// obstacle is why a node that satisfies all rules has no room for one more allocation of the group. which is the index of
// the property or the port.
type obstacle struct {
	kind  obstacleKind
	which int
}

type obstacleKind uint8

const (
	fits obstacleKind = iota
	hostTaken
	valueTaken
	cpuShort
	memoryShort
	diskShort
	portTaken
	dynamicShort
)

// distinct reports whether the obstacle is where the job's other allocations are.
func (o obstacle) distinct() bool { return o.kind == hostTaken || o.kind == valueTaken }

// obstacle returns the first one that a node has.
func (p *placer) obstacle(i int32) obstacle {
	s := &p.v.scratch
	if p.rules.groupHosts && s.onGroup[i] > 0 || p.rules.jobHosts && s.onJob[i] > 0 {
		return obstacle{kind: hostTaken}
	}
	for k := range p.values {
		rule := &p.rules.properties[k]
		if value, _ := rule.target.resolve(p.v.nodes[i]); p.values[k][value] >= rule.limit {
			return obstacle{kind: valueTaken, which: k}
		}
	}
	need, total := p.v.used[i].plus(p.ask), p.v.total[i]
	switch {
	case need.cpu > total.cpu:
		return obstacle{kind: cpuShort}
	case need.memory > total.memory:
		return obstacle{kind: memoryShort}
	case need.disk > total.disk:
		return obstacle{kind: diskShort}
	case len(p.ports) > 0:
		return p.portObstacle(&p.v.ports[i])
	}
	return obstacle{}
}

func (p *placer) portObstacle(node *nodePorts) obstacle {
	for k, ask := range p.ports {
		if ask.Value > 0 && !node.open(ask.Value) {
			return obstacle{kind: portTaken, which: k}
		}
	}
	if p.dynamic > 0 && p.inRange(node) > node.free {
		return obstacle{kind: dynamicShort}
	}
	return obstacle{}
}

// inRange is how many ports of a node's dynamic range an allocation takes: the dynamic ones, and static ones that lie there.
func (p *placer) inRange(node *nodePorts) int {
	n := p.dynamic
	for _, ask := range p.ports {
		if node.lo <= ask.Value && ask.Value <= node.hi {
			n++
		}
	}
	return n
}

// dimension names an obstacle as explanations count it.
func (p *placer) dimension(o obstacle) string {
	switch o.kind {
	case hostTaken:
		return "distinct_hosts"
	case valueTaken:
		return p.rules.properties[o.which].text()
	case cpuShort:
		return "cpu"
	case memoryShort:
		return "memory"
	case diskShort:
		return "disk"
	case portTaken:
		port := p.ports[o.which]
		return fmt.Sprintf("network: reserved port collision %s=%d", port.Label, port.Value)
	}
	return "network: dynamic ports exhausted"
}
