package server

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// queue is the open evaluations, by job: one job is looked at once, whatever number of evaluations ask for it. The
// planner owns it.
type queue struct {
	jobs    map[state.JobName]*jobWork
	ready   jobHeap
	delayed evalHeap
}

// jobWork is what is to be done for one job.
type jobWork struct {
	name    state.JobName
	ready   []*api.Evaluation // pending and due, oldest first
	blocked *api.Evaluation   // waits for capacity; at most one
	retry   bool              // capacity has changed since blocked was computed
	busy    bool              // a plan of the job is being committed
	at      int               // in the heap of ready jobs; -1: not there
}

func newQueue() *queue { return &queue{jobs: map[state.JobName]*jobWork{}} }

func jobName(namespace, id string) state.JobName { return state.JobName{Namespace: namespace, ID: id} }

// put adds an evaluation as the state has it, or forgets one that is no longer open.
func (q *queue) put(e *api.Evaluation, now time.Time) {
	name := jobName(e.Namespace, e.JobID)
	w := q.jobs[name]
	if w == nil {
		w = &jobWork{name: name, at: -1}
		q.jobs[name] = w
	}
	if w.blocked != nil && w.blocked.ID == e.ID {
		w.blocked = nil
	}
	switch {
	case e.Status == api.EvalStatusBlocked:
		w.blocked = e
	case e.Status != api.EvalStatusPending:
	case e.WaitUntil.After(now):
		heap.Push(&q.delayed, e)
	case !slices.ContainsFunc(w.ready, func(o *api.Evaluation) bool { return o.ID == e.ID }):
		w.ready = append(w.ready, e)
	}
	q.settle(w)
}

// settle puts a job in the heap if something of it is ready, and forgets it if there is nothing at all.
func (q *queue) settle(w *jobWork) {
	wanted := !w.busy && (len(w.ready) > 0 || w.retry && w.blocked != nil)
	switch {
	case wanted && w.at < 0:
		heap.Push(&q.ready, w)
	case wanted:
		heap.Fix(&q.ready, w.at)
	case w.at >= 0:
		heap.Remove(&q.ready, w.at)
	}
	if !w.busy && len(w.ready) == 0 && w.blocked == nil {
		delete(q.jobs, w.name)
	}
}

// next takes the most urgent job, nil if none is ready. It is busy until done.
func (q *queue) next() *jobWork {
	if len(q.ready) == 0 {
		return nil
	}
	w := heap.Pop(&q.ready).(*jobWork)
	w.busy = true
	return w
}

// done gives a job back; what came for it meanwhile makes it ready again.
func (q *queue) done(w *jobWork) {
	w.busy = false
	q.settle(w)
}

// due returns the ids of delayed evaluations whose time has come.
func (q *queue) due(now time.Time) []string {
	var ids []string
	for len(q.delayed) > 0 && !q.delayed[0].WaitUntil.After(now) {
		ids = append(ids, heap.Pop(&q.delayed).(*api.Evaluation).ID)
	}
	return ids
}

// nextDue is when the first delayed evaluation is due; zero: there is none.
func (q *queue) nextDue() time.Time {
	if len(q.delayed) == 0 {
		return time.Time{}
	}
	return q.delayed[0].WaitUntil
}

// wake makes the blocked evaluations ready that may find room on a node of one of the classes.
func (q *queue) wake(classes map[string]bool) {
	for _, w := range q.jobs {
		if w.blocked == nil || w.retry {
			continue
		}
		for class := range classes {
			if mayUse(w.blocked, class) {
				w.retry = true
				q.settle(w)
				break
			}
		}
	}
}

// mayUse reports whether a blocked evaluation may be placed on nodes of a class: it was eligible, or was not looked at.
func mayUse(e *api.Evaluation, class string) bool {
	eligible, known := e.ClassEligibility[class]
	return e.EscapedComputedClass || eligible || !known
}

// jobHeap orders ready jobs: higher priority first, then who has waited longer.
type jobHeap []*jobWork

// urgency is a job's highest priority and the creation of the evaluation that has waited longest.
func (w *jobWork) urgency() (priority int, since uint64) {
	since = ^uint64(0)
	for _, e := range w.ready {
		priority, since = max(priority, e.Priority), min(since, e.CreateIndex)
	}
	if len(w.ready) == 0 && w.blocked != nil {
		return w.blocked.Priority, w.blocked.CreateIndex
	}
	return priority, since
}

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(i, j int) bool {
	pi, si := h[i].urgency()
	pj, sj := h[j].urgency()
	return cmp.Or(cmp.Compare(pj, pi), cmp.Compare(si, sj), cmp.Compare(h[i].name.Namespace, h[j].name.Namespace),
		cmp.Compare(h[i].name.ID, h[j].name.ID)) < 0
}
func (h jobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *jobHeap) Push(x any) {
	w := x.(*jobWork)
	w.at = len(*h)
	*h = append(*h, w)
}
func (h *jobHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	w.at = -1
	return w
}

// evalHeap orders delayed evaluations by when they are due.
type evalHeap []*api.Evaluation

func (h evalHeap) Len() int           { return len(h) }
func (h evalHeap) Less(i, j int) bool { return h[i].WaitUntil.Before(h[j].WaitUntil) }
func (h evalHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *evalHeap) Push(x any)        { *h = append(*h, x.(*api.Evaluation)) }
func (h *evalHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	return e
}
