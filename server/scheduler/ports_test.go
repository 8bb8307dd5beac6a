package scheduler

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/brumehq/brume/api"
)

func TestReservedPortsAreRead(t *testing.T) {
	set := parsePorts("22, 80,8000-8002,x,70000,9-7,65535-65535,")
	for _, tt := range []struct {
		port int
		want bool
	}{{22, true}, {80, true}, {7999, false}, {8000, true}, {8002, true}, {8003, false}, {8, false}, {65535, true}, {0, false}} {
		if got := set.has(tt.port); got != tt.want {
			t.Errorf("port %d reserved: %t, want %t", tt.port, got, tt.want)
		}
	}
}

// TestPortsAgreeWithASet compares the bitmaps and their count with a plain set, also when a node's range and reserved
// ports change.
func TestPortsAgreeWithASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p nodePorts
		used := map[int]bool{}
		lo, hi := 0, 0
		reserved := map[int]bool{}
		configure := func(t *rapid.T) {
			lo = rapid.IntRange(1, 100).Draw(t, "lo")
			hi = lo + rapid.IntRange(0, 150).Draw(t, "width")
			n := &api.Node{}
			n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = lo, hi
			reserved = map[int]bool{}
			n.ReservedResources.Networks.ReservedHostPorts = rapid.SampledFrom([]string{"", "100-200", "64", "63-65"}).Draw(t, "spec")
			set := parsePorts(n.ReservedResources.Networks.ReservedHostPorts)
			for port := range 700 {
				reserved[port] = set.has(port)
			}
			p.configure(n)
		}
		configure(t)
		port := rapid.IntRange(1, 260)
		t.Repeat(map[string]func(*rapid.T){
			"configure": configure,
			"take":      func(t *rapid.T) { k := port.Draw(t, "port"); p.take(k); used[k] = true },
			"give":      func(t *rapid.T) { k := port.Draw(t, "port"); p.give(k); delete(used, k) },
			"give one of those used": func(t *rapid.T) {
				if len(used) > 0 {
					k := rapid.SampledFrom(slices.Sorted(maps.Keys(used))).Draw(t, "used")
					p.give(k)
					delete(used, k)
				}
			},
			"next": func(t *rapid.T) {
				from := rapid.IntRange(lo, hi).Draw(t, "from")
				want := -1
				for k := range hi - lo + 1 {
					if at := lo + (from-lo+k)%(hi-lo+1); !used[at] && !reserved[at] {
						want = at
						break
					}
				}
				if got := p.next(from); got != want {
					t.Fatalf("next(%d) = %d, want %d", from, got, want)
				}
			},
			"": func(t *rapid.T) {
				want := 0
				for at := lo; at <= hi; at++ {
					if !used[at] && !reserved[at] {
						want++
					}
				}
				if p.free != want {
					t.Fatalf("%d free in %d-%d, want %d", p.free, lo, hi, want)
				}
			},
		})
	})
}

func TestPortsOfPlacements(t *testing.T) {
	job := newJob("service", 3, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{
			ReservedPorts: []api.Port{{Label: "http", Value: 80}},
			DynamicPorts:  []api.Port{{Label: "a"}, {Label: "b"}},
		}}
	})
	narrow := func(n *api.Node) {
		n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = 25000, 25010
		n.ReservedResources.Networks.ReservedHostPorts = "25000-25008"
	}
	c := newCluster(t, job, nodes(3, narrow)...)
	seen := map[uint32]bool{}
	for _, p := range c.schedule().Place {
		if len(p.Ports) != 3 || p.Ports[0] != 80 || p.Ports[1]+p.Ports[2] != 25009+25010 || seen[p.Node] {
			t.Errorf("node %d gives ports %v, want 80 and the two free ones, once", p.Node, p.Ports)
		}
		seen[p.Node] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d nodes, want 3", len(seen))
	}
}

// TestAFreedPortIsNotSoonUsedAgain replaces one allocation many times on one node.
func TestAFreedPortIsNotSoonUsedAgain(t *testing.T) {
	c := newCluster(t, newJob("service", 1, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{DynamicPorts: []api.Port{{Label: "http"}}}}
	}), newNode(1))
	seen := map[uint16]int{}
	for round := range 50 {
		plan := c.schedule()
		if len(plan.Place) != 1 {
			t.Fatalf("round %d places %d, want 1", round, len(plan.Place))
		}
		port := plan.Place[0].Ports[0]
		if port < api.MinDynamicPort || port > api.MaxDynamicPort {
			t.Fatalf("port %d is outside of the dynamic range", port)
		}
		if last, again := seen[port]; again && round-last < 5 {
			t.Errorf("port %d is given out in rounds %d and %d", port, last, round)
		}
		seen[port] = round
		c.named(0).DesiredStatus = api.AllocDesiredStop
		c.settle()
	}
}
