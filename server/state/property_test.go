package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// world draws commands over few names, so that they meet.
type world struct {
	*history
	rt     *rapid.T
	allocs []ID
	evals  []string
	refs   []JobRef // of every version that there ever was
}

var (
	worldJobs  = []JobName{{"default", "web"}, {"default", "db"}, {"other", "web"}}
	worldNodes = []string{testID("node", 0).String(), testID("node", 1).String(), testID("node", 2).String()}
)

func pick[T any](rt *rapid.T, label string, from []T) T {
	return rapid.SampledFrom(from).Draw(rt, label)
}

// some draws up to three different elements.
func some[T comparable](rt *rapid.T, label string, from []T) (out []T) {
	if len(from) == 0 {
		return nil
	}
	for _, v := range rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(rt, label) {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func (w *world) eval(namespace, job string) *api.Evaluation {
	e := &api.Evaluation{Namespace: namespace, JobID: job, Priority: 50, Type: api.JobTypeService,
		Status: pick(w.rt, "eval status", []string{api.EvalStatusPending, api.EvalStatusBlocked, api.EvalStatusComplete, api.EvalStatusCanceled})}
	if e.Status == api.EvalStatusComplete {
		e.QueuedAllocations = map[string]int{apitest.GroupName: rapid.IntRange(0, 2).Draw(w.rt, "queued"), "other": 1}
	}
	if len(w.evals) > 0 && rapid.Bool().Draw(w.rt, "known eval") {
		e.ID = pick(w.rt, "eval", w.evals)
		if old := w.snap().Eval(e.ID); old != nil { // an evaluation stays with its job
			e.Namespace, e.JobID = old.Namespace, old.JobID
		}
	} else {
		e.ID = fmt.Sprintf("eval-%d", len(w.evals))
		w.evals = append(w.evals, e.ID)
	}
	return e
}

func (w *world) evalsOf(n int) (evals []*api.Evaluation) {
	for range rapid.IntRange(0, n).Draw(w.rt, "evals") {
		j := pick(w.rt, "eval of", worldJobs)
		e := w.eval(j.Namespace, j.ID)
		if !slices.ContainsFunc(evals, func(o *api.Evaluation) bool { return o.ID == e.ID }) {
			evals = append(evals, e)
		}
	}
	return evals
}

func (w *world) job() *api.Job {
	name := pick(w.rt, "job", worldJobs)
	groups := []string{apitest.GroupName}
	if rapid.Bool().Draw(w.rt, "two groups") {
		groups = append([]string{"first"}, groups...)
	}
	j := apitest.Job(w.t, apitest.ID(name.ID), apitest.Ports("http"), apitest.Count(rapid.IntRange(0, 2).Draw(w.rt, "count")))
	j.Namespace = name.Namespace
	one := *j.TaskGroups[0]
	j.TaskGroups = nil
	for _, g := range groups {
		copied := one
		copied.Name = g
		j.TaskGroups = append(j.TaskGroups, &copied)
	}
	return j
}

func (w *world) plan() Plan {
	var p Plan
	known := slices.Clone(w.allocs) // a plan changes only what is there before it
	for range rapid.IntRange(0, 2).Draw(w.rt, "groups placed") {
		if len(w.refs) == 0 {
			break
		}
		g := PlaceGroup{Job: pick(w.rt, "version", w.refs), Group: pick(w.rt, "group", []string{apitest.GroupName, "first", "none"}),
			EvalID: "eval-0", Metric: &api.AllocMetric{NodesEvaluated: 3, ConstraintFiltered: map[string]int{"a": 1, "b": 2, "c": 3}}}
		if len(w.evals) > 0 {
			g.EvalID = pick(w.rt, "by eval", w.evals)
		}
		for i := range rapid.IntRange(0, 3).Draw(w.rt, "rows") {
			r := Placement{ID: testID("alloc", len(w.allocs)), Index: i, Node: uint32(rapid.IntRange(1, 4).Draw(w.rt, "node")), Ports: []uint16{uint16(20000 + i)}}
			if prev := some(w.rt, "previous", known); len(prev) > 0 {
				r.Previous = prev[0]
				r.Tracker = &api.RescheduleTracker{LastReschedule: "ok", Events: []*api.RescheduleEvent{
					{RescheduleTime: testStart + int64(i), PrevAllocID: prev[0].String(), PrevNodeID: worldNodes[0], Delay: 5}}}
			}
			w.allocs = append(w.allocs, r.ID)
			g.Rows = append(g.Rows, r)
		}
		p.Place = append(p.Place, g)
	}
	for _, id := range some(w.rt, "stop", known) {
		p.Stop = append(p.Stop, Stop{ID: id, Description: "not needed", ClientStatus: pick(w.rt, "lost", []string{"", api.AllocClientLost})})
	}
	if len(w.refs) > 0 {
		p.InPlace = []InPlace{{Job: pick(w.rt, "to version", w.refs), IDs: some(w.rt, "in place", known)}}
	}
	for _, id := range some(w.rt, "wait", known) {
		p.Wait = append(p.Wait, Wait{ID: id, FollowUp: "eval-0"})
	}
	p.Evals = w.evalsOf(2)
	return p
}

func (w *world) statuses() AllocStatuses {
	c := AllocStatuses{Evals: w.evalsOf(1)}
	if rapid.Bool().Draw(w.rt, "base") {
		c.Base = w.snap()
	}
	for _, id := range some(w.rt, "report", append(w.allocs, testID("stranger", 1))) {
		at := testStart + rapid.Int64Range(0, 4).Draw(w.rt, "at")*1e9
		var s *api.AllocStatus
		switch rapid.IntRange(0, 3).Draw(w.rt, "report kind") {
		case 0:
			s = running(id, at)
		case 1:
			s = ended(id, at, 0)
		case 2:
			s = ended(id, at, 300_000_000_000)
			s.TaskStates["extra"] = &api.TaskState{State: api.TaskStatePending, Restarts: 3, LastRestart: timeOf(at), Events: []*api.TaskEvent{
				{Type: "Invented", Time: 5, Message: "m", Details: map[string]string{"b": "2", "a": "1"}, FailsTask: true, OOMKilled: true, Signal: 1000, KillReason: "k"}}}
		case 3:
			s = &api.AllocStatus{ID: id.String(), ClientStatus: api.AllocClientPending, ClientDescription: "waits"}
		}
		if h := rapid.IntRange(0, 2).Draw(w.rt, "healthy"); h > 0 {
			s.Healthy = new(bool)
			*s.Healthy = h == 1
		}
		c.Statuses = append(c.Statuses, s)
	}
	return c
}

func (w *world) command() Command {
	switch rapid.IntRange(0, 13).Draw(w.rt, "command") {
	case 0, 1:
		c := RegisterJob{Job: w.job()}
		if rapid.Bool().Draw(w.rt, "with eval") {
			c.Eval = w.eval(c.Job.Namespace, c.Job.ID)
		}
		if rapid.IntRange(0, 4).Draw(w.rt, "enforce") == 0 {
			c.EnforceIndex, c.JobModifyIndex = true, rapid.Uint64Range(0, 3).Draw(w.rt, "index")
		}
		return c
	case 2:
		j := pick(w.rt, "job", worldJobs)
		return DeregisterJob{Namespace: j.Namespace, ID: j.ID, Purge: rapid.Bool().Draw(w.rt, "purge"), Eval: w.eval(j.Namespace, j.ID)}
	case 3:
		n := apitest.Node(w.t)
		n.ID, n.Name = pick(w.rt, "node", worldNodes), pick(w.rt, "name", []string{"a", "b"})
		return PutNode{n}
	case 4:
		return NodeStatus{IDs: some(w.rt, "nodes", worldNodes), Status: pick(w.rt, "status", []string{api.NodeStatusReady, api.NodeStatusDown}), Evals: w.evalsOf(1)}
	case 5:
		return DeleteNodes{IDs: some(w.rt, "nodes", worldNodes)}
	case 6:
		return PutEvals{w.evalsOf(2)}
	case 7, 8, 9:
		return w.plan()
	case 10, 11:
		return w.statuses()
	case 12:
		return StopAllocs{IDs: some(w.rt, "stop", w.allocs), Evals: w.evalsOf(1)}
	}
	return GC{Evals: some(w.rt, "evals", w.evals), Allocs: some(w.rt, "allocs", w.allocs), Jobs: some(w.rt, "jobs", worldJobs)}
}

// members draws a command about the cluster itself.
func (w *world) members() Command {
	hash := bytes.Repeat([]byte{byte(rapid.IntRange(1, 2).Draw(w.rt, "secret"))}, 32)
	id := pick(w.rt, "token", []string{"t1", "t2"})
	switch rapid.IntRange(0, 4).Draw(w.rt, "member command") {
	case 0:
		return PutJoinToken{&api.JoinToken{ID: id, Role: "agent", Uses: rapid.IntRange(1, 2).Draw(w.rt, "uses"),
			Expires: testStart + 20e9, SecretHash: hash}}
	case 1:
		return UseJoinToken{ID: id, SecretHash: hash, Role: pick(w.rt, "role", []string{"", "agent", "hub"})}
	case 2:
		return PutToken{Token: Token{AccessorID: id, Type: TokenManagement, SecretHash: hash}, Bootstrap: rapid.Bool().Draw(w.rt, "bootstrap")}
	case 3:
		return ClusterMeta{Cluster{ID: id, Region: "global", CACert: hash, SealedCAKey: hash, SealedKeys: hash}}
	}
	return HubVersions{ID: id, Min: 1, Max: uint8(rapid.IntRange(1, 2).Draw(w.rt, "max")), Gone: rapid.Bool().Draw(w.rt, "gone")}
}

// step applies a drawn command and returns it.
func (w *world) step() Command {
	var c Command
	if rapid.IntRange(0, 6).Draw(w.rt, "area") == 0 {
		c = w.members()
	} else {
		c = w.command()
	}
	if _, err := w.try(c); err == nil {
		if r, ok := c.(RegisterJob); ok {
			w.refs = append(w.refs, RefOf(w.snap().Job(r.Job.Namespace, r.Job.ID)))
		}
	}
	return c
}

func newWorld(t *testing.T, rt *rapid.T) *world {
	w := &world{history: newHistory(t), rt: rt}
	w.addNodes(2)
	w.register(apitest.Job(t, apitest.Ports("http")))
	w.evals = append(w.evals, "eval-3")
	w.refs = append(w.refs, RefOf(w.snap().Job("default", "web")))
	return w
}

func persisted(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatalf("Persist: %v", err)
	}
	return b.Bytes()
}

// view is all that a snapshot's readers see.
func view(s *Snapshot) map[string]string {
	v := map[string]string{"index": fmt.Sprint(s.Index())}
	put := func(key string, value any) {
		text, err := json.Marshal(value)
		v[key] = fmt.Sprint(string(text), err)
	}
	for t := range tables {
		put(fmt.Sprintf("table %d", t), s.TableIndex(t))
	}
	for j := range s.Jobs(api.AllNamespaces, "") {
		key := j.Namespace + "/" + j.ID
		put("job "+key, j)
		put("summary "+key, s.Summary(j.Namespace, j.ID))
		put("indexes "+key, [2]uint64{s.JobAllocsIndex(j.Namespace, j.ID), s.JobEvalsIndex(j.Namespace, j.ID)})
		put("versions "+key, slices.Collect(s.JobVersions(j.Namespace, j.ID)))
	}
	for e := range s.Evals("") {
		put("eval "+e.ID, e)
	}
	put("open evals", slices.Collect(s.OpenEvals()))
	for n := range s.Nodes("") {
		put("node "+n.ID, n)
	}
	for r := range s.Rows("") {
		put("alloc "+r.ID().String(), s.Allocation(r))
		put("stub "+r.ID().String(), s.AllocStub(r))
	}
	for _, j := range worldJobs {
		put("allocs of "+j.ID, ids(s.RowsOfJob(j.Namespace, j.ID)))
		put("evals of "+j.ID, slices.Collect(s.EvalsByJob(j.Namespace, j.ID)))
	}
	for o := range uint32(6) {
		put(fmt.Sprintf("allocs on %d", o), ids(s.RowsOfNode(o, 0)))
	}
	put("join tokens", slices.Collect(s.JoinTokens()))
	put("tokens", slices.Collect(s.Tokens()))
	put("hubs", slices.Collect(s.HubVersions()))
	put("cluster", s.Cluster())
	return v
}

func ids(rows func(func(*Row) bool)) (out []string) {
	for r := range rows {
		out = append(out, r.ID().String())
	}
	return out
}

// TestAnyHistory checks what must hold after any commands at all.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			before := w.snap()
			was := view(before)
			c := w.step()
			checkCounts(rt, w.snap())
			if diff := cmp.Diff(was, view(before)); diff != "" {
				rt.Fatalf("%T changed the snapshot that was taken before it (-was +is):\n%s", c, diff)
			}
		}
		want, file := view(w.snap()), persisted(t, w.snap())

		one := New()
		for _, e := range w.entries {
			_, _ = one.Apply(e.Index, e.Data)
		}
		if !bytes.Equal(persisted(t, one.Snapshot()), file) {
			rt.Fatalf("the log, applied again, gives another state:\n%s", cmp.Diff(want, view(one.Snapshot())))
		}
		batch := New()
		batch.ApplyBatch(w.entries)
		if !bytes.Equal(persisted(t, batch.Snapshot()), file) {
			rt.Fatalf("the log in one batch gives another state:\n%s", cmp.Diff(want, view(batch.Snapshot())))
		}
		restored := New()
		if err := restored.Restore(bytes.NewReader(file)); err != nil {
			rt.Fatalf("Restore: %v", err)
		}
		if diff := cmp.Diff(want, view(restored.Snapshot())); diff != "" {
			rt.Fatalf("restored state differs (-want +got):\n%s", diff)
		}
		if !bytes.Equal(persisted(t, restored.Snapshot()), file) {
			rt.Fatal("a restored state gives another snapshot")
		}
		w.store = restored
		w.step()
		e := w.entries[len(w.entries)-1]
		_, _ = one.Apply(e.Index, e.Data)
		if diff := cmp.Diff(view(one.Snapshot()), view(restored.Snapshot())); diff != "" {
			rt.Fatalf("after one more command a restored state differs (-want +got):\n%s", diff)
		}
	})
}

