package scheduler

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/brumehq/brume/api"
)

// world is a cluster to which things happen.
type world struct {
	*cluster
	nodes   uint32
	version int
}

func newWorld(t *rapid.T) *world {
	jobType := rapid.SampledFrom([]string{"service", "batch"}).Draw(t, "type")
	job := newJob(jobType, rapid.IntRange(0, 8).Draw(t, "count"), func(j *api.Job, g *api.Group) {
		g.Tasks[0].Resources.MemoryMB = rapid.SampledFrom([]int{100, 2000, 4000}).Draw(t, "memory")
		network := &api.Network{}
		if rapid.Bool().Draw(t, "dynamic port") {
			network.DynamicPorts = []api.Port{{Label: "a"}, {Label: "b"}}
		}
		if rapid.Bool().Draw(t, "static port") {
			network.ReservedPorts = []api.Port{{Label: "web", Value: 25001}}
		}
		g.Networks = []*api.Network{network}
		if rapid.Bool().Draw(t, "distinct_hosts") {
			g.Constraints = append(g.Constraints, api.Constraint{Operand: api.OperandDistinctHosts})
		}
		if rapid.Bool().Draw(t, "distinct_property") {
			j.Constraints = append(j.Constraints, api.Constraint{
				LTarget: "${meta.rack}", Operand: api.OperandDistinctProperty, RTarget: "3",
			})
		}
		if rapid.Bool().Draw(t, "constraint") {
			j.Constraints = append(j.Constraints, api.Constraint{LTarget: "${meta.rack}", Operand: "!=", RTarget: "r0"})
		}
		if g.Update != nil {
			g.Update.MaxParallel = rapid.IntRange(0, 3).Draw(t, "max_parallel")
		}
	})
	w := &world{cluster: newCluster(t, job)}
	for range rapid.IntRange(0, 6).Draw(t, "nodes") {
		w.addNode()
	}
	return w
}

func (w *world) addNode() {
	w.nodes++
	w.putNode(w.nodes, func(*api.Node) {})
}

func (w *world) putNode(ordinal uint32, change func(*api.Node)) {
	w.view.PutNode(newNode(ordinal, func(n *api.Node) {
		n.Meta["rack"] = fmt.Sprintf("r%d", n.Ordinal%3)
		n.NodeResources.MinDynamicPort, n.NodeResources.MaxDynamicPort = 25000, 25006
		n.ReservedResources.Networks.ReservedHostPorts = "25003"
		change(n)
	}))
}

// happen is what can happen between two evaluations.
func (w *world) happen() map[string]func(*rapid.T) {
	anyAlloc := func(t *rapid.T) *Alloc {
		live := w.running()
		if len(live) == 0 {
			return nil
		}
		return live[rapid.IntRange(0, len(live)-1).Draw(t, "alloc")]
	}
	change := func(f func(*api.Node)) func(*rapid.T) {
		return func(t *rapid.T) {
			if w.nodes > 0 {
				w.putNode(rapid.Uint32Range(1, w.nodes).Draw(t, "node"), f)
			}
		}
	}
	return map[string]func(*rapid.T){
		"":           w.check,
		"settle":     func(*rapid.T) { w.settle() },
		"stop":       func(*rapid.T) { w.stopLeaving() },
		"time":       func(t *rapid.T) { w.now = w.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "s")) * time.Second) },
		"new node":   func(*rapid.T) { w.addNode() },
		"down":       change(func(n *api.Node) { n.Status = api.NodeStatusDown }),
		"ready":      change(func(*api.Node) {}),
		"ineligible": change(func(n *api.Node) { n.SchedulingEligibility = api.NodeIneligible }),
		"remove": func(t *rapid.T) {
			if w.nodes > 0 {
				w.view.RemoveNode(rapid.Uint32Range(1, w.nodes).Draw(t, "node"))
			}
		},
		"fail": func(t *rapid.T) {
			if a := anyAlloc(t); a != nil {
				w.end(a, api.AllocClientFailed)
			}
		},
		"complete": func(t *rapid.T) {
			if a := anyAlloc(t); a != nil {
				w.end(a, api.AllocClientComplete)
			}
		},
		"unhealthy": func(t *rapid.T) {
			if a := anyAlloc(t); a != nil {
				no := false
				a.Healthy = &no
			}
		},
		"user stop": func(t *rapid.T) {
			if a := anyAlloc(t); a != nil {
				a.StopRequested = true
			}
		},
		"count": func(t *rapid.T) {
			n := rapid.IntRange(0, 10).Draw(t, "count")
			w.job = nextVersion(w.job, func(_ *api.Job, g *api.Group) { g.Count = n })
		},
		"version": func(*rapid.T) {
			w.version++
			w.job = nextVersion(w.job, command(fmt.Sprint("v", w.version)))
		},
		"signal": func(t *rapid.T) {
			s := rapid.SampledFrom([]string{"SIGINT", "SIGTERM"}).Draw(t, "signal")
			w.job = nextVersion(w.job, func(_ *api.Job, g *api.Group) { g.Tasks[0].KillSignal = s })
		},
		"start or stop": func(*rapid.T) {
			w.job = nextVersion(w.job, func(j *api.Job, _ *api.Group) { j.Stop = !j.Stop })
		},
	}
}

