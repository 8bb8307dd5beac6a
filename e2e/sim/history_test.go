package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
	"github.com/brumehq/brume/api/client"
)

var histories = flag.Int("histories", someHistories, "how many random histories TestAnyHistoryEndsAsWanted runs")

const (
	historyAgents = 4
	historySteps  = 25
	taskMemory    = 1024 // MB: a machine holds eight
	historySlots  = historyAgents * MachineMemoryMB / taskMemory
	settleLimit   = 20 * time.Minute // for the cluster to become as wanted once all is healed
)

// Whatever breaks and comes back, in whatever order: when all is whole again, what is wanted runs, once, and nothing else
// does; and on the way no allocation runs twice at once and no node is given more than it has. A history that fails is
// run again by its name: -run 'TestAnyHistoryEndsAsWanted/seed=17$'.
func TestAnyHistoryEndsAsWanted(t *testing.T) {
	for seed := range *histories {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{
					Cluster: New(t, historyAgents), t: t, rng: rand.New(rand.NewPCG(uint64(seed), 0)), hubUp: true,
					jobs: make(map[string]*wanted), cut: make(map[*Agent]bool),
				}
				for range historySteps {
					h.step()
					h.checkHub()
				}
				h.heal()
				h.awaitWanted()
			})
		})
	}
}

// history is a cluster to which things happen.
type history struct {
	*Cluster
	t     *testing.T
	rng   *rand.Rand
	jobs  map[string]*wanted
	cut   map[*Agent]bool // machines off the network
	hubUp bool
}

// wanted is what a job is to run.
type wanted struct{ count, version int }

// step lets one thing happen, and some time pass.
func (h *history) step() {
	a := h.agents[h.rng.IntN(len(h.agents))]
	name, what := "", h.rng.IntN(20)
	switch {
	case what < 6 && h.hubUp:
		name = h.register()
	case what < 7 && h.hubUp:
		name = h.stopJob()
	case what < 8 && h.hubUp:
		name = h.stopAlloc()
	case what < 9:
		name = "crash on " + a.Name + ": " + h.crash(a)
	case what < 11 && !h.cut[a]:
		name, h.cut[a] = "cut "+a.Name, true
		a.Cut()
	case what < 13 && h.cut[a]:
		name, h.cut[a] = "heal "+a.Name, false
		a.Heal()
	case what < 14:
		name = "reset " + a.Name
		a.Reset()
	case what < 18:
		name = h.toggle(a)
	default:
		name = h.toggleHub()
	}
	pause := time.Duration(1+h.rng.IntN(1000)) * time.Millisecond
	if h.rng.IntN(3) == 0 {
		pause = time.Duration(h.rng.IntN(20)) * time.Second
	}
	h.t.Logf("%s, then %s pass", name, pause)
	h.Settle(pause)
}

// toggle stops, kills or starts an agent.
func (h *history) toggle(a *Agent) string {
	switch {
	case !a.Up():
		a.Start()
		return "start " + a.Name
	case h.cut[a] || h.rng.IntN(2) == 0:
		a.Stop()
		return "stop " + a.Name
	}
	a.Kill()
	return "kill " + a.Name
}

// toggleHub stops, kills or starts the hub.
func (h *history) toggleHub() string {
	h.hubUp = !h.hubUp
	switch {
	case h.hubUp:
		h.StartHub()
		return "start hub"
	case h.rng.IntN(2) == 0:
		h.StopHub()
		return "stop hub"
	}
	h.KillHub()
	return "kill hub"
}

// register submits a job or a new version of one, such that all jobs together fit on the machines.
func (h *history) register() string {
	id := fmt.Sprint("job-", h.rng.IntN(4))
	free := historySlots
	for other, w := range h.jobs {
		if other != id {
			free -= w.count
		}
	}
	w := &wanted{count: h.rng.IntN(min(free, 12) + 1)}
	if old := h.jobs[id]; old != nil {
		w.version = old.version + h.rng.IntN(2)
		if h.rng.IntN(2) == 0 {
			w.count = old.count
		}
	}
	h.jobs[id] = w
	h.Register(apitest.Job(h.t, forever, apitest.ID(id), apitest.Count(w.count), apitest.Ask(100, taskMemory), func(j *api.Job) {
		g := j.TaskGroups[0]
		g.Tasks[0].Env = map[string]string{"VERSION": strconv.Itoa(w.version)}
		g.Update = api.NewUpdate()
		g.Update.MaxParallel, g.Update.MinHealthyTime = 1+h.rng.IntN(3), time.Duration(1+h.rng.IntN(5))*time.Second
	}))
	return fmt.Sprintf("register %s: %d of version %d", id, w.count, w.version)
}

func (h *history) stopJob() string {
	ids := slices.Sorted(maps.Keys(h.jobs))
	if len(ids) == 0 {
		return "nothing"
	}
	id := ids[h.rng.IntN(len(ids))]
	h.StopJob(id)
	h.jobs[id] = &wanted{version: h.jobs[id].version}
	return "stop " + id
}

