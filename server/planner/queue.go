package planner

import (
	"container/heap"
	"math"
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
	delayed delays
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
		q.look(e, e.WaitUntil)
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

// look has an evaluation come back through due at a time.
func (q *queue) look(e *api.Evaluation, at time.Time) { heap.Push(&q.delayed, delay{at, e.ID}) }

// due returns the ids of delayed evaluations whose time has come.
func (q *queue) due(now time.Time) []string {
	var ids []string
	for len(q.delayed) > 0 && !q.delayed[0].until.After(now) {
		ids = append(ids, heap.Pop(&q.delayed).(delay).id)
	}
	return ids
}

// nextDue is when the first delayed evaluation is due; zero: there is none.
func (q *queue) nextDue() time.Time {
	if len(q.delayed) == 0 {
		return time.Time{}
	}
	return q.delayed[0].until
}

// again makes a job's blocked evaluation ready.
func (q *queue) again(e *api.Evaluation) {
	if w := q.jobs[jobName(e.Namespace, e.JobID)]; w != nil && w.blocked != nil && w.blocked.ID == e.ID {
		w.retry = true
		q.settle(w)
	}
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

// jobHeap orders ready jobs: higher priority first, then what was asked for before what is tried again, then who has
// waited longer. So thousands of jobs that wait for room do not hold up a new one.
type jobHeap []*jobWork

// urgency is what a job is ordered by.
type urgency struct {
	priority int
	retry    bool
	since    uint64
}

func (w *jobWork) urgency() urgency {
	if len(w.ready) == 0 && w.blocked != nil {
		return urgency{w.blocked.Priority, true, w.blocked.CreateIndex}
	}
	u := urgency{since: math.MaxUint64}
	for _, e := range w.ready {
		u.priority, u.since = max(u.priority, e.Priority), min(u.since, e.CreateIndex)
	}
	return u
}

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(i, j int) bool {
	a, b := h[i].urgency(), h[j].urgency()
	switch {
	case a.priority != b.priority:
		return a.priority > b.priority
	case a.retry != b.retry:
		return b.retry
	}
	return a.since < b.since
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

// delay is an evaluation to be looked at later.
type delay struct {
	until time.Time
	id    string
}

// delays is a heap of them by time.
type delays []delay

func (h delays) Len() int           { return len(h) }
func (h delays) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h delays) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *delays) Push(x any)        { *h = append(*h, x.(delay)) }
func (h *delays) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}
