package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
	"github.com/brumehq/brume/server/scheduler"
	"github.com/brumehq/brume/server/state"
)

// log is a Raft log of one: what is proposed is applied, in order, when it is waited for or land is called.
type log struct {
	t     testing.TB
	store *state.Store
	clock func() time.Time

	mu      sync.Mutex
	index   uint64
	entries []state.Plan
	refuse  error // of the next plan
	refused int   // proposals that were too large or cannot be written
}

// maxPlan bounds an encoded plan here: far below what the hub takes, so that nothing comes near that.
const maxPlan = 1 << 20

func newLog(t testing.TB) *log { return &log{t: t, store: state.New(), clock: time.Now} }

// propose applies at once: the log commits without delay.
func (l *log) propose(cmd state.Command) (Wait, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if plan, ok := cmd.(state.Plan); ok {
		if err := l.refuse; err != nil {
			l.refuse = nil
			return func() (any, error) { return nil, err }, nil
		}
		l.entries = append(l.entries, plan)
	}
	entry, err := state.Encode(state.Header{Time: l.clock().UnixNano()}, cmd)
	if _, ok := cmd.(state.Plan); ok && err == nil && len(entry) > maxPlan {
		err = api.E(api.ErrInvalid, fmt.Sprintf("%d bytes", len(entry)))
	}
	if err != nil {
		l.refused++
		return nil, err
	}
	l.index++
	result, err := l.store.Apply(l.index, entry)
	return func() (any, error) { return result, err }, nil
}

// commit applies a command that is not the planner's and tells the planner, if there is one.
func (l *log) commit(p *Planner, cmd state.Command) any {
	l.t.Helper()
	wait, err := l.propose(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	result, err := wait()
	if err != nil {
		l.t.Fatal(err)
	}
	if p != nil {
		p.Committed(cmd, result)
	}
	return result
}

func (l *log) planner() *Planner {
	return New(Config{Store: l.store, Propose: l.propose, Log: slog.New(slog.NewTextHandler(l.t.Output(), nil))})
}

func (l *log) plans() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

func (l *log) rows(job string, match func(*state.Row) bool) (n int) {
	for r := range l.store.Snapshot().RowsOfJob(api.DefaultNamespace, job) {
		if match(r) {
			n++
		}
	}
	return n
}

func alive(r *state.Row) bool { return !r.ClientTerminal() && r.DesiredStatus() == api.AllocDesiredRun }

// register commits a job with its evaluation and returns that.
func (l *log) register(p *Planner, j *api.Job) *api.Evaluation {
	e := evalOf(j.ID, func(e *api.Evaluation) { e.Priority = j.Priority })
	l.commit(p, state.RegisterJob{Job: j, Eval: e})
	return e
}

// bubble runs f with a planner that runs, in virtual time.
func bubble(t *testing.T, f func(t *testing.T, l *log, p *Planner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		p := l.planner()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		f(t, l, p)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("planner ended with %v", err)
		}
	})
}

// A node that goes down between a plan and its commit takes no placement: what was dropped is given back to the view and
// its evaluation is pending again.
func TestDroppedPlacementIsGivenBack(t *testing.T) {
	l := newLog(t)
	node := apitest.Node(t)
	l.commit(nil, state.PutNode{Node: node})
	e := l.register(nil, apitest.Job(t, apitest.ID("web"), apitest.Count(3)))
	p := l.planner()
	p.rebuild()
	p.schedule(p.queue.next())
	if len(p.open) != 1 || len(p.occupied) != 3 {
		t.Fatalf("%d entries, %d placements, want 1 and 3", len(p.open), len(p.occupied))
	}
	l.commit(nil, state.NodeStatus{IDs: []string{node.ID}, Status: api.NodeStatusDown})
	p.flying, p.open = p.open, nil
	wait, err := l.propose(p.flying[0].cmd)
	if err != nil {
		t.Fatal(err)
	}
	result, err := wait()
	if err := p.land(landing{result, err}); err != nil {
		t.Fatal(err)
	}
	if len(p.occupied) != 0 {
		t.Errorf("%d placements still occupied, want 0", len(p.occupied))
	}
	if ev := l.store.Snapshot().Eval(e.ID); ev.Status != api.EvalStatusPending {
		t.Errorf("evaluation is %s, want pending", ev.Status)
	}
	if work := p.queue.next(); work == nil || work.name.ID != "web" {
		t.Errorf("next job is %v, want web again", work)
	}
}

