package agent

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
)

// outcome is how one run of a task ended, or why it did not begin.
type outcome struct {
	ok      bool  // ended with exit code 0
	err     error // it did not start
	recover bool  // with err: the driver says that trying again may help
}

// decision is what follows an outcome.
type decision struct {
	restart bool
	delay   time.Duration
	failed  bool   // with !restart: the task failed
	reason  string // for the task's history
}

// nextRun decides after an outcome whether and when a task runs again, and returns what is then used up of its policy.
// At most Attempts restarts are made in an Interval that begins with the first of them. Each waits for Delay and up to a
// quarter more: the addition is a hash of seed and the number of the restart, so that tasks that failed together do not
// start together and a test can know it. When the attempts are used up, mode "fail" gives up and "delay" waits for the
// end of the interval. A batch task that succeeded is done; a service task is started again however it ended.
func nextRun(p api.Restart, batch bool, used localdb.Restart, o outcome, now time.Time, seed string) (decision, localdb.Restart) {
	switch {
	case o.err != nil && !o.recover:
		return decision{failed: true, reason: "the error is not one that trying again would mend"}, used
	case o.ok && batch:
		return decision{reason: "the task is complete"}, used
	case p.Attempts == 0 && p.Mode != api.RestartModeDelay:
		return decision{failed: true, reason: "its policy allows no restarts"}, used
	}
	if used.Count == 0 || now.Sub(used.Since) >= p.Interval {
		used = localdb.Restart{Since: now} // Next is for the caller to set
	}
	if used.Count < p.Attempts {
		used.Count++
		delay := p.Delay + jitter(p.Delay, fmt.Sprintf("%s/%d", seed, used.Count))
		return decision{restart: true, delay: delay,
			reason: fmt.Sprintf("restart %d of %d within %s", used.Count, p.Attempts, p.Interval)}, used
	}
	if p.Mode == api.RestartModeDelay {
		wait := max(used.Since.Add(p.Interval).Sub(now), p.Delay)
		return decision{restart: true, delay: wait,
			reason: fmt.Sprintf("%d restarts within %s are used up: waiting for the next interval", p.Attempts, p.Interval)}, used
	}
	return decision{failed: true,
		reason: fmt.Sprintf("%d restarts within %s are used up and the mode is %q", p.Attempts, p.Interval, api.RestartModeFail)}, used
}

// jitter is between nothing and a quarter of d, the same for the same seed.
func jitter(d time.Duration, seed string) time.Duration {
	if d < 4 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(seed))
	return time.Duration(h.Sum64() % uint64(d/4))
}
