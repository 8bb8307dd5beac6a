package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

// outcome is what a plan does, by index of the allocations.
type outcome struct {
	Place, Stop, Lost, InPlace, Wait []int
	Queued                           int
}

func (c *cluster) outcome(plan *Plan) outcome {
	c.t.Helper()
	var o outcome
	for _, p := range plan.Place {
		o.Place = append(o.Place, p.Index)
	}
	for _, s := range plan.Stop {
		if s.Description == "" {
			c.t.Errorf("stop of %s has no description", s.ID)
		}
		if s.ClientStatus != "" {
			o.Lost = append(o.Lost, c.alloc(s.ID).Index)
		} else {
			o.Stop = append(o.Stop, c.alloc(s.ID).Index)
		}
	}
	for _, id := range plan.InPlace {
		o.InPlace = append(o.InPlace, c.alloc(id).Index)
	}
	for _, w := range plan.Wait {
		o.Wait = append(o.Wait, c.alloc(w.ID).Index)
	}
	for _, g := range plan.Groups {
		o.Queued += g.Queued
	}
	for _, list := range [][]int{o.Place, o.Stop, o.Lost, o.InPlace, o.Wait} {
		slices.Sort(list)
	}
	return o
}

// TestReconcile starts from a job of three that run and are healthy, one on each of three nodes.
func TestReconcile(t *testing.T) {
	no := false
	fail := func(c *cluster, index int) { c.end(c.named(index), api.AllocClientFailed) }
	down := func(c *cluster, a *Alloc) {
		c.view.PutNode(newNode(a.Node, func(n *api.Node) { n.Status = api.NodeStatusDown }))
	}
	ineligible := func(n *api.Node) { n.SchedulingEligibility = api.NodeIneligible }
	setCount := func(count int) func(*cluster) {
		return func(c *cluster) {
			c.job = nextVersion(c.job, func(_ *api.Job, g *api.Group) { g.Count = count })
		}
	}
	for _, tt := range []struct {
		rule    string
		jobType string
		given   func(*cluster)
		want    outcome
	}{
		{"no change, no plan", "service", func(*cluster) {}, outcome{}},
		{"a higher count takes the lowest free names", "service", setCount(5),
			outcome{Place: []int{3, 4}, InPlace: []int{0, 1, 2}}},
		{"a lower count stops the highest names", "service", setCount(1),
			outcome{Stop: []int{1, 2}, InPlace: []int{0}}},
		{"a lower count stops the unhealthy first", "service", func(c *cluster) {
			c.named(0).Healthy = &no
			setCount(2)(c)
		}, outcome{Stop: []int{0}, InPlace: []int{1, 2}}},
		{"a lower count stops the failed first", "service", func(c *cluster) {
			fail(c, 1)
			setCount(2)(c)
		}, outcome{Stop: []int{1}, InPlace: []int{0, 2}}},
		{"count zero stops all", "service", setCount(0), outcome{Stop: []int{0, 1, 2}}},
		{"a freed name is used again", "service", func(c *cluster) {
			c.named(1).DesiredStatus = api.AllocDesiredStop
		}, outcome{Place: []int{1}}},
		{"a stopped job stops all", "service", func(c *cluster) {
			c.job = nextVersion(c.job, func(j *api.Job, _ *api.Group) { j.Stop = true })
		}, outcome{Stop: []int{0, 1, 2}}},
		{"a job that is gone stops all", "service", func(c *cluster) { c.job = nil }, outcome{Stop: []int{0, 1, 2}}},
		{"a group that is gone is stopped", "service", func(c *cluster) {
			c.job = nextVersion(c.job, func(_ *api.Job, g *api.Group) { g.Name = "other" })
		}, outcome{Place: []int{0, 1, 2}, Stop: []int{0, 1, 2}}},
		{"a node that is down loses its allocations, which are replaced", "service", func(c *cluster) {
			down(c, c.named(1))
		}, outcome{Place: []int{1}, Lost: []int{1}}},
		{"a node that is gone loses them too", "service", func(c *cluster) {
			c.view.RemoveNode(c.named(2).Node)
		}, outcome{Place: []int{2}, Lost: []int{2}}},
		{"what is stopping on a node that is down is lost, not replaced", "service", func(c *cluster) {
			a := c.named(2)
			setCount(2)(c)
			a.DesiredStatus = api.AllocDesiredStop
			down(c, a)
		}, outcome{Lost: []int{2}, InPlace: []int{0, 1}}},
		{"an ineligible node keeps what it runs", "service", func(c *cluster) {
			c.view.PutNode(newNode(c.named(0).Node, ineligible))
		}, outcome{}},
		{"a node that is not ready yet keeps what it runs", "service", func(c *cluster) {
			c.view.PutNode(newNode(c.named(0).Node, func(n *api.Node) { n.Status = api.NodeStatusInit }))
		}, outcome{}},
		{"a user's stop is a stop and a replacement", "service", func(c *cluster) {
			c.named(1).StopRequested = true
		}, outcome{Place: []int{1}, Stop: []int{1}}},
		{"a failed service waits for its back-off", "service", func(c *cluster) { fail(c, 1) }, outcome{Wait: []int{1}}},
		{"a service that ends by itself waits for it too", "service", func(c *cluster) {
			c.end(c.named(1), api.AllocClientComplete)
		}, outcome{Wait: []int{1}}},
		{"a failed service that is never replaced keeps its name", "service", func(c *cluster) {
			c.job.TaskGroups[0].ReschedulePolicy = nil
			fail(c, 1)
		}, outcome{}},
		{"after its back-off it is replaced", "service", func(c *cluster) {
			fail(c, 1)
			c.now = c.now.Add(30 * time.Second)
		}, outcome{Place: []int{1}, Stop: []int{1}}},
		{"a new version does not wait for the back-off of the old", "service", func(c *cluster) {
			fail(c, 1)
			c.job = nextVersion(c.job, command("fixed"))
		}, outcome{Place: []int{1}, Stop: []int{1}}},
		{"a finished batch allocation is not run again", "batch", func(c *cluster) {
			c.end(c.named(1), api.AllocClientComplete)
		}, outcome{}},
		{"a finished batch group stays finished", "batch", func(c *cluster) {
			for i := range 3 {
				c.end(c.named(i), api.AllocClientComplete)
			}
		}, outcome{}},
		{"a finished batch allocation on a node that is down is not run again", "batch", func(c *cluster) {
			a := c.named(1)
			c.end(a, api.AllocClientComplete)
			down(c, a)
		}, outcome{}},
		{"a higher count runs only the new names of a batch job", "batch", func(c *cluster) {
			for i := range 3 {
				c.end(c.named(i), api.AllocClientComplete)
			}
			setCount(5)(c)
		}, outcome{Place: []int{3, 4}}},
		{"a lower count stops the names of a batch job that are beyond it", "batch", func(c *cluster) {
			c.end(c.named(0), api.AllocClientComplete)
			c.end(c.named(2), api.AllocClientComplete)
			setCount(1)(c)
		}, outcome{Stop: []int{1}}},
		{"a new version of a batch job runs all of it", "batch", func(c *cluster) {
			c.end(c.named(0), api.AllocClientComplete)
			c.end(c.named(1), api.AllocClientFailed)
			c.job = nextVersion(c.job, command("other"))
		}, outcome{Place: []int{0, 1, 2}, Stop: []int{0, 1, 2}}},
		{"a purged batch job that comes back runs again", "batch", func(c *cluster) {
			for i := range 3 {
				c.end(c.named(i), api.AllocClientComplete)
			}
			j := *c.job
			j.CreateIndex = 100
			c.job = &j
		}, outcome{Place: []int{0, 1, 2}, Stop: []int{0, 1, 2}}},
		{"a stopped batch job keeps what is finished", "batch", func(c *cluster) {
			c.end(c.named(0), api.AllocClientComplete)
			c.end(c.named(1), api.AllocClientFailed)
			c.job = nextVersion(c.job, func(j *api.Job, _ *api.Group) { j.Stop = true })
		}, outcome{Stop: []int{1, 2}}},
		{"a lost batch allocation is run again", "batch", func(c *cluster) {
			down(c, c.named(1))
		}, outcome{Place: []int{1}, Lost: []int{1}}},
		{"a batch allocation that a user stopped is run again", "batch", func(c *cluster) {
			a := c.named(1)
			a.DesiredStatus = api.AllocDesiredStop
			c.end(a, api.AllocClientComplete)
		}, outcome{Place: []int{1}}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob(tt.jobType, 3), nodes(3)...)
			c.schedule()
			c.settle()
			tt.given(c)
			plan := c.schedule()
			if diff := cmp.Diff(tt.want, c.outcome(plan)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if again := c.schedule(); !again.Empty() {
				t.Errorf("scheduling again: %+v, want an empty plan", c.outcome(again))
			}
		})
	}
}