// A placement that is dropped from an early entry of a large plan is found missing when the last one has ended the
// evaluation.
func TestDropFromEarlyEntryIsPlannedAgain(t *testing.T) {
	node := func(id, name string) *api.Node {
		return apitest.Node(t, apitest.Capacity(1e9, 1e9), func(n *api.Node) {
			n.ID, n.Name, n.NodeResources.Disk.DiskMB = id, name, 1e9
		})
	}
	bubble(t, func(t *testing.T, l *log, p *Planner) {
		bad, good := node("00000000-0000-8000-8000-00000000000b", "bad"), node("00000000-0000-8000-8000-00000000000a", "good")
		l.commit(p, state.PutNode{Node: bad})
		l.commit(p, state.PutNode{Node: good})
		synctest.Wait()
		j := apitest.Job(t, apitest.ID("web"), apitest.Count(maxRows), apitest.Ask(1, 10))
		last := *j.TaskGroups[0]
		last.Name, last.Count = "last", 10
		j.TaskGroups = append(j.TaskGroups, &last)
		for i, name := range []string{"bad", "good"} {
			j.TaskGroups[i].Constraints = []api.Constraint{{LTarget: "${node.unique.name}", Operand: api.OperandEqual, RTarget: name}}
		}
		down := state.NodeStatus{IDs: []string{bad.ID}, Status: api.NodeStatusDown}
		l.commit(nil, down) // the planner hears of it only later
		e := l.register(p, j)
		synctest.Wait()
		if n := l.rows("web", alive); n != 10 {
			t.Fatalf("%d placed, want those of the last entry", n)
		}
		l.commit(p, state.NodeStatus{IDs: []string{bad.ID}, Status: api.NodeStatusReady})
		synctest.Wait()
		if n := l.rows("web", alive); n != maxRows+10 {
			t.Errorf("%d placed in the end, want %d", n, maxRows+10)
		}
		if ev := l.store.Snapshot().Eval(e.ID); ev.Status != api.EvalStatusComplete {
			t.Errorf("evaluation is %s, want complete", ev.Status)
		}
		for ev := range l.store.Snapshot().OpenEvals() {
			t.Errorf("evaluation %s is %s, want none open", ev.ID, ev.Status)
		}
	})
}

// A refused plan fails its evaluation with the reason, and the job is looked at again after a minute.
func TestRefusedPlanIsFollowedUp(t *testing.T) {
	bubble(t, func(t *testing.T, l *log, p *Planner) {
		l.commit(p, state.PutNode{Node: apitest.Node(t)})
		l.refuse = errors.New("disk is on fire")
		e := l.register(p, apitest.Job(t, apitest.ID("web")))
		synctest.Wait()
		if ev := l.store.Snapshot().Eval(e.ID); ev.Status != api.EvalStatusFailed || ev.NextEval == "" {
			t.Errorf("evaluation is %s, next %q: want failed, with a follow-up", ev.Status, ev.NextEval)
		}
		time.Sleep(retryFailed + time.Second)
		synctest.Wait()
		if n := l.rows("web", alive); n != 1 {
			t.Errorf("%d placed after the follow-up, want 1", n)
		}
	})
}

