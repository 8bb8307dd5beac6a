package scheduler

import (
	"math"
	"time"

	"github.com/brumehq/brume/api"
)

// trackedEvents is how many events a tracker keeps where attempts are not limited: what the next delay is computed from,
// and a little history for people.
const trackedEvents = 5

// followUpWindow is how far apart two back-offs may end to share one evaluation.
const followUpWindow = time.Second

// backOff says when the allocation a, which ended at failed, may be replaced; ok is false if it may not be any more.
func backOff(policy *api.Reschedule, a *Alloc, failed time.Time) (delay time.Duration, ok bool) {
	if policy == nil {
		return 0, false
	}
	var events []*api.RescheduleEvent
	if a.Tracker != nil {
		events = a.Tracker.Events
	}
	if !policy.Unlimited && attemptsSince(events, failed.Add(-policy.Interval)) >= policy.Attempts {
		return 0, false
	}
	delay = nextDelay(policy, events)
	if longest := policy.MaxDelay; longest > 0 && len(events) > 0 && failed.UnixNano()-a.CreateTime > int64(longest) {
		delay = policy.Delay // it ran for longer than any back-off: this is a new failure
	}
	return delay, true
}

func attemptsSince(events []*api.RescheduleEvent, start time.Time) int {
	n := 0
	for _, e := range events {
		if e.RescheduleTime >= start.UnixNano() {
			n++
		}
	}
	return n
}

// nextDelay grows the delays of the events before it: constant, exponential (twice the last) or fibonacci (the sum of the
// last two), never above MaxDelay.
func nextDelay(policy *api.Reschedule, events []*api.RescheduleEvent) time.Duration {
	delay := policy.Delay
	if n := len(events); n > 0 {
		last := events[n-1].Delay
		switch policy.DelayFunction {
		case api.DelayExponential:
			delay = max(delay, sum(last, last))
		case api.DelayFibonacci:
			before := time.Duration(0)
			if n > 1 && events[n-2].Delay <= last {
				before = events[n-2].Delay // not the end of a longer back-off before a reset
			}
			delay = max(delay, sum(last, before))
		}
	}
	if policy.MaxDelay > 0 {
		delay = min(delay, policy.MaxDelay)
	}
	return delay
}

// sum adds two delays, up to the longest that there is.
func sum(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// tracked is the tracker of the allocation that replaces a, which failed on the node prev.
func tracked(policy *api.Reschedule, a *Alloc, prev *api.Node, delay time.Duration, now time.Time) *api.RescheduleTracker {
	var events []*api.RescheduleEvent
	if a.Tracker != nil {
		events = a.Tracker.Events
	}
	first := 0
	if policy.Unlimited {
		first = max(0, len(events)-trackedEvents+1)
	} else {
		start := now.Add(-policy.Interval).UnixNano()
		for first < len(events)-1 && events[first].RescheduleTime < start {
			first++ // the last one is kept for its delay
		}
	}
	event := &api.RescheduleEvent{RescheduleTime: now.UnixNano(), PrevAllocID: a.ID.String(), Delay: delay}
	if prev != nil {
		event.PrevNodeID = prev.ID
	}
	kept := append(make([]*api.RescheduleEvent, 0, len(events)-first+1), events[first:]...)
	return &api.RescheduleTracker{Events: append(kept, event), LastReschedule: "ok"}
}