func TestFirstPlanPlacesEachNameOnce(t *testing.T) {
	c := newCluster(t, newJob("service", 4), nodes(4)...)
	plan := c.schedule()
	if diff := cmp.Diff(outcome{Place: []int{0, 1, 2, 3}}, c.outcome(plan)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	on := map[uint32]bool{}
	ids := map[ID]bool{}
	for _, p := range plan.Place {
		on[p.Node], ids[p.ID] = true, true
	}
	if len(on) != 4 || len(ids) != 4 {
		t.Errorf("4 allocations have %d nodes and %d ids, want 4 of each", len(on), len(ids))
	}
	if plan.Eval.Status != api.EvalStatusComplete || plan.Blocked != nil {
		t.Errorf("evaluation is %s with blocked %v, want complete and none", plan.Eval.Status, plan.Blocked)
	}
}

func TestEqualInputsGiveEqualPlans(t *testing.T) {
	job := newJob("service", 50, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{DynamicPorts: []api.Port{{Label: "http"}}}}
	})
	first := newCluster(t, job, nodes(20)...)
	backwards := nodes(20)
	slices.Reverse(backwards)
	second := newCluster(t, job, backwards...)
	second.view.PutNode(newNode(99))
	second.view.RemoveNode(99)
	for step := range 3 {
		a, b := Schedule(first.view, first.request()), Schedule(second.view, second.request())
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("step %d: plans differ with the order of nodes:\n%s", step, diff)
		}
		first.commit(a)
		second.commit(b)
		for i := range 5 {
			first.end(first.named(i*step), api.AllocClientFailed)
			second.end(second.named(i*step), api.AllocClientFailed)
			if step == 0 {
				break
			}
		}
		slices.Reverse(second.allocs)
		first.now, second.now = first.now.Add(time.Minute), second.now.Add(time.Minute)
	}
}

