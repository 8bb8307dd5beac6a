package server

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// workRoutes are allocations, evaluations, and what is answered by the node of an allocation.
var workRoutes = []route{
	{path: "/v1/allocations", get: reads(query{keys: tableKeys(state.Allocs), find: listAllocs})},
	{path: "/v1/allocation/{id}", get: reads(query{keys: allocKeys, find: readAlloc})},
	{path: "/v1/allocation/{id}/stop", put: stopAlloc},
	{path: "/v1/evaluations", get: reads(query{keys: tableKeys(state.Evals), find: listEvals}), del: notBuilt},
	{path: "/v1/evaluations/count", get: reads(query{keys: tableKeys(state.Evals), find: countEvals})},
	{path: "/v1/evaluation/{id}", get: reads(query{keys: evalKeys, find: readEval})},
	{path: "/v1/evaluation/{id}/allocations", get: reads(query{keys: tableKeys(state.Allocs), find: listEvalAllocs})},
	{path: "/v1/client/fs/{verb}/{id}", get: toNode},
	{path: "/v1/client/allocation/{id}/{verb}", get: toNode, put: toNode},
}

func tableKeys(t state.Table) func(*read) []state.Key {
	return func(*read) []state.Key { return []state.Key{state.TableKey(t)} }
}

func allocKeys(q *read) []state.Key {
	id, err := state.ParseID(q.PathValue("id"))
	if err != nil {
		return nil // no allocation has it
	}
	return []state.Key{state.AllocKey(id)}
}

func evalKeys(q *read) []state.Key { return []state.Key{state.EvalKey(q.PathValue("id"))} }

// allocRows is a list of allocations as q wants them, rows being in the order of key.
func allocRows(snap *state.Snapshot, q *read, rows iter.Seq[*state.Row]) ([]*api.AllocationListStub, string, error) {
	v := q.URL.Query()
	withResources, withStates := flag(v, "resources"), v.Get("task_states") != "false"
	return list(q, listing[*state.Row, *api.AllocationListStub]{
		objects: rows,
		key:     func(r *state.Row) string { return r.ID().String() },
		created: (*state.Row).CreateIndex,
		full:    func(r *state.Row) any { return snap.Allocation(r) },
		row: func(r *state.Row) *api.AllocationListStub {
			s := snap.AllocStub(r)
			if !withResources {
				s.AllocatedResources = nil
			}
			if !withStates {
				s.TaskStates = nil
			}
			return s
		},
	})
}

func listAllocs(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	rows, next, err := allocRows(snap, q, snap.Rows(q.prefix))
	return answer{rows, snap.TableIndex(state.Allocs), next}, err
}

// listJobAllocs lists a job's allocations: without ?all those of a purged job of the same name are left out.
func listJobAllocs(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	ns, id := q.job()
	since := uint64(0)
	if job := snap.Job(ns, id); job != nil && !flag(q.URL.Query(), "all") {
		since = job.CreateIndex
	}
	rows, next, err := allocRows(snap, q, func(yield func(*state.Row) bool) {
		for r := range snap.RowsOfJob(ns, id) {
			if r.CreateIndex() >= since && !yield(r) {
				return
			}
		}
	})
	return answer{rows, snap.JobAllocsIndex(ns, id), next}, err
}

func readAlloc(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	a := snap.Alloc(q.PathValue("id"))
	if a == nil {
		return answer{}, api.E(api.ErrNotFound, "alloc not found")
	}
	return answer{body: a, index: a.ModifyIndex}, nil
}

