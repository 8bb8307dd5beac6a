package scheduler

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

// stopLeaving lets agents stop what is not wanted, and report nothing else.
func (c *cluster) stopLeaving() {
	for i := range c.allocs {
		if a := &c.allocs[i]; a.DesiredStatus != api.AllocDesiredRun {
			c.end(a, api.AllocClientComplete)
		}
	}
}

func maxParallel(n int) func(*api.Job, *api.Group) {
	return func(_ *api.Job, g *api.Group) { g.Update.MaxParallel = n }
}

func TestRollingUpdateGoesOnAsAllocationsTurnHealthy(t *testing.T) {
	c := newCluster(t, newJob("service", 5, maxParallel(2)), nodes(3)...)
	c.schedule()
	c.settle()
	c.job = nextVersion(c.job, command("v1"))

	step := func(what string, want outcome, remaining int) {
		t.Helper()
		plan := c.schedule()
		if diff := cmp.Diff(want, c.outcome(plan)); diff != "" {
			t.Fatalf("%s: plan (-want +got):\n%s", what, diff)
		}
		if got := plan.Groups["api"].Remaining; got != remaining {
			t.Fatalf("%s: %d remain, want %d", what, got, remaining)
		}
	}
	step("first two", outcome{Place: []int{0, 1}, Stop: []int{0, 1}}, 3)
	step("nothing healthy yet", outcome{}, 3)
	c.stopLeaving()
	step("stopped is not yet healthy", outcome{}, 3)
	yes := true
	c.named(1).Healthy = &yes
	step("one became healthy", outcome{Place: []int{2}, Stop: []int{2}}, 2)
	c.settle()
	step("both became healthy", outcome{Place: []int{3, 4}, Stop: []int{3, 4}}, 0)
	c.settle()
	step("all done", outcome{}, 0)
}

func TestUpdate(t *testing.T) {
	no := false
	for _, tt := range []struct {
		rule   string
		job    func(*api.Job, *api.Group) // of the first version
		change func(*api.Job, *api.Group)
		given  func(*cluster)
		want   outcome
	}{
		{"max_parallel 0 replaces all at once", maxParallel(0), command("v1"), nil,
			outcome{Place: []int{0, 1, 2}, Stop: []int{0, 1, 2}}},
		{"the unhealthy ones go first", maxParallel(1), command("v1"),
			func(c *cluster) { c.named(2).Healthy = &no },
			outcome{Place: []int{2}, Stop: []int{2}}},
		{"what tasks do not see changes in place", maxParallel(1),
			func(_ *api.Job, g *api.Group) { g.Tasks[0].KillSignal = "SIGINT" }, nil,
			outcome{InPlace: []int{0, 1, 2}}},
		{"a constraint that the node satisfies changes in place", maxParallel(1),
			func(j *api.Job, _ *api.Group) {
				j.Constraints = []api.Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "linux"}}
			}, nil,
			outcome{InPlace: []int{0, 1, 2}}},
		{"one that it does not satisfy moves the allocation", maxParallel(0),
			func(j *api.Job, _ *api.Group) {
				j.Constraints = []api.Constraint{{LTarget: "${node.unique.name}", Operand: "!=", RTarget: "n1"}}
			},
			func(c *cluster) {
				for i := range c.allocs {
					c.allocs[i].Node = uint32(i + 1)
				}
			},
			outcome{Place: []int{0}, Stop: []int{0}, InPlace: []int{1, 2}}},
		{"new allocations count as under way", maxParallel(2),
			func(_ *api.Job, g *api.Group) {
				command("v1")(nil, g)
				g.Count = 4
			}, nil,
			outcome{Place: []int{0, 3}, Stop: []int{0}}},
		{"a failed one of the present version counts as under way", maxParallel(1),
			func(_ *api.Job, g *api.Group) {
				command("v1")(nil, g)
				g.ReschedulePolicy = nil
			},
			func(c *cluster) {
				c.schedule()
				c.settle()
				c.named(0).Healthy = nil
				c.end(c.named(0), api.AllocClientFailed)
			},
			outcome{}},
		{"an impossible version stops nothing", maxParallel(0),
			func(j *api.Job, g *api.Group) {
				command("v1")(nil, g)
				j.Constraints = []api.Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "plan9"}}
			}, nil,
			outcome{Queued: 3}},
		{"a version that fits nowhere stops nothing", maxParallel(1),
			func(_ *api.Job, g *api.Group) { g.Tasks[0].Resources.MemoryMB = 1 << 20 }, nil,
			outcome{Queued: 1}},
		{"one that fits only when the old one is gone stops it", func(_ *api.Job, g *api.Group) {
			g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "http", Value: 80}}}}
		}, command("v1"), nil,
			outcome{Stop: []int{0}, Queued: 1}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 3, tt.job), nodes(3)...)
			c.schedule()
			c.settle()
			c.job = nextVersion(c.job, tt.change)
			if tt.given != nil {
				tt.given(c)
			}
			plan := c.schedule()
			if diff := cmp.Diff(tt.want, c.outcome(plan)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUpdateOfAStaticPort goes through an update in which each replacement must wait for its predecessor's port.
func TestUpdateOfAStaticPort(t *testing.T) {
	c := newCluster(t, newJob("service", 2, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "http", Value: 80}}}}
	}), nodes(2)...)
	c.schedule()
	c.settle()
	c.job = nextVersion(c.job, command("v1"))

	want := func(what string, want outcome) {
		t.Helper()
		if diff := cmp.Diff(want, c.outcome(c.schedule())); diff != "" {
			t.Fatalf("%s: plan (-want +got):\n%s", what, diff)
		}
	}
	want("no room", outcome{Stop: []int{0}, Queued: 1})
	want("the old one still runs", outcome{Queued: 1})
	if c.blocked == nil {
		t.Fatal("nothing waits for the port")
	}
	c.stopLeaving()
	want("it has stopped", outcome{Place: []int{0}})
	if c.blocked != nil {
		t.Fatal("an evaluation is blocked though all are placed")
	}
	want("the new one is not healthy", outcome{})
	c.settle()
	want("it is", outcome{Stop: []int{1}, Queued: 1})
	c.settle()
	want("it has stopped", outcome{Place: []int{1}})
	c.settle()
	want("done", outcome{})
}
