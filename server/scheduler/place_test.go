package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

func TestNodesThatTakeNothingNew(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		change func(*api.Node)
	}{
		{"down", func(n *api.Node) { n.Status = api.NodeStatusDown }},
		{"initializing", func(n *api.Node) { n.Status = api.NodeStatusInit }},
		{"disconnected", func(n *api.Node) { n.Status = api.NodeStatusDisconnected }},
		{"ineligible", func(n *api.Node) { n.SchedulingEligibility = api.NodeIneligible }},
		{"draining", func(n *api.Node) { n.Drain = true }},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 1), newNode(1, tt.change))
			if got := len(c.schedule().Place); got != 0 {
				t.Errorf("placed %d, want none", got)
			}
		})
	}
}

func TestPoolsAndDatacenters(t *testing.T) {
	for _, tt := range []struct {
		rule        string
		pool        string
		datacenters []string
		want        bool
	}{
		{"the default pool has no name", "", nil, true},
		{"all pools", "all", nil, true},
		{"another pool", "gpu", nil, false},
		{"any datacenter", "default", []string{"*"}, true},
		{"a glob", "default", []string{"eu-*", "dc?"}, true},
		{"a glob that is none", "default", []string{"dc[1"}, false},
		{"another datacenter", "default", []string{"dc2"}, false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 1, func(j *api.Job, _ *api.Group) {
				j.NodePool, j.Datacenters = tt.pool, tt.datacenters
			}), newNode(1))
			if got := len(c.schedule().Place) == 1; got != tt.want {
				t.Errorf("placed: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestDrivers(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		change func(*api.Node)
		want   bool
	}{
		{"detected and healthy", func(*api.Node) {}, true},
		{"not healthy", func(n *api.Node) { n.Drivers["raw_exec"].Healthy = false }, false},
		{"not detected", func(n *api.Node) { n.Drivers["raw_exec"].Detected = false }, false},
		{"known by an attribute only", func(n *api.Node) {
			n.Drivers, n.Attributes["driver.raw_exec"] = nil, "1"
		}, true},
		{"an attribute does not heal a driver", func(n *api.Node) {
			n.Drivers["raw_exec"].Healthy, n.Attributes["driver.raw_exec"] = false, "1"
		}, false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 1), newNode(1, tt.change))
			if got := len(c.schedule().Place) == 1; got != tt.want {
				t.Errorf("placed: %t, want %t", got, tt.want)
			}
		})
	}
}

// TestTheAvoidedNodeIsStillThereForOthers replaces an allocation away from its node and gives that node to another.
func TestTheAvoidedNodeIsStillThereForOthers(t *testing.T) {
	job := newJob("service", 1, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "web", Value: 80}}}}
	})
	c := newCluster(t, job, newNode(1))
	c.schedule()
	c.end(c.named(0), api.AllocClientFailed)
	c.view.PutNode(newNode(2))
	c.view.Occupy(1, Usage{CPU: 3000, MemoryMB: 7000}) // node 1 is full enough to score best
	c.job = nextVersion(job, func(_ *api.Job, g *api.Group) { g.Count = 2 })
	c.now = c.now.Add(time.Hour)
	plan := c.schedule()
	got := map[int]uint32{}
	for _, p := range plan.Place {
		got[p.Index] = p.Node
	}
	if diff := cmp.Diff(map[int]uint32{0: 2, 1: 1}, got); diff != "" {
		t.Errorf("nodes by index (-want +got):\n%s", diff)
	}
}

// TestAHostThatWasGivenAwayIsLeft updates two allocations that may not share a node, of which one takes the other's.
func TestAHostThatWasGivenAwayIsLeft(t *testing.T) {
	job := newJob("service", 2, func(_ *api.Job, g *api.Group) {
		g.Constraints = []api.Constraint{{Operand: api.OperandDistinctHosts}}
		g.Update.MaxParallel = 0
	})
	c := newCluster(t, job, newNode(1, func(n *api.Node) { n.NodeResources.Memory.MemoryMB = 400 }), newNode(2))
	c.schedule()
	c.settle()
	c.job = nextVersion(job, func(_ *api.Job, g *api.Group) { g.Tasks[0].Resources.MemoryMB = 5000 })
	plan := c.schedule()
	if diff := cmp.Diff(outcome{Place: []int{0}, Stop: []int{0, 1}, Queued: 1}, c.outcome(plan)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// TestWhatGoesOnKeepsItsHost has one group whose update is impossible and another that grows.
func TestWhatGoesOnKeepsItsHost(t *testing.T) {
	job := newJob("service", 1, constrained("", api.OperandDistinctHosts, ""))
	c := newCluster(t, job, newNode(1))
	c.schedule()
	c.settle()
	c.job = nextVersion(job, func(j *api.Job, g *api.Group) {
		g.Tasks[0].Driver = "docker"
		other := *job.TaskGroups[0]
		other.Name = "other"
		j.TaskGroups = append(j.TaskGroups, &other)
	})
	plan := c.schedule()
	if diff := cmp.Diff(outcome{Queued: 2}, c.outcome(plan)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// TestWhatIsStoppedFreesItsValueForOtherGroups moves one group off a rack that another one may then use.
func TestWhatIsStoppedFreesItsValueForOtherGroups(t *testing.T) {
	rack := func(name string, memory int64) func(*api.Node) {
		return func(n *api.Node) { n.Meta["rack"], n.NodeResources.Memory.MemoryMB = name, memory }
	}
	job := newJob("service", 1, constrained("${meta.rack}", api.OperandDistinctProperty, ""))
	c := newCluster(t, job, newNode(1, rack("r1", 1000)))
	c.schedule()
	c.settle()
	c.view.PutNode(newNode(2, rack("r2", 9000)))
	c.job = nextVersion(job, func(j *api.Job, g *api.Group) {
		g.Tasks[0].Resources.MemoryMB = 5000
		other := *job.TaskGroups[0]
		other.Name = "other"
		j.TaskGroups = append(j.TaskGroups, &other)
	})
	got := map[string]uint32{}
	for _, p := range c.schedule().Place {
		got[p.Group] = p.Node
	}
	if diff := cmp.Diff(map[string]uint32{"api": 2, "other": 1}, got); diff != "" {
		t.Errorf("nodes by group (-want +got):\n%s", diff)
	}
}

func TestGoneGroupsAreStoppedInTheOrderOfTheirNames(t *testing.T) {
	job := newJob("service", 1)
	for _, name := range []string{"z", "b", "y", "a", "x"} {
		g := *job.TaskGroups[0]
		g.Name = name
		job.TaskGroups = append(job.TaskGroups, &g)
	}
	c := newCluster(t, job, nodes(3)...)
	c.schedule()
	c.job = nextVersion(job, func(*api.Job, *api.Group) {})
	var got []string
	for _, s := range c.schedule().Stop {
		got = append(got, c.alloc(s.ID).Group)
	}
	if want := []string{"a", "b", "x", "y", "z"}; !slices.Equal(got, want) {
		t.Errorf("stopped %v, want %v", got, want)
	}
}
