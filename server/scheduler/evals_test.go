package scheduler

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

func TestWhatCannotBePlacedIsBlocked(t *testing.T) {
	c := newCluster(t, newJob("service", 3, constrained("${attr.kernel.name}", "=", "plan9")), nodes(1)...)
	c.view.PutNode(newNode(2, func(n *api.Node) {
		n.Attributes["kernel.name"] = "plan9"
		n.NodeResources.Memory.MemoryMB = 400
	}))
	plan := c.schedule()
	b := plan.Blocked
	if b == nil || len(plan.Place) != 1 {
		t.Fatalf("%d placed and blocked %v, want 1 and an evaluation", len(plan.Place), b)
	}
	want := &api.Evaluation{
		ID: b.ID, Namespace: "default", JobID: "web", Type: "service", Priority: 50,
		TriggeredBy: api.EvalTriggerQueuedAllocs, Status: api.EvalStatusBlocked, StatusDescription: "waits for capacity",
		PreviousEval:      plan.Eval.ID,
		ClassEligibility:  map[string]bool{c.view.Node(1).ComputedClass: false, c.view.Node(2).ComputedClass: true},
		QueuedAllocations: map[string]int{"api": 2},
		FailedTGAllocs:    map[string]*api.AllocMetric{"api": plan.Groups["api"].Failed},
		CreateTime:        start.UnixNano(), ModifyTime: start.UnixNano(),
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("blocked evaluation (-want +got):\n%s", diff)
	}
	if e := plan.Eval; e.Status != api.EvalStatusComplete || e.BlockedEval != b.ID || e.QueuedAllocations["api"] != 2 || e.FailedTGAllocs["api"] == nil {
		t.Errorf("evaluation %+v, want it complete, naming what is blocked and why", e)
	}

	// Another evaluation updates it.
	again := c.schedule()
	if again.Blocked == nil || again.Blocked.ID != b.ID || again.Cancelled != nil {
		t.Errorf("blocked %v after another evaluation, want %s still", again.Blocked, b.ID)
	}

	// Woken without enough room, it is blocked again itself.
	c.evalID, c.trigger, c.blocked = b.ID, b.TriggeredBy, nil
	again = c.schedule()
	if again.Blocked != nil || again.Eval.Status != api.EvalStatusBlocked || again.Eval.ID != b.ID || again.Eval.BlockedEval != "" {
		t.Errorf("woken evaluation ends %s with blocked %v, want it blocked itself", again.Eval.Status, again.Blocked)
	}

	// Woken with room, it completes.
	c.view.PutNode(newNode(3, func(n *api.Node) { n.Attributes["kernel.name"] = "plan9" }))
	again = c.schedule()
	if again.Eval.Status != api.EvalStatusComplete || len(again.Place) != 2 || again.Eval.QueuedAllocations["api"] != 0 {
		t.Errorf("with room it is %s and places %d, want complete and 2", again.Eval.Status, len(again.Place))
	}
	if again.Eval.ClassEligibility != nil || again.Eval.FailedTGAllocs != nil {
		t.Errorf("it keeps %v and %v of its time as a blocked one", again.Eval.ClassEligibility, again.Eval.FailedTGAllocs)
	}
}

func TestABlockedEvaluationIsCancelledWhenNothingIsMissing(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		change func(*cluster)
		why    string
	}{
		{"another evaluation placed all", func(c *cluster) { c.view.PutNode(newNode(1)) },
			"evaluation eeeeeeee-0000-4000-8000-000000000002 placed what it waited for"},
		{"the job is stopped", func(c *cluster) {
			c.job = nextVersion(c.job, func(j *api.Job, _ *api.Group) { j.Stop = true })
		}, "the job is stopped"},
		{"the job is gone", func(c *cluster) { c.job = nil }, "the job is stopped"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCluster(t, newJob("service", 1))
			blocked := c.schedule().Blocked
			tt.change(c)
			got := c.schedule().Cancelled
			if got == nil || got.ID != blocked.ID || got.Status != api.EvalStatusCanceled || got.StatusDescription != tt.why {
				t.Errorf("cancelled %+v, want %s: %s", got, blocked.ID, tt.why)
			}
			if blocked.Status != api.EvalStatusBlocked {
				t.Error("the evaluation of the request was changed")
			}
		})
	}
}

func TestRulesOnWhatIsUniqueEscapeTheClass(t *testing.T) {
	for _, tt := range []struct {
		left string
		want bool
	}{{"${attr.kernel.name}", false}, {"${attr.unique.hostname}", true}, {"${node.unique.id}", true}, {"${meta.unique.x}", true}} {
		plan := newCluster(t, newJob("service", 1, constrained(tt.left, "=", "x")), nodes(2)...).schedule()
		if plan.Blocked == nil || plan.Blocked.EscapedComputedClass != tt.want {
			t.Errorf("%s: blocked %+v, want escaped %t", tt.left, plan.Blocked, tt.want)
		}
		for class, eligible := range plan.Blocked.ClassEligibility {
			if eligible != tt.want {
				t.Errorf("%s: class %s eligible %t, want %t", tt.left, class, eligible, tt.want)
			}
		}
	}
}

// TestOneClassIsAskedOnce holds what classes are for: a rule is evaluated for each class, not for each node.
func TestOneClassIsAskedOnce(t *testing.T) {
	c := newCluster(t, newJob("service", 10), nodes(100)...)
	asked := 0
	p := &pass{v: c.view, job: c.job, req: &Request{}, src: newSource([16]byte{}), plan: &Plan{}}
	g := &group{name: "api", def: c.job.TaskGroups[0], plan: &GroupPlan{}}
	p.fill(nil)
	pl := p.newPlacer(g, nil)
	pl.rules.class = append(pl.rules.class, rule{ok: func(*api.Node) bool { asked++; return true }})
	pl.survey()
	if asked != 1 || len(c.view.scratch.heap) != 100 {
		t.Errorf("a rule was asked %d times for %d nodes of one class, want once for 100", asked, len(c.view.scratch.heap))
	}
}
