package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// silence is how long a link is silent before its ends call it broken.
const silence = 9 * time.Second

// runIDs are the ids of the runs, sorted: equal ids are the same processes.
func runIDs(runs []Run) []string {
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.Node+" "+r.ID)
	}
	slices.Sort(ids)
	return ids
}

// Whatever goes away for less than the grace and comes back finds its tasks running, and nothing was rescheduled.
func TestShortOutageMovesNothing(t *testing.T) {
	const short = api.NodeGrace - time.Second
	for name, outage := range map[string]func(c *Cluster, a *Agent){
		"the agent's network is silent": func(c *Cluster, a *Agent) {
			a.Cut()
			c.Settle(short)
			a.Heal()
		},
		"the agent's link is broken": func(_ *Cluster, a *Agent) { a.Reset() },
		"the agent is stopped and started": func(c *Cluster, a *Agent) {
			a.Stop()
			c.Settle(short)
			a.Start()
		},
		"the agent is killed and started": func(c *Cluster, a *Agent) {
			a.Kill()
			c.Settle(short)
			a.Start()
		},
		"the hub is stopped and started": func(c *Cluster, _ *Agent) {
			c.StopHub()
			c.Settle(short)
			c.StartHub()
		},
		"the hub is killed and started": func(c *Cluster, _ *Agent) {
			c.KillHub()
			c.StartHub()
		},
		"the hub is away for a long time": func(c *Cluster, _ *Agent) {
			c.StopHub()
			c.Settle(5 * time.Minute)
			c.StartHub()
		},
		"the hub and the agent are away, the agent comes back first": func(c *Cluster, a *Agent) {
			c.StopHub()
			a.Stop()
			c.Settle(time.Minute)
			a.Start()
			c.Settle(time.Minute)
			c.StartHub()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, c *Cluster) {
				c.Register(apitest.Job(t, forever, apitest.Count(4)))
				c.Settle(15 * time.Second)
				before, allocs := runIDs(c.Ledger.Running()), c.Allocs("web")
				outage(c, c.agents[0])
				c.Settle(30 * time.Second)
				if diff := cmp.Diff(before, runIDs(c.Ledger.Running())); diff != "" {
					t.Errorf("what runs (-before +after):\n%s", diff)
				}
				after := c.Allocs("web")
				if len(after) != len(allocs) || len(c.Allocs("web", Running, Healthy)) != 4 {
					t.Errorf("%d allocations, %d run and are healthy: want 4 of each", len(after), len(c.Allocs("web", Running, Healthy)))
				}
				for _, a := range after {
					if a.TaskStates[apitest.TaskName].Restarts != 0 {
						t.Errorf("%s was restarted", a.Name)
					}
				}
				if n := c.Node(c.agents[0]); n.Status != api.NodeStatusReady {
					t.Errorf("node is %s, want ready", n.Status)
				}
				c.Register(apitest.Job(t, forever, apitest.ID("next"), apitest.Count(2))) // and all works as before
				c.Settle(time.Second)
				if n := len(c.Allocs("next", Running)); n != 2 {
					t.Errorf("%d allocations of the next job run, want 2", n)
				}
			})
		})
	}
}

// A node that is away for longer is down, at a time that can be told; its work is placed elsewhere, and when it comes back
// the copies that it still runs are stopped.
func TestLongOutageMovesWork(t *testing.T) {
	for name, tt := range map[string]struct {
		leave, back func(*Agent)
		down        time.Duration // when the node is
	}{
		"the agent's network is silent": {(*Agent).Cut, (*Agent).Heal, silence + api.NodeGrace},
		"the agent is stopped":          {(*Agent).Stop, func(a *Agent) { a.Start() }, api.NodeGrace},
		"the agent is killed":           {(*Agent).Kill, func(a *Agent) { a.Start() }, api.NodeGrace},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, c *Cluster) {
				c.Register(apitest.Job(t, forever, apitest.Count(6)))
				c.Settle(15 * time.Second)
				a := c.agents[0]
				mine := runIDs(a.Driver.Running())
				tt.leave(a)
				c.Settle(api.NodeGrace - time.Second)
				if n := c.Node(a); n.Status != api.NodeStatusReady {
					t.Errorf("node is %s within the grace, want ready", n.Status)
				}
				c.Settle(tt.down - api.NodeGrace + 2*time.Second)
				if n := c.Node(a); n.Status != api.NodeStatusDown {
					t.Errorf("node is %s after %s, want down", n.Status, tt.down+time.Second)
				}
				if n := len(c.Allocs("web", Running)); n != 6 || len(c.Allocs("web", Running, On(a))) != 0 {
					t.Errorf("%d run, %d of them there: want 6 elsewhere", n, len(c.Allocs("web", Running, On(a))))
				}
				if n := len(c.Allocs("web", Status(api.AllocClientLost), On(a))); n != len(mine) {
					t.Errorf("%d are lost, want %d", n, len(mine))
				}
				if diff := cmp.Diff(mine, runIDs(a.Driver.Running())); diff != "" {
					t.Errorf("what runs on the node that is away (-before +now):\n%s", diff)
				}
				tt.back(a)
				c.Settle(15 * time.Second)
				if n := c.Node(a); n.Status != api.NodeStatusReady {
					t.Errorf("node that is back is %s, want ready", n.Status)
				}
				if n := len(a.Driver.Running()); n != 0 {
					t.Errorf("%d copies still run on it, want none", n)
				}
				if n := len(c.Ledger.Running()); n != 6 || len(c.Allocs("web", Running)) != 6 {
					t.Errorf("%d tasks run, %d by the hub: want 6 each", n, len(c.Allocs("web", Running)))
				}
			})
		})
	}
}

