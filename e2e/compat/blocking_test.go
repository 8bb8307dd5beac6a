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
	read   func(*cluster, *public.QueryOptions) (any, *public.QueryMeta, error)
	change func(*cluster) // its write index is that of the cluster's newest change
	list   bool           // any change of the table wakes it
}

// found forgets the type of what was read.
func found[T any](v T, meta *public.QueryMeta, err error) (any, *public.QueryMeta, error) {
	return v, meta, err
}

// short is how long a query waits that nothing wakes.
const short = 120 * time.Millisecond

// check holds one kind of read to the rules of blocking queries.
func (b watched) check(t *testing.T, c *cluster) {
	before, meta, err := b.read(c, nil)
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
		if !b.list { // what happens elsewhere does not wake it
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
	b.change(c)
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
		v, meta, err := b.read(c, q.WithContext(ctx))
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
	run := c.allocs("run", healthy)
	blocked := c.eval(c.register(nowhere("wait")).EvalID).BlockedEval
	priority := 10
	update := func(id string) func(*cluster) {
		return func(c *cluster) {
			j := nowhere(id)
			priority++
			j.Priority = new(priority)
			c.register(j)
		}
	}
	grow := func(c *cluster) {
		j, _, err := c.Jobs().Info("run", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		*j.TaskGroups[0].Count++
		c.register(j)
		c.allocs("run", healthy)
	}
	for _, b := range []watched{
		{kind: "jobs", list: true, change: update("wait"), read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Jobs().List(q))
		}},
		{kind: "evaluations", list: true, change: update("wait"), read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Evaluations().List(q))
		}},
		{kind: "allocations", list: true, change: grow, read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Allocations().List(q))
		}},
		{kind: "job", change: update("wait"), read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Jobs().Info("wait", q))
		}},
		{kind: "job's versions", change: update("wait"), read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			jobs, _, meta, err := c.Jobs().Versions("wait", false, q)
			return jobs, meta, err
		}},
		{kind: "job's evaluations", change: update("wait"), read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Jobs().Evaluations("wait", q))
		}},
		{kind: "job's allocations", change: grow, read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Jobs().Allocations("run", true, q))
		}},
		{kind: "job's summary", change: grow, read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Jobs().Summary("run", q))
		}},
		{kind: "evaluation", change: func(c *cluster) {
			if _, _, err := c.Jobs().Deregister("wait", true, nil); err != nil {
				c.t.Fatal(err)
			}
		}, read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Evaluations().Info(blocked, q))
		}},
		{kind: "allocation", change: func(c *cluster) {
			if _, err := c.Allocations().Stop(&public.Allocation{ID: run[0].ID}, nil); err != nil {
				c.t.Fatal(err)
			}
		}, read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Allocations().Info(run[0].ID, q))
		}},
	} {
		t.Run(b.kind, func(t *testing.T) {
			c.t = t
			c.settle()
			b.check(t, c)
		})
	}
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
	nodes := watched{kind: "nodes", list: true, change: func(*cluster) { second = s.agent(t, "n2") },
		read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Nodes().List(q))
		}}
	t.Run(nodes.kind, func(t *testing.T) { nodes.check(t, c) })

	list, _, err := c.Nodes().List(&public.QueryOptions{Filter: `Name == "n2"`})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d nodes n2, error %v, want one", len(list), err)
	}
	node := watched{kind: "node", change: func(*cluster) { second.stop() },
		read: func(c *cluster, q *public.QueryOptions) (any, *public.QueryMeta, error) {
			return found(c.Nodes().Info(list[0].ID, q))
		}}
	t.Run(node.kind, func(t *testing.T) { node.check(t, c) })
	n, _, err := c.Nodes().Info(list[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.Status != "down" {
		t.Errorf("a node that went has status %q, want down", n.Status)
	}
}
