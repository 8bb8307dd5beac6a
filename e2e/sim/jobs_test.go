package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
	"github.com/brumehq/brume/api/client"
	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/fake"
)

func TestBatchJobRunsToItsEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		code   int
		client string
	}{
		"with success":   {0, api.AllocClientComplete},
		"with exit code": {7, api.AllocClientFailed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, c *Cluster) {
				c.Register(apitest.BatchJob(t, apitest.Count(5), once,
					config(map[string]any{"run_for": "3s", "exit_code": tt.code})))
				c.Settle(time.Second)
				if n := len(c.Allocs("web", Running)); n != 5 {
					t.Errorf("%d run after a second, want 5", n)
				}
				c.Settle(2 * time.Minute)
				all := c.Allocs("web")
				if len(all) != 5 || len(c.Ledger.Starts()) != 5 {
					t.Errorf("%d allocations, %d starts: want 5 of each", len(all), len(c.Ledger.Starts()))
				}
				for _, a := range all {
					if a.ClientStatus != tt.client || exitCode(a) != tt.code {
						t.Errorf("%s is %s with exit code %d, want %s with %d", a.Name, a.ClientStatus, exitCode(a), tt.client, tt.code)
					}
				}
				if j := c.Job("web"); j.Status != api.JobStatusDead {
					t.Errorf("job is %s, want dead", j.Status)
				}
			})
		})
	}
}

// once lets nothing of the job be tried again.
func once(j *api.Job) {
	g := j.TaskGroups[0]
	g.ReschedulePolicy = &api.Reschedule{}
	g.Tasks[0].RestartPolicy.Attempts, g.Tasks[0].RestartPolicy.Mode = 0, api.RestartModeFail
}

// exitCode is what the last run of an allocation's task ended with, -1 if it did not.
func exitCode(a *api.AllocationListStub) int {
	code := -1
	for _, e := range a.TaskStates[apitest.TaskName].Events {
		if e.Type == api.TaskTerminated {
			code = e.ExitCode
		}
	}
	return code
}

func TestStoppedJobStops(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, apitest.Count(4), config(map[string]any{"kill_after": "2s"})))
		c.Settle(time.Second)
		c.StopJob("web")
		c.Settle(time.Second)
		if n := len(c.Ledger.Running()); n != 4 {
			t.Errorf("%d tasks run while they take their two seconds to stop, want 4", n)
		}
		c.Settle(2 * time.Second)
		if n := len(c.Ledger.Running()); n != 0 {
			t.Errorf("%d tasks run, want 0", n)
		}
		if n := len(c.Allocs("web", Status(api.AllocClientComplete))); n != 4 {
			t.Errorf("%d allocations complete, want 4", n)
		}
		if j := c.Job("web"); j.Status != api.JobStatusDead || !j.Stop {
			t.Errorf("job is %s, stop %v: want dead, stopped", j.Status, j.Stop)
		}
	})
}

func TestStoppedAllocationIsReplaced(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(2)))
		c.Settle(time.Second)
		old := c.Allocs("web", Running)[0]
		if _, err := c.API.StopAllocation(context.Background(), old.ID, client.Query{}); err != nil {
			t.Fatal(err)
		}
		c.Settle(time.Second)
		var names []string
		for _, a := range c.Allocs("web", Running) {
			if a.ID == old.ID {
				t.Errorf("%s still runs", old.Name)
			}
			names = append(names, a.Name)
		}
		if len(names) != 2 || names[0] == names[1] || len(c.Ledger.Running()) != 2 {
			t.Errorf("%v run, %d tasks: want both instances", names, len(c.Ledger.Running()))
		}
	})
}

