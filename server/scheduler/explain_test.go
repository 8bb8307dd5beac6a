package scheduler

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

// refusal is what an explanation says, without the counts of nodes offered.
type refusal struct {
	Evaluated, Filtered, Exhausted int
	Rules, Dimensions              map[string]int
	Nearest                        string
}

func constrained(left, operand, right string) func(*api.Job, *api.Group) {
	return func(j *api.Job, _ *api.Group) {
		j.Constraints = []api.Constraint{{LTarget: left, Operand: operand, RTarget: right}}
	}
}

// TestRefusals asks for one allocation that two nodes (n1, n2) cannot run.
func TestRefusals(t *testing.T) {
	resources := func(cpu, memory int) func(*api.Job, *api.Group) {
		return func(_ *api.Job, g *api.Group) { g.Tasks[0].Resources = api.Resources{CPU: cpu, MemoryMB: memory} }
	}
	ports := func(static int, dynamic ...string) func(*api.Job, *api.Group) {
		return func(_ *api.Job, g *api.Group) {
			n := &api.Network{}
			if static > 0 {
				n.ReservedPorts = []api.Port{{Label: "web", Value: static}}
			}
			for _, label := range dynamic {
				n.DynamicPorts = append(n.DynamicPorts, api.Port{Label: label})
			}
			g.Networks = []*api.Network{n}
		}
	}
	only := func(name string, change func(*api.Node)) func(*api.Node) {
		return func(n *api.Node) {
			if n.Name == name {
				change(n)
			}
		}
	}
	for _, tt := range []struct {
		rule string
		job  func(*api.Job, *api.Group)
		node func(*api.Node)
		want refusal
	}{
		{"a constraint by its text", constrained("${attr.kernel.name}", "=", "plan9"), nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"${attr.kernel.name} = plan9": 2},
			Nearest: "n1: ${attr.kernel.name} is linux",
		}},
		{"a constraint for each node", constrained("${node.unique.name}", "regexp", "^web"), nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"${node.unique.name} regexp ^web": 2},
			Nearest: "n1: ${node.unique.name} is n1",
		}},
		{"an attribute that is not set", constrained("${meta.rack}", "is_set", ""), nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"${meta.rack} is_set": 2},
			Nearest: "n1: ${meta.rack} is not set",
		}},
		{"a missing driver", func(_ *api.Job, g *api.Group) { g.Tasks[0].Driver = "docker" }, nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{`missing drivers "docker"`: 2},
			Nearest: `n1: driver "docker" is missing`,
		}},
		{"an unhealthy driver, with its reason", nil, func(n *api.Node) {
			n.Drivers["raw_exec"] = &api.DriverStatus{Detected: true, HealthDescription: "disabled"}
		}, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{`missing drivers "raw_exec"`: 2},
			Nearest: `n1: driver "raw_exec" is unhealthy: disabled`,
		}},
		{"another datacenter", func(j *api.Job, _ *api.Group) { j.Datacenters = []string{"eu-*", "dc2"} }, nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"datacenter in eu-*, dc2": 2},
			Nearest: "n1: datacenter is dc1, not in eu-*, dc2",
		}},
		{"another node pool", func(j *api.Job, _ *api.Group) { j.NodePool = "gpu" }, nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"node pool gpu": 2},
			Nearest: "n1: node pool is default, not gpu",
		}},
		{"nodes that take nothing", nil, func(n *api.Node) {
			if n.Name == "n1" {
				n.Status = api.NodeStatusDown
			} else {
				n.SchedulingEligibility = api.NodeIneligible
			}
		}, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"node is down": 1, "node is ineligible": 1},
			Nearest: "n1: node is down",
		}},
		{"a node that takes nothing is further than one that does", constrained("${attr.kernel.name}", "=", "plan9"),
			only("n1", func(n *api.Node) { n.Status = api.NodeStatusDown }), refusal{
				Evaluated: 2, Filtered: 2, Rules: map[string]int{"node is down": 1, "${attr.kernel.name} = plan9": 1},
				Nearest: "n2: ${attr.kernel.name} is linux",
			}},
		{"a network mode", func(_ *api.Job, g *api.Group) { g.Networks = []*api.Network{{Mode: "bridge"}} }, nil, refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{`network mode "bridge"`: 2},
			Nearest: `n1: network mode "bridge" is not offered`,
		}},
		{"all that the nearest node lacks", constrained("${attr.kernel.name}", "=", "plan9"), only("n1", func(n *api.Node) {
			delete(n.Drivers, "raw_exec")
		}), refusal{
			Evaluated: 2, Filtered: 2, Rules: map[string]int{"${attr.kernel.name} = plan9": 2},
			Nearest: "n2: ${attr.kernel.name} is linux",
		}},
		{"memory", resources(100, 8404), nil, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"memory": 2},
			Nearest: "n1: memory short by 212 MiB",
		}},
		{"the node that lacks the smallest part", resources(4500, 8404), only("n2", func(n *api.Node) {
			n.NodeResources.Cpu.CpuShares = 4400
		}), refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"cpu": 2},
			Nearest: "n2: cpu short by 100 MHz, memory short by 212 MiB",
		}},
		{"what the node keeps for itself", resources(100, 8000), func(n *api.Node) { n.ReservedResources.Memory.MemoryMB = 200 }, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"memory": 2},
			Nearest: "n1: memory short by 8 MiB",
		}},
		{"disk", func(_ *api.Job, g *api.Group) { g.EphemeralDisk.SizeMB = 1 << 20 }, nil, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"disk": 2},
			Nearest: "n1: disk short by 946176 MiB",
		}},
		{"a reserved port", ports(8080), func(n *api.Node) { n.ReservedResources.Networks.ReservedHostPorts = "8000-9000" }, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"network: reserved port collision web=8080": 2},
			Nearest: "n1: port web=8080 is reserved",
		}},
		{"dynamic ports", ports(0, "a", "b"), func(n *api.Node) {
			n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = 20000, 20000
		}, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"network: dynamic ports exhausted": 2},
			Nearest: "n1: 2 dynamic ports wanted, 1 free",
		}},
		{"a static port within the dynamic range", ports(20000, "a"), func(n *api.Node) {
			n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = 20000, 20000
		}, refusal{
			Evaluated: 2, Exhausted: 2, Dimensions: map[string]int{"network: dynamic ports exhausted": 2},
			Nearest: "n1: 2 dynamic ports wanted, 1 free",
		}},
		{"a node that only lacks room is nearer than one that breaks a rule", func(j *api.Job, g *api.Group) {
			constrained("${node.unique.name}", "=", "n2")(j, g)
			resources(100, 10_000)(j, g)
		}, nil, refusal{
			Evaluated: 2, Filtered: 1, Exhausted: 1,
			Rules: map[string]int{"${node.unique.name} = n2": 1}, Dimensions: map[string]int{"memory": 1},
			Nearest: "n2: memory short by 1808 MiB",
		}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			job := newJob("service", 1)
			if tt.job != nil {
				tt.job(job, job.TaskGroups[0])
			}
			change := func(*api.Node) {}
			if tt.node != nil {
				change = tt.node
			}
			plan := newCluster(t, job, nodes(2, change)...).schedule()
			if diff := cmp.Diff(tt.want, refusalOf(plan)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func refusalOf(plan *Plan) refusal {
	m := plan.Groups["api"].Failed
	if m == nil {
		return refusal{}
	}
	return refusal{m.NodesEvaluated, m.NodesFiltered, m.NodesExhausted, m.ConstraintFiltered, m.DimensionExhausted, m.NearestMiss}
}

func TestRefusalsByWhatTheJobRunsAlready(t *testing.T) {
	for _, tt := range []struct {
		rule string
		job  func(*api.Job, *api.Group)
		want refusal
		put  int
	}{
		{"distinct_hosts of the job", constrained("", "distinct_hosts", ""), refusal{
			Evaluated: 3, Exhausted: 3, Dimensions: map[string]int{"distinct_hosts": 3},
			Nearest: "n1: it runs another allocation of the job, which asks for distinct_hosts",
		}, 3},
		{"distinct_hosts of the group", func(_ *api.Job, g *api.Group) {
			g.Constraints = []api.Constraint{{Operand: api.OperandDistinctHosts, RTarget: "true"}}
		}, refusal{
			Evaluated: 3, Exhausted: 3, Dimensions: map[string]int{"distinct_hosts": 3},
			Nearest: "n1: it runs another allocation of the job, which asks for distinct_hosts",
		}, 3},
		{"distinct_hosts that is false", constrained("", "distinct_hosts", "false"), refusal{}, 5},
		{"distinct_property with a limit", constrained("${meta.rack}", "distinct_property", "2"), refusal{
			Evaluated: 3, Exhausted: 3, Dimensions: map[string]int{"distinct_property ${meta.rack}": 3},
			Nearest: "n1: ${meta.rack} is odd, where the job has its 2 already",
		}, 4},
		{"distinct_property without one", constrained("${meta.rack}", "distinct_property", ""), refusal{
			Evaluated: 3, Exhausted: 3, Dimensions: map[string]int{"distinct_property ${meta.rack}": 3},
			Nearest: "n1: ${meta.rack} is odd, where the job has its 1 already",
		}, 2},
		{"distinct_property that nodes do not have", constrained("${meta.row}", "distinct_property", ""), refusal{
			Evaluated: 3, Filtered: 3, Rules: map[string]int{"distinct_property ${meta.row}": 3},
			Nearest: "n1: ${meta.row} is not set",
		}, 0},
		{"a static port", func(_ *api.Job, g *api.Group) {
			g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "web", Value: 8080}}}}
		}, refusal{
			Evaluated: 3, Exhausted: 3, Dimensions: map[string]int{"network: reserved port collision web=8080": 3},
			Nearest: "n1: port web=8080 is in use",
		}, 3},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			job := newJob("service", 5, tt.job)
			rack := func(n *api.Node) { n.Meta["rack"] = []string{"even", "odd"}[n.Ordinal%2] }
			c := newCluster(t, job, nodes(3, rack)...)
			plan := c.schedule()
			if diff := cmp.Diff(tt.want, refusalOf(plan)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
			if got := len(plan.Place); got != tt.put || plan.Groups["api"].Queued != 5-tt.put {
				t.Errorf("%d placed and %d queued, want %d and %d", got, plan.Groups["api"].Queued, tt.put, 5-tt.put)
			}
			if f := plan.Groups["api"].Failed; f != nil && f.CoalescedFailures != 4-tt.put {
				t.Errorf("%d further failures, want %d", f.CoalescedFailures, 4-tt.put)
			}
			if again := c.schedule(); !again.Empty() {
				t.Errorf("scheduling again: %+v, want an empty plan", c.outcome(again))
			}
		})
	}
}