// However much there is to explain, what the planner writes fits the log.
func TestExplanationsFitEntries(t *testing.T) {
	bubble(t, func(t *testing.T, l *log, p *Planner) {
		for i := range 300 { // each of a class of its own
			n := apitest.Node(t)
			n.ID, n.Name = fmt.Sprintf("00000000-0000-8000-8000-%012d", i), fmt.Sprint("n", i)
			n.Attributes = map[string]string{"class": fmt.Sprint(i)}
			n.ComputedClass = n.Class()
			l.commit(p, state.PutNode{Node: n})
		}
		synctest.Wait()
		for i := range 300 {
			l.register(nil, apitest.Job(t, apitest.ID(fmt.Sprint("waits", i)), apitest.Ask(1<<30, 10)))
		}
		many := apitest.Job(t, apitest.ID("many"), apitest.Ask(1<<30, 10))
		group := *many.TaskGroups[0]
		for i := range 2_000 {
			g := group
			g.Name = fmt.Sprintf("group-%0100d", i)
			many.TaskGroups = append(many.TaskGroups, &g)
		}
		l.register(nil, many)
		for range 50 {
			l.commit(nil, state.PutEvals{Evals: []*api.Evaluation{evalOf("many")}})
		}
		l.register(p, apitest.Job(t, apitest.ID("fits")))
		for e := range l.store.Snapshot().OpenEvals() {
			p.Committed(state.PutEvals{Evals: []*api.Evaluation{e}}, nil)
		}
		synctest.Wait()
		if l.refused > 0 {
			t.Errorf("%d entries did not fit", l.refused)
		}
		if n := l.rows("fits", alive); n != 1 {
			t.Errorf("%d placed of the job that fits, want 1", n)
		}
		for ev := range l.store.Snapshot().OpenEvals() {
			if ev.Status != api.EvalStatusBlocked {
				t.Errorf("evaluation of %s is %s, want it blocked", ev.JobID, ev.Status)
				break
			}
		}
	})
}

// What follows an entry that cannot be written is not written either: it was placed on a view that counts on the first.
func TestNothingFollowsAnEntryThatCannotBeWritten(t *testing.T) {
	l := newLog(t)
	l.commit(nil, state.PutNode{Node: apitest.Node(t)})
	p := l.planner()
	p.cfg.Propose = func(state.Command) (Wait, error) { return nil, errors.New("too large") }
	p.rebuild()
	p.open = []*entry{{}, {}}
	p.fill()
	if len(p.flying) != 1 || len(p.open) != 1 {
		t.Errorf("%d entries in flight and %d held back, want 1 and 1", len(p.flying), len(p.open))
	}
	if p.fill(); len(p.flying) != 1 {
		t.Errorf("%d entries in flight before the first has landed, want 1", len(p.flying))
	}
}

func TestLostLeadershipEndsThePlanner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.commit(nil, state.PutNode{Node: apitest.Node(t)})
		l.register(nil, apitest.Job(t))
		l.refuse = api.ErrNoLeader
		if err := l.planner().Run(t.Context()); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("Run: %v, want no leader", err)
		}
	})
}

// All evaluations of a job that are ready are answered by one look, each with the outcome.
func TestEvaluationsOfAJobShareOneLook(t *testing.T) {
	l := newLog(t)
	l.commit(nil, state.PutNode{Node: apitest.Node(t)})
	first := l.register(nil, apitest.Job(t, apitest.ID("web")))
	second := evalOf("web", func(e *api.Evaluation) { e.TriggeredBy = api.EvalTriggerNodeUpdate })
	l.commit(nil, state.PutEvals{Evals: []*api.Evaluation{second}})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.planner().Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, e := range []*api.Evaluation{first, second} {
		if ev := l.store.Snapshot().Eval(e.ID); ev.Status != api.EvalStatusComplete {
			t.Errorf("evaluation by %s is %s, want complete", ev.TriggeredBy, ev.Status)
		}
	}
	if n := l.plans(); n != 1 {
		t.Errorf("%d plans, want 1", n)
	}
}

// What waits for room costs no entry each time something changes that does not help it.
func TestFruitlessRetryWritesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, l *log, p *Planner) {
		node := apitest.Node(t, apitest.Capacity(1000, 1000))
		l.commit(p, state.PutNode{Node: node})
		l.register(p, apitest.Job(t, apitest.ID("web"), apitest.Ask(5000, 100)))
		synctest.Wait()
		time.Sleep(explainEvery)
		before := l.plans()
		for i := range 10 {
			again := *node
			again.Attributes = map[string]string{"unique.round": fmt.Sprint(i)}
			l.commit(p, state.PutNode{Node: &again})
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if n := l.plans() - before; n > 1 {
			t.Errorf("%d entries for ten fruitless looks, want at most one new explanation", n)
		}
	})
}

