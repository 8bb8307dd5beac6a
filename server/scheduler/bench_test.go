package scheduler

import (
	"fmt"
	"testing"

	"github.com/brumehq/brume/api"
)

func large(n *api.Node) {
	n.NodeResources.Cpu.CpuShares = 200_000
	n.NodeResources.Memory.MemoryMB = 1 << 20
	n.NodeResources.Disk.DiskMB = 1 << 20
}

func BenchmarkSchedule(b *testing.B) {
	staticPort := func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "http", Value: 8080}}}}
	}
	dynamicPort := func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{DynamicPorts: []api.Port{{Label: "http"}}}}
	}
	small := func(_ *api.Job, g *api.Group) {
		g.Tasks[0].Resources = api.Resources{CPU: 100, MemoryMB: 100}
	}
	racks := func(j *api.Job, _ *api.Group) {
		j.Constraints = []api.Constraint{{LTarget: "${meta.rack}", Operand: "distinct_property", RTarget: "200"}}
	}
	for _, bb := range []struct {
		name         string
		count, nodes int
		change       func(*api.Job, *api.Group)
		placed       int
		dry          bool
	}{
		{"10k_on_1k", 10_000, 1000, small, 10_000, false},
		{"10k_on_5k", 10_000, 5000, small, 10_000, false},
		{"10k_on_1k_static_port", 10_000, 1000, staticPort, 1000, false},
		{"10k_on_1k_dynamic_port", 10_000, 1000, dynamicPort, 10_000, false},
		{"10k_on_1k_distinct_property", 10_000, 1000, racks, 10_000, false},
		{"10k_on_1k_dry_run", 10_000, 1000, small, 10_000, true},
		{"10k_on_5k_dry_run", 10_000, 5000, small, 10_000, true},
		{"1M_on_1k", 1_000_000, 1000, small, 1_000_000, false},
		{"10_on_100", 10, 100, small, 10, false},
		{"1_on_5k", 1, 5000, small, 1, false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			i := 0
			machines := nodes(bb.nodes, large, func(n *api.Node) { i++; n.Meta["rack"] = fmt.Sprint(i % 50) })
			c := newCluster(b, newJob("service", bb.count, bb.change), machines...)
			req := c.request()
			req.DryRun = bb.dry
			b.ReportAllocs()
			for b.Loop() {
				plan := Schedule(c.view, req)
				if len(plan.Place) != bb.placed {
					b.Fatalf("placed %d, want %d", len(plan.Place), bb.placed)
				}
				if !bb.dry {
					b.StopTimer()
					undo := pass{v: c.view, job: c.job, plan: plan}
					undo.undo()
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkReconcile looks at a job of which nothing changed.
func BenchmarkReconcile(b *testing.B) {
	c := newCluster(b, newJob("service", 10_000, func(_ *api.Job, g *api.Group) {
		g.Tasks[0].Resources = api.Resources{CPU: 100, MemoryMB: 100}
	}), nodes(1000, large)...)
	c.schedule()
	c.settle()
	req := c.request()
	b.ReportAllocs()
	for b.Loop() {
		if plan := Schedule(c.view, req); !plan.Empty() {
			b.Fatalf("plan is not empty: %d placed", len(plan.Place))
		}
	}
}

// BenchmarkRebuild fills a view as after a failover: 5,000 nodes and 1,000,000 allocations.
func BenchmarkRebuild(b *testing.B) {
	machines := nodes(5000, large)
	g := newJob("service", 1).TaskGroups[0]
	b.ReportAllocs()
	for b.Loop() {
		v := NewView()
		for _, n := range machines {
			v.PutNode(n)
		}
		for i := range 1_000_000 {
			v.Occupy(machines[i%len(machines)].Ordinal, UsageOf(g, nil))
		}
	}
}