// Of a new version never more than max_parallel are not healthy yet, in what the hub says after each change and in what
// really runs at each start.
func TestRollingUpdateKeepsToMaxParallel(t *testing.T) {
	const count, parallel, healthy = 6, 2, 10 * time.Second
	job := func(t *testing.T, version string) *api.Job {
		return apitest.Job(t, forever, apitest.Count(count), func(j *api.Job) {
			j.TaskGroups[0].Update = api.NewUpdate()
			j.TaskGroups[0].Update.MaxParallel, j.TaskGroups[0].Update.MinHealthyTime = parallel, healthy
			j.TaskGroups[0].Tasks[0].Env = map[string]string{"VERSION": version}
		})
	}
	bubble(t, 3, func(t *testing.T, c *Cluster) {
		c.Register(job(t, "1"))
		c.Settle(healthy + time.Second)
		c.Ledger.OnStart(func(started Run, running []Run) {
			fresh := 0
			for _, r := range running {
				if r.Env["VERSION"] == "2" && time.Since(r.Started) < healthy {
					fresh++
				}
			}
			if fresh > parallel {
				t.Errorf("%d of the new version run for less than %s, want at most %d", fresh, healthy, parallel)
			}
			if len(running) < count-parallel {
				t.Errorf("%d run in all, want at least %d", len(running), count-parallel)
			}
		})
		began := time.Now()
		c.Register(job(t, "2"))
		samples := 0
		for index, done := uint64(0), 0; done < count; samples++ {
			all, meta, err := c.API.JobAllocations(context.Background(), "web", client.Query{Index: index})
			if err != nil {
				t.Fatal(err)
			}
			index, done = meta.Index, 0
			waiting := 0
			for _, a := range all {
				switch {
				case a.JobVersion != 1 || a.DesiredStatus != api.AllocDesiredRun:
				case Healthy(a):
					done++
				default:
					waiting++
				}
			}
			if waiting > parallel {
				t.Errorf("%d of the new version are not healthy yet, want at most %d", waiting, parallel)
			}
		}
		if samples < count {
			t.Errorf("only %d changes seen", samples)
		}
		if took := time.Since(began).Round(time.Second); took != healthy*count/parallel {
			t.Errorf("the update took %s, want %s", took, healthy*count/parallel)
		}
		c.Settle(time.Minute)
		if n := len(c.Ledger.Starts()); n != 2*count || len(c.Ledger.Running()) != count {
			t.Errorf("%d starts, %d run: want %d, %d", n, len(c.Ledger.Running()), 2*count, count)
		}
		if j := c.Job("web"); !j.Stable || j.Version != 1 {
			t.Errorf("version %d, stable %v: want version 1 stable", j.Version, j.Stable)
		}
	})
}

// An update that changes nothing of a task touches none.
func TestUpdateInPlaceRestartsNothing(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(4)))
		c.Settle(15 * time.Second)
		c.Register(apitest.Job(t, forever, apitest.Count(5), apitest.Priority(70)))
		c.Settle(30 * time.Second)
		if n := len(c.Ledger.Starts()); n != 5 {
			t.Errorf("%d starts, want the 4 and one more", n)
		}
		for _, a := range c.Allocs("web") {
			if a.JobVersion != 1 || !Running(a) {
				t.Errorf("%s is %s of version %d, want running of 1", a.Name, a.ClientStatus, a.JobVersion)
			}
		}
	})
}

// A failing task is started again on its node as its restart policy says, then elsewhere after a back-off that grows.
func TestFailingTaskIsRestartedThenRescheduled(t *testing.T) {
	const restartDelay, delay = 5 * time.Second, 30 * time.Second
	bubble(t, 3, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, config(map[string]any{"run_for": "1s", "exit_code": 1}), func(j *api.Job) {
			g := j.TaskGroups[0]
			g.Tasks[0].RestartPolicy = api.Restart{Attempts: 2, Interval: time.Minute, Delay: restartDelay, Mode: api.RestartModeFail}
			g.ReschedulePolicy = &api.Reschedule{
				Delay: delay, DelayFunction: api.DelayExponential, MaxDelay: time.Hour, Unlimited: true,
			}
		}))
		c.Settle(4 * time.Minute)
		starts := c.Ledger.Starts()
		if len(starts) != 9 {
			t.Fatalf("%d starts in four minutes, want 3 on each of 3 nodes", len(starts))
		}
		for i, r := range starts {
			if i == 0 {
				continue
			}
			last := starts[i-1]
			pause := r.Started.Sub(last.Started) - time.Second // that it ran for
			want, slack := restartDelay, restartDelay/4
			if i%3 == 0 {
				want, slack = delay<<(i/3-1), time.Second
			}
			if pause < want || pause > want+slack {
				t.Errorf("start %d comes %s after the end before it, want %s to %s", i, pause, want, want+slack)
			}
			if same := r.AllocID == last.AllocID; same != (i%3 != 0) {
				t.Errorf("start %d is of the same allocation: %v", i, same)
			}
			if i%3 == 0 && r.Node == last.Node {
				t.Errorf("start %d is on %s again", i, r.Node)
			}
		}
		all := c.Allocs("web")
		if n := len(c.Allocs("web", Status(api.AllocClientFailed))); n != 3 || len(all) != 3 {
			t.Errorf("%d of %d allocations failed, want 3 of 3", n, len(all))
		}
		for _, a := range all {
			if a.TaskStates[apitest.TaskName].Restarts != 2 || exitCode(a) != 1 {
				t.Errorf("%d restarts, exit code %d: want 2, 1", a.TaskStates[apitest.TaskName].Restarts, exitCode(a))
			}
		}
	})
}

