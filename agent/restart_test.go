package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
)

func TestNextRun(t *testing.T) {
	now := time.Unix(1000, 0)
	policy := func(attempts int, mode string) api.Restart {
		return api.Restart{Attempts: attempts, Interval: time.Minute, Delay: 0, Mode: mode}
	}
	used := func(count int, ago time.Duration) localdb.Restart {
		return localdb.Restart{Count: count, Since: now.Add(-ago)}
	}
	type result struct {
		restart, failed bool
		delay           time.Duration
		count           int
	}
	for _, tt := range []struct {
		name   string
		policy api.Restart
		batch  bool
		used   localdb.Restart
		o      outcome
		want   result
	}{
		{"a failure is tried again", policy(2, "fail"), false, localdb.Restart{}, outcome{}, result{restart: true, count: 1}},
		{"a service that exits well is started again", policy(2, "fail"), false, localdb.Restart{}, outcome{ok: true}, result{restart: true, count: 1}},
		{"a batch task that exits well is done", policy(2, "fail"), true, used(1, time.Second), outcome{ok: true}, result{count: 1}},
		{"a batch task that fails is tried again", policy(2, "fail"), true, used(1, time.Second), outcome{}, result{restart: true, count: 2}},
		{"mode fail gives up when attempts are used up", policy(2, "fail"), false, used(2, 59*time.Second), outcome{}, result{failed: true, count: 2}},
		{"a new interval gives new attempts", policy(2, "fail"), false, used(2, time.Minute), outcome{}, result{restart: true, count: 1}},
		{"mode delay waits for the interval to end", policy(2, "delay"), false, used(2, 20*time.Second), outcome{}, result{restart: true, delay: 40 * time.Second, count: 2}},
		{"mode delay without attempts waits a whole interval", policy(0, "delay"), false, localdb.Restart{}, outcome{}, result{restart: true, delay: time.Minute}},
		{"no attempts and mode fail is no restart", policy(0, "fail"), false, localdb.Restart{}, outcome{}, result{failed: true}},
		{"an unrecoverable start fails at once", policy(2, "delay"), false, localdb.Restart{}, outcome{err: errors.New("no such image")}, result{failed: true}},
		{"a recoverable start counts as a failure", policy(2, "fail"), true, localdb.Restart{}, outcome{err: errors.New("busy"), recover: true}, result{restart: true, count: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, u := nextRun(tt.policy, tt.batch, tt.used, tt.o, now, "seed")
			if diff := cmp.Diff(tt.want, result{d.restart, d.failed, d.delay, u.Count}, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("nextRun (-want +got):\n%s", diff)
			}
			if d.reason == "" {
				t.Error("no reason given")
			}
		})
	}
}

func TestRestartDelayIsSpreadByAQuarterAndRepeats(t *testing.T) {
	p := api.Restart{Attempts: 1, Interval: time.Hour, Delay: 20 * time.Second, Mode: "fail"}
	seen := map[time.Duration]bool{}
	for _, seed := range []string{"a/t", "b/t", "c/t", "d/t", "e/t", "f/t"} {
		d, _ := nextRun(p, false, localdb.Restart{}, outcome{}, time.Unix(0, 0), seed)
		again, _ := nextRun(p, false, localdb.Restart{}, outcome{}, time.Unix(0, 0), seed)
		if d.delay != again.delay {
			t.Errorf("seed %s: %s and then %s", seed, d.delay, again.delay)
		}
		if d.delay < p.Delay || d.delay > p.Delay*5/4 {
			t.Errorf("seed %s: delay %s, want 20s to 25s", seed, d.delay)
		}
		seen[d.delay] = true
	}
	if len(seen) < 5 {
		t.Errorf("six seeds gave %d delays", len(seen))
	}
}