func stopAlloc(h *Hub, w http.ResponseWriter, r *http.Request) error {
	if _, err := writeNamespace(r); err != nil {
		return err
	}
	if flag(r.URL.Query(), "no_shutdown_delay") {
		return optionNotBuilt("no_shutdown_delay")
	}
	resp, err := h.stopAlloc(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeIndexed(w, r, resp.Index, resp)
}

// evalRows is a list of evaluations as q wants them.
func evalRows(q *read, evals iter.Seq[*api.Evaluation]) ([]*api.Evaluation, string, error) {
	v := q.URL.Query()
	status, job := v.Get("status"), v.Get("job")
	return list(q, listing[*api.Evaluation, *api.Evaluation]{
		objects: func(yield func(*api.Evaluation) bool) {
			for e := range evals {
				if (status == "" || e.Status == status) && (job == "" || e.JobID == job) && !yield(e) {
					return
				}
			}
		},
		key:     func(e *api.Evaluation) string { return e.ID },
		created: func(e *api.Evaluation) uint64 { return e.CreateIndex },
		full:    func(e *api.Evaluation) any { return e },
		row:     func(e *api.Evaluation) *api.Evaluation { return e },
	})
}

func listEvals(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	rows, next, err := evalRows(q, snap.Evals(q.prefix))
	return answer{rows, snap.TableIndex(state.Evals), next}, err
}

func listJobEvals(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	ns, id := q.job()
	rows, next, err := evalRows(q, snap.EvalsByJob(ns, id))
	return answer{rows, snap.JobEvalsIndex(ns, id), next}, err
}

// evalCount answers /v1/evaluations/count.
type evalCount struct{ Count int }

func countEvals(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	rows, _, err := evalRows(q, snap.Evals(q.prefix))
	return answer{body: evalCount{len(rows)}, index: snap.TableIndex(state.Evals)}, err
}

func findEval(snap *state.Snapshot, q *read) (*api.Evaluation, error) {
	if e := snap.Eval(q.PathValue("id")); e != nil {
		return e, nil
	}
	return nil, api.E(api.ErrNotFound, "eval not found")
}

// evalWithRelated is an evaluation with those that it follows and that follow it.
type evalWithRelated struct {
	*api.Evaluation
	RelatedEvals []*api.EvaluationStub
}

func readEval(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	e, err := findEval(snap, q)
	if err != nil {
		return answer{}, err
	}
	if !flag(q.URL.Query(), "related") {
		return answer{body: e, index: e.ModifyIndex}, nil
	}
	body := evalWithRelated{Evaluation: e, RelatedEvals: []*api.EvaluationStub{}}
	for _, id := range relatedEvals(snap, e) {
		r := snap.Eval(id)
		body.RelatedEvals = append(body.RelatedEvals, &api.EvaluationStub{
			ID: r.ID, Type: r.Type, TriggeredBy: r.TriggeredBy, Namespace: r.Namespace, JobID: r.JobID, NodeID: r.NodeID,
			DeploymentID: r.DeploymentID, Priority: r.Priority, Status: r.Status, StatusDescription: r.StatusDescription,
			WaitUntil: r.WaitUntil, NextEval: r.NextEval, PreviousEval: r.PreviousEval, BlockedEval: r.BlockedEval,
			CreateIndex: r.CreateIndex, ModifyIndex: r.ModifyIndex, CreateTime: r.CreateTime, ModifyTime: r.ModifyTime,
		})
	}
	return answer{body: body, index: e.ModifyIndex}, nil
}

// relatedEvals walks the chain that e stands in, e itself left out.
func relatedEvals(snap *state.Snapshot, e *api.Evaluation) []string {
	seen := map[string]bool{e.ID: true}
	var ids []string
	for todo := []*api.Evaluation{e}; len(todo) > 0; todo = todo[1:] {
		for _, id := range []string{todo[0].PreviousEval, todo[0].NextEval, todo[0].BlockedEval} {
			if r := snap.Eval(id); id != "" && r != nil && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
				todo = append(todo, r)
			}
		}
	}
	return ids
}

func listEvalAllocs(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	e, err := findEval(snap, q)
	if err != nil {
		return answer{}, err
	}
	rows, next, err := allocRows(snap, q, snap.RowsOfEval(e))
	return answer{rows, snap.TableIndex(state.Allocs), next}, err
}

// toNode passes a request on to the agent of an allocation, through the link that the agent dialled. The caller's token
// stays here: machines are not to be trusted with it.
func toNode(h *Hub, w http.ResponseWriter, r *http.Request) error {
	id, err := state.ParseID(r.PathValue("id"))
	if err != nil {
		return api.E(api.ErrNotFound, "Unknown allocation \""+r.PathValue("id")+"\"")
	}
	snap := h.store.Snapshot()
	row := snap.Row(id)
	if row == nil {
		return api.E(api.ErrNotFound, "Unknown allocation \""+id.String()+"\"")
	}
	nodeID, name := snap.NodeOf(row)
	transport, err := h.nodeTransport(nodeID)
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	h.nodeProxy(nodeID, name, transport).ServeHTTP(w, r)
	return nil
}

// nodeProxy passes requests on to an agent and its answers back: a body, what it is and what kind of error. Nothing else
// that a machine says reaches the caller, who might follow it elsewhere and take the token along.
func (h *Hub) nodeProxy(nodeID, name string, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // streams go through as they come
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: nodeID})
			p.Out.Header.Del(api.HeaderToken)
			p.Out.Header.Del("Authorization")
			p.Out.Header.Del("Cookie")
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode < 200 || resp.StatusCode >= 300 && resp.StatusCode < 400 {
				return fmt.Errorf("answered with status %d", resp.StatusCode)
			}
			maps.DeleteFunc(resp.Header, func(key string, _ []string) bool { return !slices.Contains(answerHeaders, key) })
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, fmt.Errorf("node %s: %w", name, err))
		},
	}
}

// answerHeaders are what an agent may say of an answer.
var answerHeaders = []string{
	"Content-Type", "Content-Length", "Content-Encoding", "X-Content-Type-Options", api.HeaderError,
}