func TestBlockedJobIsPlacedWhenANodeJoins(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *Cluster) {
		eval := c.Register(apitest.Job(t, forever, apitest.Count(4), apitest.Ask(100, MachineMemoryMB/2)))
		c.Settle(time.Second)
		e, _, err := c.API.Evaluation(context.Background(), eval, client.Query{})
		if err != nil {
			t.Fatal(err)
		}
		if e.BlockedEval == "" || e.QueuedAllocations[apitest.GroupName] != 2 {
			t.Errorf("blocked by %q, %v queued: want 2 queued", e.BlockedEval, e.QueuedAllocations)
		}
		if m := e.FailedTGAllocs[apitest.GroupName]; m == nil || m.DimensionExhausted["memory"] != 1 {
			t.Errorf("explained as %+v, want one node without memory", m)
		}
		c.NewAgent().Start().Await()
		c.Settle(time.Second)
		if n := len(c.Allocs("web", Running)); n != 4 {
			t.Errorf("%d run, want 4", n)
		}
		for _, a := range c.agents {
			if n := len(a.Driver.Running()); n != 2 {
				t.Errorf("%d on %s, want 2", n, a.Name)
			}
		}
	})
}

// Jobs that ask for the same room wait for each other.
func TestFreedRoomGoesToWhoWaits(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *Cluster) {
		for i := range 2 {
			c.Register(apitest.Job(t, forever, apitest.ID(fmt.Sprint("job-", i)), apitest.Ask(100, MachineMemoryMB)))
			c.Settle(time.Second)
		}
		if n := len(c.Allocs("job-1")); n != 0 {
			t.Fatalf("%d allocations of the second job beside the first, want none", n)
		}
		c.StopJob("job-0")
		c.Settle(time.Second)
		if n := len(c.Allocs("job-1", Running)); n != 1 {
			t.Errorf("%d allocations of the second job, want 1", n)
		}
	})
}

// A new version that does not work replaces no more of the old one than max_parallel, and the next one mends it.
func TestBrokenUpdateGoesNoFurther(t *testing.T) {
	const count, parallel = 6, 2
	job := func(t *testing.T, version string, task map[string]any) *api.Job {
		return apitest.Job(t, config(task), once, apitest.Count(count), func(j *api.Job) {
			j.TaskGroups[0].Update = api.NewUpdate()
			j.TaskGroups[0].Update.MaxParallel = parallel
			j.TaskGroups[0].Tasks[0].Env = map[string]string{"VERSION": version}
		})
	}
	versions := func(c *Cluster) map[string]int {
		n := make(map[string]int)
		for _, r := range c.Ledger.Running() {
			n[r.Env["VERSION"]]++
		}
		return n
	}
	bubble(t, 3, func(t *testing.T, c *Cluster) {
		c.Register(job(t, "1", map[string]any{}))
		c.Settle(15 * time.Second)
		c.Register(job(t, "2", map[string]any{"run_for": "1s", "exit_code": 1}))
		c.Settle(2 * time.Minute)
		if diff := cmp.Diff(map[string]int{"1": count - parallel}, versions(c)); diff != "" {
			t.Errorf("what runs beside the broken version (-want +got):\n%s", diff)
		}
		if n := len(c.Ledger.Starts()); n != count+parallel {
			t.Errorf("%d starts, want %d and %d of the broken version", n, count, parallel)
		}
		if j := c.Job("web"); j.Stable {
			t.Error("the broken version is called stable")
		}
		c.Register(job(t, "3", map[string]any{}))
		c.Settle(2 * time.Minute)
		if diff := cmp.Diff(map[string]int{"3": count}, versions(c)); diff != "" {
			t.Errorf("what runs of the version that mends it (-want +got):\n%s", diff)
		}
	})
}

// A driver that says it is not well gets nothing new, keeps what it runs, and gets what waited when it is well again.
func TestUnhealthyDriverGetsNothing(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *Cluster) {
		d := c.agents[0].Driver
		c.Register(apitest.Job(t, forever, apitest.ID("first")))
		c.Settle(time.Second)
		d.SetHealth(plugins.Unhealthy, "out of order")
		c.Settle(time.Second)
		if s := c.Node(c.agents[0]).Drivers[fake.Name]; s.Healthy || s.HealthDescription != "out of order" {
			t.Errorf("the node shows its driver as %+v", s)
		}
		c.Register(apitest.Job(t, forever, apitest.ID("second")))
		c.Settle(time.Second)
		if n := len(d.Running()); n != 1 || len(c.Allocs("second")) != 0 {
			t.Errorf("%d tasks run, %d allocations of the second job: want 1, 0", n, len(c.Allocs("second")))
		}
		d.SetHealth(plugins.Healthy, "")
		c.Settle(time.Second)
		if n := len(d.Running()); n != 2 {
			t.Errorf("%d tasks run, want 2", n)
		}
	})
}
