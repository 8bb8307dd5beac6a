package compat

import (
	"context"
	"net/http/httptrace"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// watched is a kind of read that can block, and something that changes what it answers.
type watched struct {
	kind   string
	read   func(*public.QueryOptions) (any, *public.QueryMeta, error)
	change func()
	table  bool // it is about a whole table: any change there wakes it
}

func watch[T any](kind string, read func(*public.QueryOptions) (T, *public.QueryMeta, error), change func()) watched {
	return watched{kind: kind, change: change, read: func(q *public.QueryOptions) (any, *public.QueryMeta, error) { return read(q) }}
}

// ofOne gives a read of one object the form of a read of a list.
func ofOne[T any](read func(string, *public.QueryOptions) (T, *public.QueryMeta, error), id string) func(*public.QueryOptions) (T, *public.QueryMeta, error) {
	return func(q *public.QueryOptions) (T, *public.QueryMeta, error) { return read(id, q) }
}

// short is how long a query waits that nothing wakes.
const short = 120 * time.Millisecond

// check holds one kind of read to the rules of blocking queries.
func (b watched) check(t *testing.T, c *cluster) {
	before, meta, err := b.read(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := meta.LastIndex
	if now == 0 || !meta.KnownLeader {
		t.Fatalf("read at %+v, want an index and a leader", meta)
	}
	for _, rule := range []struct {
		name  string
		index uint64
	}{{"nothing happened", now}, {"the index lies ahead", now + 1000}} {
		if !b.table { // what happens elsewhere does not wake it
			t.Run(rule.name+" to it", func(t *testing.T) {
				asked := c.ask(b, &public.QueryOptions{WaitIndex: rule.index, WaitTime: short})
				c.register(nowhere("elsewhere"))
				c.unchanged(t, <-asked, before, now)
			})
			continue
		}
		t.Run(rule.name, func(t *testing.T) {
			c.unchanged(t, <-c.ask(b, &public.QueryOptions{WaitIndex: rule.index, WaitTime: short}), before, now)
		})
	}
	asked := c.ask(b, &public.QueryOptions{WaitIndex: now, WaitTime: patience})
	b.change()
	got := <-asked
	switch {
	case got.err != nil:
		t.Fatal(got.err)
	case got.meta.LastIndex <= now:
		t.Errorf("woken at index %d, want more than %d", got.meta.LastIndex, now)
	case got.meta.RequestTime >= patience:
		t.Errorf("answered after %s, when its time was over", got.meta.RequestTime)
	case diff(before, got.value) == "":
		t.Errorf("woken without a change of what it reads")
	}
	if old := <-c.ask(b, &public.QueryOptions{WaitIndex: now, WaitTime: patience}); old.err != nil || old.meta.LastIndex <= now {
		t.Errorf("what is new already came with %+v, error %v, want it at once", old.meta, old.err)
	}
}

// reading is how a blocking query ended.
type reading struct {
	value any
	meta  *public.QueryMeta
	err   error
}

// ask starts a blocking query and returns when its request is on its way.
func (c *cluster) ask(b watched, q *public.QueryOptions) <-chan reading {
	sent := make(chan struct{})
	ctx := httptrace.WithClientTrace(c.t.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
	})
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	out := make(chan reading, 1)
	go func() {
		defer cancel()
		v, meta, err := b.read(q.WithContext(ctx))
		out <- reading{v, meta, err}
	}()
	<-sent
	return out
}

// unchanged checks a query that waited its time out.
func (c *cluster) unchanged(t *testing.T, got reading, before any, index uint64) {
	t.Helper()
	switch {
	case got.err != nil:
		t.Fatal(got.err)
	case got.meta.LastIndex != index || !got.meta.KnownLeader:
		t.Errorf("timed out at %+v, want index %d", got.meta, index)
	case got.meta.RequestTime < short:
		t.Errorf("answered after %s, want after %s", got.meta.RequestTime, short)
	}
	if d := diff(before, got.value); d != "" {
		t.Errorf("another answer without a change, -before +after:\n%s", d)
	}
}

// A blocking query answers when what it reads changes, with a greater index, or with the same when its time is over.
func TestBlockingQueries(t *testing.T) {
	t.Parallel()
	c := dev(t)
	c.register(webJob("run"))
	alloc := c.allocs("run", healthy)[0].ID
	blocked := c.eval(c.register(nowhere("wait")).EvalID).BlockedEval
	tables := []watched{
		watch("jobs", c.Jobs().List, c.update), watch("evaluations", c.Evaluations().List, c.update), watch("allocations", c.Allocations().List, c.grow),
	}
	for i := range tables {
		tables[i].table = true
	}
	for _, b := range append(tables,
		watch("job", ofOne(c.Jobs().Info, "wait"), c.update),
		watch("job's evaluations", ofOne(c.Jobs().Evaluations, "wait"), c.update),
		watch("job's versions", func(q *public.QueryOptions) ([]*public.Job, *public.QueryMeta, error) {
			jobs, _, meta, err := c.Jobs().Versions("wait", false, q)
			return jobs, meta, err
		}, c.update),
		watch("job's allocations", func(q *public.QueryOptions) ([]*public.AllocationListStub, *public.QueryMeta, error) {
			return c.Jobs().Allocations("run", true, q)
		}, c.grow),
		watch("job's summary", ofOne(c.Jobs().Summary, "run"), c.grow),
		watch("evaluation", ofOne(c.Evaluations().Info, blocked), func() { c.must(c.Jobs().Deregister("wait", true, nil)) }),
		watch("allocation", ofOne(c.Allocations().Info, alloc), func() { c.must(c.Allocations().Stop(&public.Allocation{ID: alloc}, nil)) }),
	) {
		t.Run(b.kind, func(t *testing.T) {
			c.t = t
			c.settle()
			b.check(t, c)
		})
	}
}

// must fails the test if a call failed.
func (c *cluster) must(results ...any) {
	c.t.Helper()
	if err := fails(results...); err != nil {
		c.t.Fatal(err)
	}
}

// update registers the job "wait", which fits nowhere, with another priority.
func (c *cluster) update() {
	c.t.Helper()
	now, _, err := c.Jobs().Info("wait", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	*now.Priority--
	c.register(now)
}

// grow adds an instance to the job "run", and waits until it is healthy.
func (c *cluster) grow() {
	c.t.Helper()
	now, _, err := c.Jobs().Info("run", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	*now.TaskGroups[0].Count++
	c.register(now)
	c.allocs("run", healthy)
}

func healthy(a *public.AllocationListStub) bool {
	return a.DesiredStatus == "run" && a.ClientStatus == "running" && a.DeploymentStatus != nil
}

// settle waits until nothing happens by itself any more: every evaluation has ended or waits for room.
func (c *cluster) settle() {
	c.t.Helper()
	c.until("evaluations", func(q *public.QueryOptions) (*public.QueryMeta, bool, error) {
		q.Filter = `Status == "pending"`
		open, meta, err := c.Evaluations().List(q)
		return meta, len(open) == 0, err
	})
}

// Nodes that come and go wake those who watch them.
func TestBlockingQueriesForNodes(t *testing.T) {
	t.Parallel()
	s := newSecure(t)
	s.agent(t, "n1")
	c := s.cluster
	var second *process
	nodes := watch("nodes", c.Nodes().List, func() { second = s.agent(t, "n2") })
	nodes.table = true
	t.Run(nodes.kind, func(t *testing.T) { nodes.check(t, c) })

	list, _, err := c.Nodes().List(&public.QueryOptions{Filter: `Name == "n2"`})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d nodes n2, error %v, want one", len(list), err)
	}
	node := watch("node", ofOne(c.Nodes().Info, list[0].ID), func() { second.stop() })
	t.Run(node.kind, func(t *testing.T) { node.check(t, c) })
	n, _, err := c.Nodes().Info(list[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.Status != "down" {
		t.Errorf("a node that went has status %q, want down", n.Status)
	}
}
