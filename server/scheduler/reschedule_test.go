package scheduler

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

func TestDelaysGrow(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		rule   string
		policy api.Reschedule
		want   []time.Duration
	}{
		{"constant stays", api.Reschedule{DelayFunction: api.DelayConstant, Delay: 5 * s}, []time.Duration{5 * s, 5 * s, 5 * s}},
		{"exponential doubles", api.Reschedule{DelayFunction: api.DelayExponential, Delay: 5 * s},
			[]time.Duration{5 * s, 10 * s, 20 * s, 40 * s}},
		{"fibonacci adds the last two", api.Reschedule{DelayFunction: api.DelayFibonacci, Delay: 5 * s},
			[]time.Duration{5 * s, 5 * s, 10 * s, 15 * s, 25 * s, 40 * s}},
		{"max_delay bounds them", api.Reschedule{DelayFunction: api.DelayExponential, Delay: 30 * s, MaxDelay: 100 * s},
			[]time.Duration{30 * s, 60 * s, 100 * s, 100 * s}},
		{"without max_delay they never turn back", api.Reschedule{DelayFunction: api.DelayExponential, Delay: 1 << 61},
			[]time.Duration{1 << 61, 1 << 62, math.MaxInt64, math.MaxInt64}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			var events []*api.RescheduleEvent
			var got []time.Duration
			for range tt.want {
				d := nextDelay(&tt.policy, events)
				got = append(got, d)
				events = append(events, &api.RescheduleEvent{Delay: d})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("delays (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFibonacciBeginsAnewAfterAReset(t *testing.T) {
	policy := &api.Reschedule{DelayFunction: api.DelayFibonacci, Delay: 5 * time.Second}
	events := []*api.RescheduleEvent{{Delay: 40 * time.Second}, {Delay: 5 * time.Second}}
	if got := nextDelay(policy, events); got != 5*time.Second {
		t.Errorf("the delay after a reset is %v, want 5s", got)
	}
}

func TestBackOff(t *testing.T) {
	m := time.Minute
	limited := &api.Reschedule{Attempts: 2, Interval: 10 * m, Delay: m, DelayFunction: api.DelayConstant}
	growing := &api.Reschedule{Unlimited: true, Delay: m, DelayFunction: api.DelayExponential, MaxDelay: 8 * m}
	for _, tt := range []struct {
		rule   string
		policy *api.Reschedule
		events []time.Duration // how long before the failure, each with a delay of 4 minutes
		ran    time.Duration
		want   time.Duration
		ok     bool
	}{
		{"no policy, no replacement", nil, nil, m, 0, false},
		{"no attempts, no replacement", &api.Reschedule{Delay: m, Interval: m}, nil, m, 0, false},
		{"the first waits for delay", limited, nil, m, m, true},
		{"attempts in the interval are used up", limited, []time.Duration{9 * m, 2 * m}, m, 0, false},
		{"attempts before it do not count", limited, []time.Duration{19 * m, 11 * m, 2 * m}, m, m, true},
		{"unlimited never ends", growing, make([]time.Duration, 100), m, 8 * m, true},
		{"one that ran longer than max_delay begins again", growing, []time.Duration{20 * m}, 9 * m, m, true},
		{"one that ran less does not", growing, []time.Duration{20 * m}, 7 * m, 8 * m, true},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			a := &Alloc{CreateTime: start.Add(-tt.ran).UnixNano(), Tracker: &api.RescheduleTracker{}}
			for _, before := range tt.events {
				e := &api.RescheduleEvent{RescheduleTime: start.Add(-before).UnixNano(), Delay: 4 * m}
				a.Tracker.Events = append(a.Tracker.Events, e)
			}
			got, ok := backOff(tt.policy, a, start)
			if got != tt.want || ok != tt.ok {
				t.Errorf("backOff = %v, %t; want %v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestNodeClocksDoNotChangeTheBackOff(t *testing.T) {
	for _, tt := range []struct {
		rule     string
		finished time.Duration // after the start, on the node's clock
		want     time.Duration
	}{
		{"a time in between is taken", 5 * time.Second, 5 * time.Second},
		{"a slow clock cannot put the end before the beginning", -time.Hour, 0},
		{"a fast one cannot put it after now", time.Hour, 10 * time.Second},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			a := &Alloc{CreateTime: start.UnixNano(), FinishedAt: start.Add(tt.finished).UnixNano()}
			if got := a.failedAt(start.Add(10 * time.Second)).Sub(start); got != tt.want {
				t.Errorf("failed %v after the start, want %v", got, tt.want)
			}
		})
	}
}

func TestAFailureIsFollowedUp(t *testing.T) {
	c := newCluster(t, newJob("service", 3), nodes(3)...)
	c.schedule()
	c.settle()
	failed := []*Alloc{c.named(0), c.named(1)}
	c.end(failed[0], api.AllocClientFailed)
	c.now = c.now.Add(500 * time.Millisecond)
	c.end(failed[1], api.AllocClientFailed)
	c.now = c.now.Add(2 * time.Second)
	c.end(c.named(2), api.AllocClientFailed)

	plan := c.schedule()
	if len(plan.FollowUp) != 2 || len(plan.Wait) != 3 {
		t.Fatalf("%d evaluations for %d back-offs, want 2 for 3", len(plan.FollowUp), len(plan.Wait))
	}
	first := plan.FollowUp[0]
	if want := start.Add(30*time.Second + 500*time.Millisecond); !first.WaitUntil.Equal(want) {
		t.Errorf("waits until %v, want %v: the end of the last of its back-offs", first.WaitUntil, want)
	}
	if first.TriggeredBy != api.EvalTriggerRetryFailedAlloc || first.Status != api.EvalStatusPending ||
		first.PreviousEval != plan.Eval.ID || plan.Eval.NextEval != first.ID {
		t.Errorf("follow-up is %+v of %s", first, plan.Eval.ID)
	}
	for _, a := range failed {
		if got := c.alloc(a.ID).FollowUp.String(); got != first.ID {
			t.Errorf("allocation %d waits for %q, want %q", a.Index, got, first.ID)
		}
	}

	// The evaluation that was planned for it replaces an allocation even if the hub's clock says otherwise.
	c.evalID, c.trigger = first.ID, first.TriggeredBy
	plan = c.schedule()
	if diff := cmp.Diff(outcome{Place: []int{0, 1}, Stop: []int{0, 1}}, c.outcome(plan)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	for _, p := range plan.Place {
		old := c.alloc(p.Previous)
		want := &api.RescheduleTracker{LastReschedule: "ok", Events: []*api.RescheduleEvent{{
			RescheduleTime: c.now.UnixNano(), PrevAllocID: old.ID.String(), PrevNodeID: c.view.Node(old.Node).ID,
			Delay: 30 * time.Second,
		}}}
		if diff := cmp.Diff(want, p.Tracker); diff != "" {
			t.Errorf("tracker of %d (-want +got):\n%s", p.Index, diff)
		}
	}
}

func TestTrackers(t *testing.T) {
	limited := &api.Reschedule{Attempts: 3, Interval: time.Hour, Delay: time.Second, DelayFunction: api.DelayConstant}
	unlimited := &api.Reschedule{Unlimited: true, Delay: time.Second, DelayFunction: api.DelayConstant}
	for _, tt := range []struct {
		rule   string
		policy *api.Reschedule
		ages   []time.Duration
		want   int
	}{
		{"the first event is kept", limited, nil, 1},
		{"events are inherited", limited, []time.Duration{3 * time.Minute, 2 * time.Minute}, 3},
		{"those before the interval are forgotten, but the last", limited, []time.Duration{5 * time.Hour, 3 * time.Hour}, 2},
		{"unlimited keeps a few", unlimited, make([]time.Duration, 40), trackedEvents},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			a := &Alloc{ID: ID{9}}
			for _, age := range tt.ages {
				if a.Tracker == nil {
					a.Tracker = &api.RescheduleTracker{}
				}
				e := &api.RescheduleEvent{RescheduleTime: start.Add(-age).UnixNano()}
				a.Tracker.Events = append(a.Tracker.Events, e)
			}
			got := tracked(tt.policy, a, nil, time.Second, start)
			if len(got.Events) != tt.want || got.Events[tt.want-1].PrevAllocID != a.ID.String() {
				t.Errorf("%d events, want %d, the last one the newest", len(got.Events), tt.want)
			}
		})
	}
}

func TestALostAllocationHandsItsTrackerOn(t *testing.T) {
	c := newCluster(t, newJob("service", 1), nodes(2)...)
	c.schedule()
	c.settle()
	tracker := &api.RescheduleTracker{Events: []*api.RescheduleEvent{{Delay: time.Minute}}}
	c.named(0).Tracker = tracker
	c.view.RemoveNode(c.named(0).Node)
	if plan := c.schedule(); len(plan.Place) != 1 || plan.Place[0].Tracker != tracker {
		t.Errorf("plan %+v, want one placement with the tracker", plan.Place)
	}
}

func TestAReplacementAvoidsTheNodeThatFailedIt(t *testing.T) {
	c := newCluster(t, newJob("service", 1), nodes(2)...)
	for range 6 {
		c.schedule()
		c.settle()
		a := c.named(0)
		c.end(a, api.AllocClientFailed)
		c.now = c.now.Add(2 * time.Hour)
		plan := c.schedule()
		if len(plan.Place) != 1 || plan.Place[0].Node == a.Node {
			t.Fatalf("replaced on %+v, want the node that is not %d", plan.Place, a.Node)
		}
	}
	c.view.RemoveNode(1)
	c.schedule()
	c.settle()
	c.end(c.named(0), api.AllocClientFailed)
	c.now = c.now.Add(2 * time.Hour)
	if plan := c.schedule(); len(plan.Place) != 1 || plan.Place[0].Node != 2 {
		t.Errorf("placed %+v, want node 2: there is no other", plan.Place)
	}
}