// TestDistinctHostsOfAJobSpansItsGroups gives two groups two nodes.
func TestDistinctHostsOfAJobSpansItsGroups(t *testing.T) {
	for _, tt := range []struct {
		rule    string
		operand string
		left    string
	}{
		{"distinct_hosts", api.OperandDistinctHosts, ""},
		{"distinct_property", api.OperandDistinctProperty, "${node.unique.id}"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 1, constrained(tt.left, tt.operand, "")), nodes(3)...)
			other := *c.job.TaskGroups[0]
			other.Name = "other"
			c.job.TaskGroups = append(c.job.TaskGroups, &other)
			c.schedule()
			other.Count = 3
			plan := c.schedule()
			on := map[uint32]bool{}
			for _, a := range c.running() {
				on[a.Node] = true
			}
			if len(on) != 3 || len(c.running()) != 3 || plan.Groups["other"].Queued != 1 {
				t.Errorf("%d allocations on %d nodes, %d queued; want 3, 3, 1", len(c.running()), len(on), plan.Groups["other"].Queued)
			}
		})
	}
}

func TestOfferedNodesAreCounted(t *testing.T) {
	machines := []*api.Node{
		newNode(1), newNode(2, func(n *api.Node) { n.Datacenter = "dc2" }),
		newNode(3, func(n *api.Node) { n.NodePool, n.NodeClass = "gpu", "big" }),
		newNode(4, func(n *api.Node) { n.Status = api.NodeStatusDown }),
		newNode(5, func(n *api.Node) { n.NodeClass, n.NodeResources.Memory.MemoryMB = "small", 10 }),
	}
	job := newJob("service", 1, func(j *api.Job, _ *api.Group) { j.Datacenters = []string{"dc1", "dc9"} })
	plan := newCluster(t, job, machines...).schedule()
	m := plan.Groups["api"].Metric
	want := &api.AllocMetric{
		NodesEvaluated: 5, NodesFiltered: 3, NodesExhausted: 1, NodesInPool: 3,
		NodesAvailable:     map[string]int{"dc1": 2, "dc9": 0},
		ConstraintFiltered: map[string]int{"datacenter in dc1, dc9": 1, "node pool default": 1, "node is down": 1},
		ClassFiltered:      map[string]int{"big": 1},
		ClassExhausted:     map[string]int{"small": 1},
		DimensionExhausted: map[string]int{"memory": 1},
		ScoreMetaData:      m.ScoreMetaData,
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("metric (-want +got):\n%s", diff)
	}
	if len(m.ScoreMetaData) != 1 || m.ScoreMetaData[0].NodeID != machines[0].ID {
		t.Errorf("scores %+v, want those of n1", m.ScoreMetaData)
	}
}