func (h *history) stopAlloc() string {
	all, _, err := h.API.Allocations(context.Background(), client.Query{})
	if err != nil {
		h.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(a *api.AllocationListStub) bool { return !Running(a) })
	if len(all) == 0 {
		return "nothing"
	}
	a := all[h.rng.IntN(len(all))]
	if _, err := h.API.StopAllocation(context.Background(), a.ID, client.Query{}); err != nil {
		h.t.Fatal(err)
	}
	return "stop " + a.Name
}

// crash ends a task on the agent's machine.
func (h *history) crash(a *Agent) string {
	runs := a.Driver.Running()
	if len(runs) == 0 {
		return "nothing"
	}
	r := runs[h.rng.IntN(len(runs))]
	if err := a.Driver.Signal(context.Background(), r.ID, "SIGKILL"); err != nil {
		h.t.Fatal(err)
	}
	return r.JobID + " " + r.AllocID
}

// checkHub checks what must hold at any time of what the hub says: no node has been given more than it has, and no
// instance of a job is wanted twice.
func (h *history) checkHub() {
	h.t.Helper()
	if !h.hubUp {
		return
	}
	all, _, err := h.API.Allocations(context.Background(), client.Query{Params: map[string]string{"resources": "true"}})
	if err != nil {
		h.t.Fatal(err)
	}
	memory, instances := make(map[string]int64), make(map[string]int)
	for _, a := range all {
		if api.ClientTerminal(a.ClientStatus) {
			continue
		}
		memory[a.NodeName] += a.AllocatedResources.Tasks[apitest.TaskName].Memory.MemoryMB
		if a.DesiredStatus == api.AllocDesiredRun {
			instances[a.Name]++
		}
	}
	for node, mb := range memory {
		if mb > MachineMemoryMB {
			h.t.Errorf("%s is given %d MB of its %d", node, mb, MachineMemoryMB)
		}
	}
	for name, n := range instances {
		if n > 1 {
			h.t.Errorf("%s is wanted %d times", name, n)
		}
	}
}

// heal makes everything whole.
func (h *history) heal() {
	if !h.hubUp {
		h.toggleHub()
	}
	for _, a := range h.agents {
		if a.Heal(); !a.Up() {
			a.Start()
		}
	}
	h.t.Log("all is healed")
}

// awaitWanted waits until the cluster is as wanted, and then that it stays so.
func (h *history) awaitWanted() {
	began := time.Now()
	for h.amiss() != nil && time.Since(began) < settleLimit {
		h.Settle(5 * time.Second)
		h.checkHub()
	}
	if err := h.amiss(); err != nil {
		h.t.Errorf("%s after all is healed: %v", settleLimit, err)
		return
	}
	h.t.Logf("as wanted after %s", time.Since(began))
	starts := len(h.Ledger.Starts())
	h.Settle(time.Minute)
	if err := h.amiss(); err != nil {
		h.t.Errorf("once all was as wanted, it did not stay so: %v", err)
	}
	if n := len(h.Ledger.Starts()) - starts; n != 0 {
		h.t.Errorf("%d more starts once all was as wanted", n)
	}
}

// amiss says in what the cluster is not as wanted: hub and machines must both show as many instances of each job as it is
// to have, of the right version and of different names, at the same places.
func (h *history) amiss() error {
	var errs []error
	want, says, runs := make(map[string]int), make(map[string]int), make(map[string]int) // by job and version
	for id, w := range h.jobs {
		if w.count > 0 {
			want[fmt.Sprint(id, " version ", w.version)] = w.count
		}
	}
	began := make(map[string]Run) // by allocation
	for _, r := range h.Ledger.Running() {
		began[r.AllocID] = r
		runs[r.JobID+" version "+r.Env["VERSION"]]++
	}
	all, _, err := h.API.Allocations(context.Background(), client.Query{})
	if err != nil {
		return err
	}
	names := make(map[string]bool)
	for _, a := range all {
		if !Running(a) {
			continue
		}
		if names[a.Name] {
			errs = append(errs, fmt.Errorf("the hub has %s running twice", a.Name))
		}
		names[a.Name] = true
		r, ok := began[a.ID]
		if !ok || r.Node != a.NodeName {
			errs = append(errs, fmt.Errorf("the hub has %s running on %s, which does not run it", a.Name, a.NodeName))
			continue
		}
		delete(began, a.ID)
		says[a.JobID+" version "+r.Env["VERSION"]]++
	}
	for _, r := range began {
		errs = append(errs, fmt.Errorf("%s runs allocation %s of %s, which is not wanted", r.Node, r.AllocID, r.JobID))
	}
	if diff := cmp.Diff(want, says); diff != "" {
		errs = append(errs, fmt.Errorf("the hub shows (-want +got):\n%s", diff))
	}
	if diff := cmp.Diff(want, runs); diff != "" {
		errs = append(errs, fmt.Errorf("the machines run (-want +got):\n%s", diff))
	}
	return errors.Join(errs...)
}