// check schedules and holds a plan against every rule.
func (w *world) check(t *rapid.T) {
	dry := w.request()
	dry.DryRun = true
	w.seq--
	preview := Schedule(w.view, dry)
	plan := w.schedule()
	if diff := cmp.Diff(preview, plan); diff != "" {
		t.Fatalf("plan after its dry run:\n%s", diff)
	}
	w.checkCapacity(t)
	w.checkPlaces(t, plan)
	w.checkCount(t, plan)
	w.checkExplanation(t, plan)
	w.checkUpdate(t, plan)
	if again := w.schedule(); !again.Empty() {
		t.Fatalf("scheduling again is not empty: %+v", again)
	}
}

// checkCapacity holds that nothing is taken twice and that the view knows what is taken.
func (w *world) checkCapacity(t *rapid.T) {
	used := map[uint32]amounts{}
	ports := map[uint32]map[uint16]bool{}
	for i := range w.allocs {
		a := &w.allocs[i]
		if a.terminal() {
			continue
		}
		u := UsageOf(a.Job.Group(a.Group), a.Ports)
		used[a.Node] = used[a.Node].plus(u.amounts())
		for _, port := range a.Ports {
			if ports[a.Node] == nil {
				ports[a.Node] = map[uint16]bool{}
			}
			if ports[a.Node][port] || port == 25003 || port < 25000 || port > 25006 {
				t.Fatalf("port %d of node %d is taken twice, reserved or out of range", port, a.Node)
			}
			ports[a.Node][port] = true
		}
	}
	for ordinal := range w.nodes {
		ordinal++
		n := w.view.Node(ordinal)
		if n == nil {
			continue
		}
		have := amounts{n.NodeResources.Cpu.CpuShares, n.NodeResources.Memory.MemoryMB, n.NodeResources.Disk.DiskMB}
		left := have.minus(used[ordinal])
		if left.cpu < 0 || left.memory < 0 || left.disk < 0 {
			t.Fatalf("node %d is oversubscribed: %+v of %+v", ordinal, used[ordinal], have)
		}
		if got := w.view.Free(ordinal).amounts(); got != left {
			t.Fatalf("view says %+v are left on node %d, want %+v", got, ordinal, left)
		}
		node := &w.view.ports[w.view.slots[ordinal]]
		if want := 6 - len(ports[ordinal]); node.free != want {
			t.Fatalf("view says %d ports are free on node %d, want %d", node.free, ordinal, want)
		}
	}
}

// checkPlaces holds that placements are where the job allows them.
func (w *world) checkPlaces(t *rapid.T, plan *Plan) {
	rules := rulesOf(w.job, w.job.TaskGroups[0])
	for _, p := range plan.Place {
		if n := w.view.Node(p.Node); n == nil || closed(n) != "" || !rules.feasible(n) {
			t.Fatalf("placed on %+v", n)
		}
	}
	racks, hosts := map[string]int{}, map[uint32]int{}
	for _, a := range w.running() {
		hosts[a.Node]++
		if hosts[a.Node] > 1 && rules.groupHosts {
			t.Fatalf("node %d has two allocations in spite of distinct_hosts", a.Node)
		}
		rack := w.view.Node(a.Node).Meta["rack"]
		if racks[rack]++; racks[rack] > 3 && len(rules.properties) > 0 {
			t.Fatalf("rack %s has %d allocations in spite of distinct_property", rack, racks[rack])
		}
	}
}

// checkCount holds that each name is there once and as many as wanted, less what could not be placed.
func (w *world) checkCount(t *rapid.T, plan *Plan) {
	want := w.job.TaskGroups[0].Count
	if w.job.Stop {
		want = 0
	}
	names := map[int]bool{}
	have := 0
	for i := range w.allocs {
		a := &w.allocs[i]
		if a.DesiredStatus != api.AllocDesiredRun || w.job.Stop && a.terminal() {
			continue
		}
		if w.job.Type == api.JobTypeBatch && a.Index >= want && a.ClientStatus == api.AllocClientComplete {
			continue // finished, of a time when the count was higher
		}
		if names[a.Index] {
			t.Fatalf("there are two allocations with index %d", a.Index)
		}
		names[a.Index] = true
		have++
	}
	g := plan.Groups["api"]
	if g == nil {
		g = &GroupPlan{}
	}
	// What could not be placed is missing, or is an allocation of an older version that goes on, or failed and waits.
	if have > want || have+g.Queued < want {
		t.Fatalf("%d allocations and %d queued, want %d", have, g.Queued, want)
	}
}