func TestTheBestScoresAreListed(t *testing.T) {
	c := newCluster(t, newJob("service", 1), nodes(20)...)
	for i := range uint32(20) {
		c.view.Occupy(i+1, Usage{CPU: 100 * int64(i), MemoryMB: 200 * int64(i)})
	}
	plan := c.schedule()
	var got []string
	last := 2.0
	for _, s := range plan.Groups["api"].Metric.ScoreMetaData {
		got = append(got, s.NodeID[35:])
		if s.NormScore > last {
			t.Errorf("scores rise to %v after %v", s.NormScore, last)
		}
		last = s.NormScore
		if !slices.Equal(slices.Collect(maps.Keys(s.Scores)), []string{"binpack"}) {
			t.Errorf("scores %v, want binpack alone on nodes without the job", s.Scores)
		}
	}
	if diff := cmp.Diff([]string{"0", "9", "8", "7", "6"}, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if plan.Place[0].Node != 20 {
		t.Errorf("placed on node %d, want 20, the fullest", plan.Place[0].Node)
	}
}

func TestScores(t *testing.T) {
	for _, tt := range []struct {
		rule string
		give scores
		want float64
	}{
		{"bin packing alone", scores{binPack: 0.5}, 0.5},
		{"the mean with spread", scores{binPack: 0.5, spread: -0.1}, 0.2},
		{"the mean of all", scores{binPack: 0.6, spread: -0.3, replaced: -1}, -0.7 / 3},
	} {
		if got := tt.give.total(); got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("%s: %v, want %v", tt.rule, got, tt.want)
		}
	}
}

// TestAGroupIsSpreadEvenly places twice as many allocations as there are nodes.
func TestAGroupIsSpreadEvenly(t *testing.T) {
	c := newCluster(t, newJob("service", 20), nodes(10)...)
	on := map[uint32]int{}
	for _, p := range c.schedule().Place {
		on[p.Node]++
	}
	for n, count := range on {
		if count != 2 {
			t.Errorf("node %d has %d of 20 on 10 nodes, want 2", n, count)
		}
	}
}
