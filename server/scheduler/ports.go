package scheduler

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/brumehq/brume/api"
)

const (
	portPages     = 16
	portsPerPage  = 1 << 16 / portPages
	wordsPerPage  = portsPerPage / 64
	portPageShift = 12
)

// portSet is a set of ports as a bitmap whose pages exist once they are needed: a node of which nobody asked a port costs
// 128 bytes, one that gives out dynamic ports about 2 KiB.
type portSet struct {
	pages [portPages]*[wordsPerPage]uint64
}

func (s *portSet) word(port int) uint64 {
	if p := s.pages[port>>portPageShift]; p != nil {
		return p[port%portsPerPage/64]
	}
	return 0
}

func (s *portSet) has(port int) bool { return s.word(port)>>(port%64)&1 == 1 }

// add reports whether the port was new.
func (s *portSet) add(port int) bool {
	page := &s.pages[port>>portPageShift]
	if *page == nil {
		*page = new([wordsPerPage]uint64)
	}
	w, bit := &(*page)[port%portsPerPage/64], uint64(1)<<(port%64)
	added := *w&bit == 0
	*w |= bit
	return added
}

// remove reports whether the port was there.
func (s *portSet) remove(port int) bool {
	if !s.has(port) {
		return false
	}
	s.pages[port>>portPageShift][port%portsPerPage/64] &^= 1 << (port % 64)
	return true
}

// nodePorts are the host ports of one node. free counts the ports of the dynamic range lo…hi (inclusive) that are neither
// used nor reserved.
type nodePorts struct {
	used     portSet
	reserved portSet
	lo, hi   int
	free     int
	spec     string // the text that reserved was read from
}

// configure takes on a node's dynamic range and its reserved ports.
func (p *nodePorts) configure(n *api.Node) {
	lo, hi := n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort
	if lo <= 0 || hi <= 0 || lo > hi || hi > 1<<16-1 {
		lo, hi = api.MinDynamicPort, api.MaxDynamicPort
	}
	spec := n.ReservedResources.Networks.ReservedHostPorts
	if p.lo == lo && p.hi == hi && p.spec == spec {
		return
	}
	p.lo, p.hi, p.spec = lo, hi, spec
	p.reserved = parsePorts(spec)
	p.free = hi - lo + 1
	for port := lo; port <= hi; port += 64 - port%64 {
		taken := p.used.word(port) | p.reserved.word(port)
		taken >>= port % 64 // those below the range
		if width := min(hi-port, 63-port%64) + 1; width < 64 {
			taken &= 1<<width - 1
		}
		p.free -= bits.OnesCount64(taken)
	}
}

// open reports whether a port can be given out.
func (p *nodePorts) open(port int) bool { return !p.used.has(port) && !p.reserved.has(port) }

func (p *nodePorts) take(port int) {
	if p.used.add(port) && !p.reserved.has(port) && p.lo <= port && port <= p.hi {
		p.free--
	}
}

func (p *nodePorts) give(port int) {
	if p.used.remove(port) && !p.reserved.has(port) && p.lo <= port && port <= p.hi {
		p.free++
	}
}

// next returns the first open port of the dynamic range at or after from, wrapping round; -1 if there is none.
func (p *nodePorts) next(from int) int {
	if port := p.scan(from, p.hi); port >= 0 {
		return port
	}
	return p.scan(p.lo, from-1)
}

func (p *nodePorts) scan(from, to int) int {
	for port := from; port <= to; {
		taken := (p.used.word(port) | p.reserved.word(port)) >> (port % 64)
		skip := bits.TrailingZeros64(^taken)
		if port%64+skip < 64 {
			if port+skip > to {
				return -1
			}
			return port + skip
		}
		port += 64 - port%64
	}
	return -1
}

// parsePorts reads "22,80,8000-8100". Parts that are no port are left out: what a node says of itself cannot stop a plan.
func parsePorts(spec string) portSet {
	var set portSet
	for part := range strings.SplitSeq(spec, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		lo, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		if err != nil {
			continue
		}
		hi := lo
		if isRange {
			if hi, err = strconv.ParseUint(strings.TrimSpace(last), 10, 16); err != nil {
				continue
			}
		}
		for port := lo; port <= hi; port++ {
			set.add(int(port))
		}
	}
	return set
}
