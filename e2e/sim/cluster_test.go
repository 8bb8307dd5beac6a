package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestMain(m *testing.M) {
	oneProcessorUnderRace()
	goleak.VerifyTestMain(m)
}

// bubble runs f on a cluster of n agents in virtual time.
func bubble(t *testing.T, n int, f func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, New(t, n)) })
}

// forever makes the job's task run until it is stopped, whatever time passes.
func forever(j *api.Job) { j.TaskGroups[0].Tasks[0].Config = map[string]any{} }

// config sets the config of the job's task.
func config(m map[string]any) func(*api.Job) {
	return func(j *api.Job) { j.TaskGroups[0].Tasks[0].Config = m }
}

func TestJobRunsAndBecomesHealthy(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(6)))
		c.Settle(time.Second)
		if n := len(c.Allocs("web", Running)); n != 6 {
			t.Errorf("%d allocations run, want 6", n)
		}
		if n := len(c.Ledger.Running()); n != 6 {
			t.Errorf("%d tasks run, want 6", n)
		}
		for _, a := range c.agents {
			if n := len(a.Driver.Running()); n != 2 {
				t.Errorf("%d tasks on %s, want 2 of 6 on each of 3", n, a.Name)
			}
		}
		if n := len(c.Allocs("web", Healthy)); n != 0 {
			t.Errorf("%d healthy before min_healthy_time, want 0", n)
		}
		c.Settle(10 * time.Second)
		if n := len(c.Allocs("web", Healthy)); n != 6 {
			t.Errorf("%d healthy after it, want 6", n)
		}
		if j := c.Job("web"); j.Status != api.JobStatusRunning || !j.Stable {
			t.Errorf("job is %s, stable %v: want running and stable", j.Status, j.Stable)
		}
	})
}
