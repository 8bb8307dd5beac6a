package compat

import (
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// world is a cluster with one node on which things have happened, for the table of routes: a service that runs, a batch
// job that is complete, and a service that fits nowhere.
type world struct {
	*cluster // its client is noted by wire
	plain    *public.Client
	wire     *wire
	started  time.Time

	web, once, stuck *registered
	alloc, done      *public.AllocationListStub // one of web's, and once's
	blocked          string                     // the evaluation that waits for room for stuck
	node             *public.NodeListStub
	rpc              string // the hub's RPC address
	token            joinTokenReply
}

// registered is a job as it was submitted, and the reply.
type registered struct {
	job    *public.Job
	reply  *public.JobRegisterResponse
	stable bool // its version became healthy
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cluster: dev(t), started: time.Now()}
	w.wire = &wire{next: w.http.Transport}
	client, err := public.NewClient(&public.Config{Address: w.address, HttpClient: &http.Client{Transport: w.wire}})
	if err != nil {
		t.Fatal(err)
	}
	w.plain, w.Client = w.Client, client
	add := func(j *public.Job) *registered { return &registered{job: j, reply: w.register(j)} }
	w.web, w.once = add(webJob("web")), add(batchJob("once", "echo done"))
	stuck := webJob("stuck")
	stuck.Constraints = []*public.Constraint{{LTarget: "${attr.kernel.name}", RTarget: "plan9", Operand: "="}}
	w.stuck = add(stuck)

	w.alloc = w.allocs("web", func(a *public.AllocationListStub) bool {
		return a.ClientStatus == "running" && a.DeploymentStatus != nil
	})[0]
	w.web.stable = true
	w.done = w.allocs("once", func(a *public.AllocationListStub) bool { return a.ClientStatus == "complete" })[0]
	w.blocked = w.eval(w.stuck.reply.EvalID).BlockedEval
	nodes, _, err := w.Nodes().List(nil)
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%d nodes, error %v, want one node", len(nodes), err)
	}
	w.node = nodes[0]
	if w.rpc, err = w.Status().Leader(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", w.rpc)
	if err != nil {
		t.Fatalf("the leader's RPC address: %v", err)
	}
	conn.Close()
	return w
}

// webJob is a service of two instances with a port each.
func webJob(id string) *public.Job {
	j := serviceJob(id)
	g := j.TaskGroups[0]
	g.Networks[0].ReservedPorts = nil // one node cannot give it twice
	t := g.Tasks[0]
	t.User, t.ShutdownDelay = "", 0
	t.Config = map[string]any{"command": "/bin/sh", "args": []any{"-c", "echo out; echo err >&2; exec sleep 3600"}}
	return j
}

// allocs waits until every instance of a job's first group is placed and satisfies ok, and returns them by name.
func (c *cluster) allocs(job string, ok func(*public.AllocationListStub) bool) []*public.AllocationListStub {
	c.t.Helper()
	j, _, err := c.Jobs().Info(job, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	var last []*public.AllocationListStub
	c.until(job, func(q *public.QueryOptions) (*public.QueryMeta, bool, error) {
		all, meta, err := c.Jobs().Allocations(job, false, q)
		last = all
		n := 0
		for _, a := range all {
			if ok(a) {
				n++
			}
		}
		return meta, n == *j.TaskGroups[0].Count, err
	})
	return last
}

// eval waits until an evaluation is complete.
func (c *cluster) eval(id string) *public.Evaluation {
	c.t.Helper()
	var last *public.Evaluation
	c.until("evaluation "+id, func(q *public.QueryOptions) (*public.QueryMeta, bool, error) {
		e, meta, err := c.Evaluations().Info(id, q)
		last = e
		return meta, err == nil && e.Status == "complete", err
	})
	return last
}

// until repeats a blocking query until it says that it is satisfied.
func (c *cluster) until(what string, ask func(*public.QueryOptions) (*public.QueryMeta, bool, error)) {
	c.t.Helper()
	q := &public.QueryOptions{}
	for deadline := time.Now().Add(patience); ; {
		meta, ok, err := ask(q)
		if err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		if ok {
			return
		}
		q.WaitIndex, q.WaitTime = meta.LastIndex, time.Until(deadline)
		if q.WaitTime <= 0 {
			c.t.Fatalf("%s: not as expected after %s", what, patience)
		}
	}
}

// raw reads a path for which the client has no method.
func raw[T any](w *world, path string) (T, *public.QueryMeta, error) {
	var v T
	meta, err := w.Raw().Query(path, &v, nil)
	return v, meta, err
}

// put writes to a path for which the client has no method.
func put(w *world, path string, body any) error { return fails(w.Raw().Write(path, body, nil, nil)) }

// remove deletes what the client has no method for.
func remove(w *world, path string) error { return fails(w.Raw().Delete(path, nil, nil)) }

// first is the error with which a stream ends at once.
func first(_ <-chan *public.StreamFrame, errs <-chan error) error { return <-errs }

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// id checks an id of the kind that the hub makes, and returns it.
func id(t *testing.T, what, s string) string {
	t.Helper()
	if !uuid4.MatchString(s) {
		t.Errorf("%s: %q is no lower-case version 4 UUID", what, s)
	}
	return s
}

// since checks that an index is at least that of what it follows, and returns it.
func since(t *testing.T, what string, index, floor uint64) uint64 {
	t.Helper()
	if index == 0 || index < floor {
		t.Errorf("%s: index %d, want at least %d", what, index, floor)
	}
	return index
}

// recent checks that a time in unix nanoseconds lies within the test, and returns it.
func (w *world) recent(t *testing.T, what string, ns int64) int64 {
	t.Helper()
	if at := time.Unix(0, ns); at.Before(w.started.Add(-time.Second)) || at.After(time.Now()) {
		t.Errorf("%s: %s is not within this test", what, at)
	}
	return ns
}