// checkExplanation holds that the parts of an explanation add up and that something waits exactly if something is missing.
func (w *world) checkExplanation(t *rapid.T, plan *Plan) {
	queued := 0
	for _, g := range plan.Groups {
		queued += g.Queued
		if (g.Failed != nil) != (g.Queued > 0) {
			t.Fatalf("%d queued, explanation %+v", g.Queued, g.Failed)
		}
		for _, m := range []*api.AllocMetric{g.Failed, g.Metric} {
			if m == nil {
				continue
			}
			if total(m.ConstraintFiltered) != m.NodesFiltered || total(m.DimensionExhausted) != m.NodesExhausted {
				t.Fatalf("explanation does not add up: %+v", m)
			}
			if m.NodesEvaluated != w.view.Len() || total(m.NodesAvailable) > m.NodesInPool {
				t.Fatalf("explanation speaks of other nodes: %+v", m)
			}
		}
		if m := g.Failed; m != nil {
			if m.NodesEvaluated != m.NodesFiltered+m.NodesExhausted || m.CoalescedFailures != g.Queued-1 {
				t.Fatalf("explanation leaves nodes out: %+v for %d", m, g.Queued)
			}
			if (m.NearestMiss == "") != (m.NodesEvaluated == 0) {
				t.Fatalf("nearest miss of %d nodes is %q", m.NodesEvaluated, m.NearestMiss)
			}
		}
	}
	if (w.blocked != nil) != (queued > 0) {
		t.Fatalf("%d queued, blocked evaluation %+v", queued, w.blocked)
	}
}

func total(m map[string]int) int {
	sum := 0
	for _, n := range m {
		sum += n
	}
	return sum
}

// checkUpdate holds that an update never has more under way than it may.
func (w *world) checkUpdate(t *rapid.T, plan *Plan) {
	def, g := w.job.TaskGroups[0], plan.Groups["api"]
	if g == nil || g.Destructive == 0 || def.Update == nil || def.Update.MaxParallel == 0 {
		return
	}
	underWay := g.Queued
	for i := range w.allocs {
		if a := &w.allocs[i]; a.DesiredStatus == api.AllocDesiredRun && a.Job == w.job && !healthy(a) {
			underWay++
		}
	}
	if underWay > def.Update.MaxParallel {
		t.Fatalf("%d under way, want at most %d", underWay, def.Update.MaxParallel)
	}
}

func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(w.happen())
	})
}

// TestNodesOfAClassAnswerAlike holds that (*api.Node).Class covers all that rules of a class read.
func TestNodesOfAClassAnswerAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SampledFrom([]string{"", "1", "x"})
		changes := []func(*api.Node){
			func(n *api.Node) { n.Attributes["a"] = value.Draw(t, "a") },
			func(n *api.Node) { n.Attributes["driver.docker"] = value.Draw(t, "driver.docker") },
			func(n *api.Node) { n.Attributes["unique.b"] = value.Draw(t, "b") },
			func(n *api.Node) { n.Meta["c"] = value.Draw(t, "c") },
			func(n *api.Node) { n.Meta["unique.d"] = value.Draw(t, "d") },
			func(n *api.Node) { n.NodeClass = value.Draw(t, "class") },
			func(n *api.Node) { n.NodePool = rapid.SampledFrom([]string{"", "default", "gpu"}).Draw(t, "pool") },
			func(n *api.Node) { n.Datacenter = rapid.SampledFrom([]string{"dc1", "dc2"}).Draw(t, "datacenter") },
			func(n *api.Node) {
				n.Drivers["docker"] = &api.DriverStatus{
					Detected: rapid.Bool().Draw(t, "detected"), Healthy: rapid.Bool().Draw(t, "healthy"),
				}
			},
			func(n *api.Node) { delete(n.Drivers, "docker") },
		}
		a := newNode(1)
		for _, change := range changes {
			if rapid.Bool().Draw(t, "applies") {
				change(a)
			}
		}
		b := newNode(2, func(n *api.Node) {
			n.Attributes, n.Meta, n.Drivers = maps.Clone(a.Attributes), maps.Clone(a.Meta), maps.Clone(a.Drivers)
			n.NodeClass, n.NodePool, n.Datacenter = a.NodeClass, a.NodePool, a.Datacenter
			rapid.SampledFrom(changes).Draw(t, "change")(n)
		})
		if a.Class() != b.Class() {
			t.Skip("two classes")
		}
		targets := rapid.SampledFrom([]string{
			"${attr.a}", "${attr.unique.b}", "${meta.c}", "${meta.unique.d}", "${node.class}", "${node.pool}", "${node.datacenter}",
			"${node.unique.name}", "n1", "x",
		})
		job := newJob("service", 1, func(j *api.Job, g *api.Group) {
			g.Tasks[0].Driver = "docker"
			j.NodePool, j.Datacenters = "gpu", []string{"dc2"}
			j.Constraints = []api.Constraint{
				{LTarget: targets.Draw(t, "left"), Operand: "=", RTarget: targets.Draw(t, "right")},
				{LTarget: targets.Draw(t, "set"), Operand: api.OperandIsSet},
				{LTarget: targets.Draw(t, "property"), Operand: api.OperandDistinctProperty},
			}
		})
		for _, r := range rulesOf(job, job.TaskGroups[0]).class {
			if r.ok(a) != r.ok(b) {
				t.Fatalf("%s is %t for %+v and %t for %+v", r.text, r.ok(a), a, r.ok(b), b)
			}
		}
	})
}