func TestDryRunLeavesTheViewAsItWas(t *testing.T) {
	c := newCluster(t, newJob("service", 3, func(_ *api.Job, g *api.Group) {
		g.Networks = []*api.Network{{ReservedPorts: []api.Port{{Label: "http", Value: 80}}}}
	}), nodes(3)...)
	req := c.request()
	req.DryRun = true
	dry := Schedule(c.view, req)
	req.DryRun = false
	if diff := cmp.Diff(dry, Schedule(c.view, req)); diff != "" {
		t.Errorf("a plan after its dry run differs:\n%s", diff)
	}
}

func TestOtherJobTypesAreRefused(t *testing.T) {
	c := newCluster(t, newJob("service", 1, func(j *api.Job, _ *api.Group) { j.Type = "system" }), nodes(1)...)
	plan := c.schedule()
	want := "jobs of type system are not supported yet"
	if plan.Eval.Status != api.EvalStatusFailed || plan.Eval.StatusDescription != want || !plan.Empty() {
		t.Errorf("evaluation is %s: %s; want failed: %s", plan.Eval.Status, plan.Eval.StatusDescription, want)
	}
}

func TestIDsAreUUIDsOfTheSeed(t *testing.T) {
	id := ID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8}
	if got, want := id.String(), "12345678-9abc-def0-0102-030405060708"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
	if got := (ID{}).String(); got != "" {
		t.Errorf("zero ID is %q, want none", got)
	}
	src := newSource([16]byte{1})
	seen := map[string]bool{}
	for range 1000 {
		s := src.id().String()
		if s[14] != '4' || s[19] != '8' && s[19] != '9' && s[19] != 'a' && s[19] != 'b' || seen[s] {
			t.Fatalf("%s is not a fresh version 4 UUID", s)
		}
		seen[s] = true
	}
	if a, b := newSource([16]byte{1}).id(), newSource([16]byte{2}).id(); a == b {
		t.Errorf("two seeds give the same id %s", a)
	}
}

// TestOneOfTwoWithOneNameStays gives a job of one, healthy and running, a twin that is worse in one way.
func TestOneOfTwoWithOneNameStays(t *testing.T) {
	no := false
	for rule, worse := range map[string]func(*Alloc){
		"not the older version": func(a *Alloc) { old := *a.Job; a.Job = &old; a.Job.Version-- },
		"not the unhealthy":     func(a *Alloc) { a.Healthy = &no },
		"not the pending":       func(a *Alloc) { a.ClientStatus = api.AllocClientPending },
		"not the younger":       func(a *Alloc) { a.CreateTime++ },
	} {
		t.Run(rule, func(t *testing.T) {
			c := newCluster(t, nextVersion(newJob("service", 1), func(*api.Job, *api.Group) {}), nodes(1)...)
			c.schedule()
			c.settle()
			twin := c.allocs[0]
			twin.ID = ID{} // before the other in the order of ids, where nothing else decides
			twin.ID[15] = 1
			worse(&twin)
			c.allocs = append(c.allocs, twin)
			plan := c.schedule()
			if len(plan.Stop) != 1 || plan.Stop[0].ID != twin.ID || len(plan.Place) > 0 {
				t.Errorf("stops %+v and places %d, want the twin %s stopped", plan.Stop, len(plan.Place), twin.ID)
			}
		})
	}
}