// A failed allocation waits for its follow-up evaluation as long as that is pending: one that was decided does not come
// again, so the next look must not believe in it.
func TestDecidedFollowUpIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, l *log, p *Planner) {
		l.commit(p, state.PutNode{Node: apitest.Node(t)})
		job := apitest.Job(t, apitest.ID("web"))
		l.register(p, job)
		synctest.Wait()
		name := state.JobName{Namespace: job.Namespace, ID: job.ID}
		failed := allocsOf(l.store.Snapshot(), name)[0].ID
		l.commit(p, state.AllocStatuses{
			Statuses: []*api.AllocStatus{{ID: failed.String(), ClientStatus: api.AllocClientFailed}},
			Evals:    []*api.Evaluation{evalOf(job.ID, func(e *api.Evaluation) { e.TriggeredBy = api.EvalTriggerRetryFailedAlloc })},
		})
		synctest.Wait()
		wait := allocsOf(l.store.Snapshot(), name)[0].FollowUp
		if wait == (scheduler.ID{}) {
			t.Fatal("the failed allocation waits for nothing, want a follow-up evaluation")
		}
		decided := *l.store.Snapshot().Eval(wait.String())
		decided.Status = api.EvalStatusComplete
		l.commit(nil, state.PutEvals{Evals: []*api.Evaluation{&decided}})
		if got := allocsOf(l.store.Snapshot(), name)[0].FollowUp; got != (scheduler.ID{}) {
			t.Errorf("it still waits for %s, which was decided", got)
		}
	})
}

// Whatever an agent says of its machine, the leader plans on.
func FuzzNode(f *testing.F) {
	f.Add([]byte(`{"NodeResources":{"Cpu":{"CpuShares":4000},"Memory":{"MemoryMB":8000},"MinDynamicPort":20000,"MaxDynamicPort":32000}}`))
	f.Add([]byte(`{"Drivers":{"fake":null},"NodeResources":{"Networks":[null],"MinDynamicPort":70000,"MaxDynamicPort":-1}}`))
	f.Add([]byte(`{"ReservedResources":{"Cpu":{"CpuShares":18446744073709551615},"Networks":{"ReservedHostPorts":"1-99999999,x,-"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var said api.Node
		if json.Unmarshal(body, &said) != nil {
			return
		}
		node := apitest.Node(t)
		said.ID, said.Status, said.SchedulingEligibility = node.ID, node.Status, node.SchedulingEligibility
		said.Datacenter, said.NodePool = node.Datacenter, node.NodePool
		if said.Attributes == nil {
			said.Attributes = node.Attributes
		}
		if said.Drivers == nil {
			said.Drivers = node.Drivers
		}
		said.ComputedClass = said.Class()
		l := newLog(t)
		l.commit(nil, state.PutNode{Node: &said})
		l.register(nil, apitest.Job(t, apitest.Count(2), apitest.Ports("http"), apitest.StaticPort("web", 80)))
		p := l.planner()
		p.rebuild()
		p.schedule(p.queue.next())
	})
}

// Whatever job passes Validate can be written, read and planned.
func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"ID":"web","TaskGroups":[{"Name":"g","Count":2,"Tasks":[{"Name":"t","Driver":"fake"}]}]}`))
	f.Add([]byte(`{"ID":"b","Type":"batch","Priority":100,"TaskGroups":[{"Name":"g","Networks":[{"DynamicPorts":[{"Label":"http"}]}],` +
		`"Tasks":[{"Name":"t","Driver":"fake","Config":{"a":[1,{"b":null}],"c":1.5},"Resources":{"CPU":1,"MemoryMB":10}}]}],` +
		`"Constraints":[{"LTarget":"${attr.kernel.name}","Operand":"regexp","RTarget":"lin.*"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		j, err := api.DecodeJob(body)
		if err != nil || j.Validate() != nil {
			return
		}
		l := newLog(t)
		l.commit(nil, state.PutNode{Node: apitest.Node(t)})
		l.register(nil, j)
		p := l.planner()
		p.rebuild()
		if w := p.queue.next(); w != nil {
			p.schedule(w)
		}
		for _, e := range p.open {
			l.commit(nil, e.cmd)
		}
	})
}