// checkCounts counts again what the store counts as it goes.
func checkCounts(rt *rapid.T, s *Snapshot) {
	refs := map[JobRef]int{}
	for r := range s.Rows("") {
		refs[RefOf(r.Job())]++
	}
	for v := range s.versions.from(0, nil) {
		ref := RefOf(v.version.job)
		if v.refs != refs[ref] {
			rt.Fatalf("version %v has %d references, want %d", ref, v.refs, refs[ref])
		}
		delete(refs, ref)
	}
	if len(refs) > 0 {
		rt.Fatalf("versions %v are not kept", refs)
	}
	for j := range s.jobs.from(0, nil) {
		want := &jobEdit{jobRow: jobRow{job: j.job, version: j.version, evalsIndex: j.evalsIndex}}
		for _, g := range j.groups {
			want.groups = append(want.groups, groupCount{name: g.name, GroupSummary: api.GroupSummary{Queued: g.Queued}})
		}
		for r := range s.RowsOfJob(j.job.Namespace, j.job.ID) {
			if r.Job().CreateIndex != j.job.CreateIndex {
				continue
			}
			g := want.group(r.Group())
			*g.bucket(r.status)++
			if !r.ClientTerminal() {
				want.live++
			}
			if h := r.Healthy(); r.version == j.version && r.DesiredStatus() == api.AllocDesiredRun && h != nil && *h {
				g.healthy++
			}
		}
		for e := range s.EvalsByJob(j.job.Namespace, j.job.ID) {
			if evalOpen(e) {
				want.open++
			}
		}
		if want.live != j.live || want.open != j.open || !slices.Equal(want.groups, j.groups) {
			rt.Fatalf("job %s counts %d live, %d open, %v; want %d, %d, %v", j.job.ID, j.live, j.open, j.groups, want.live, want.open, want.groups)
		}
		if want.status() != j.job.Status {
			rt.Fatalf("job %s is %s, want %s", j.job.ID, j.job.Status, want.status())
		}
	}
}

// TestAppliedTwiceChangesNothing applies commands a second time, as after a lost answer.
func TestAppliedTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rt)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			c := w.step()
			switch c.(type) {
			case Plan, AllocStatuses, StopAllocs, PutNode, NodeStatus, DeleteNodes, GC, ClusterMeta, HubVersions:
			default:
				continue
			}
			last := w.entries[len(w.entries)-1]
			was := view(w.snap())
			_, _ = w.store.Apply(last.Index+1, last.Data)
			is := view(w.snap())
			was["index"] = is["index"]
			if diff := cmp.Diff(was, is); diff != "" {
				rt.Fatalf("%#v applied twice (-once +twice):\n%s", c, diff)
			}
			w.entries = append(w.entries, last)
		}
	})
}