// What ends while nobody can be told is told later, with its true exit code, and is not run again.
func TestEndsAreNotLost(t *testing.T) {
	for name, outage := range map[string]func(c *Cluster, a *Agent){
		"the agent is away": func(c *Cluster, a *Agent) {
			a.Kill()
			c.Settle(3 * time.Second)
			a.Start()
		},
		"the hub is away": func(c *Cluster, _ *Agent) {
			c.KillHub()
			c.Settle(time.Minute)
			c.StartHub()
		},
		"the network is silent": func(c *Cluster, a *Agent) {
			a.Cut()
			c.Settle(3 * time.Second)
			a.Heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, c *Cluster) {
				c.Register(apitest.BatchJob(t, apitest.Count(3), once, config(map[string]any{"run_for": "2s", "exit_code": 5})))
				c.Settle(time.Second)
				outage(c, c.agents[0])
				c.Settle(20 * time.Second)
				for _, a := range c.Allocs("web") {
					if a.ClientStatus != api.AllocClientFailed || exitCode(a) != 5 {
						t.Errorf("%s is %s with exit code %d, want failed with 5", a.Name, a.ClientStatus, exitCode(a))
					}
				}
				if n := len(c.Ledger.Starts()); n != 3 || len(c.Allocs("web")) != 3 {
					t.Errorf("%d starts of %d allocations, want 3 of 3", n, len(c.Allocs("web")))
				}
			})
		})
	}
}

// A job that is stopped while its node is away stops there when the node is back.
func TestStopReachesANodeThatWasAway(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(2)))
		c.Settle(time.Second)
		a := c.agents[0]
		a.Kill()
		c.StopJob("web")
		c.Settle(2 * time.Second)
		if n := len(a.Driver.Running()); n != 2 {
			t.Errorf("%d tasks run while the agent is away, want 2", n)
		}
		a.Start().Await()
		c.Settle(5 * time.Second)
		if n := len(a.Driver.Running()); n != 0 {
			t.Errorf("%d tasks run, want 0", n)
		}
		if j := c.Job("web"); j.Status != api.JobStatusDead {
			t.Errorf("job is %s, want dead", j.Status)
		}
	})
}

// All agents of a cluster are back after their hub was away before it calls any of them down.
func TestManyAgentsComeBackInTime(t *testing.T) {
	const agents, each = 40, 3
	bubble(t, 0, func(t *testing.T, c *Cluster) {
		for range agents {
			a := c.NewAgent()
			a.Config.Leaf = true // so many members in gossip take their real time
			a.Start()
		}
		for _, a := range c.agents {
			a.Await()
		}
		c.Register(apitest.Job(t, forever, apitest.Count(agents*each), apitest.Ask(100, MachineMemoryMB/each)))
		c.Settle(15 * time.Second)
		before := runIDs(c.Ledger.Running())
		if len(before) != agents*each {
			t.Fatalf("%d tasks run, want %d", len(before), agents*each)
		}
		c.KillHub()
		c.Settle(30 * time.Second)
		c.StartHub()
		c.Settle(30 * time.Second)
		if diff := cmp.Diff(before, runIDs(c.Ledger.Running())); diff != "" {
			t.Errorf("what runs (-before +after):\n%s", diff)
		}
		if n := len(c.Allocs("web")); n != agents*each {
			t.Errorf("%d allocations, want %d: none was replaced", n, agents*each)
		}
	})
}
