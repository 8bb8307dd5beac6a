package agent

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

// keptAllocs is how many ended allocations a node keeps with their directories, for their logs.
const keptAllocs = 50

// host is what every allocation of this node uses.
type host struct {
	log      *slog.Logger
	dirs     dirs
	db       *localdb.DB
	drivers  *driverSet
	logs     *logPipes // nil: tasks' output is not kept
	reporter *reporter
	node     *nodeRecord
	region   string
	maxKill  time.Duration
	environ  []string
}

// reconciler makes what runs on this node equal to what the hubs want. One goroutine, run, owns it.
type reconciler struct {
	h         *host
	log       *slog.Logger
	wanted    <-chan *api.NodeAllocs
	lookups   chan lookup
	stopTasks bool // at the end of run

	allocs  map[string]*held // owned by run; no lock
	ended   chan *held
	running sync.WaitGroup
	// clearing bounds how many directories are removed at once: it is no hurry.
	clearing chan struct{}
}

// held is an allocation that this node has.
type held struct {
	a      *alloc
	want   *placement
	done   bool          // run has returned and all tasks are dead
	over   chan struct{} // closed with done
	forget bool          // the hubs no longer know it
	told   bool          // run has had an update; what an earlier agent began waits for one before it starts anything
}

// lookup asks for an allocation from another goroutine.
type lookup struct {
	id    string
	reply chan<- *held // nil if there is none
}

func newReconciler(h *host, wanted <-chan *api.NodeAllocs, stopTasks bool) *reconciler {
	return &reconciler{
		h: h, log: h.log, wanted: wanted, stopTasks: stopTasks, lookups: make(chan lookup),
		allocs: make(map[string]*held), ended: make(chan *held), clearing: make(chan struct{}, 2),
	}
}

// run takes up what an earlier agent left, and follows the hubs' wishes until ctx ends. Then it stops the tasks if it is to,
// or leaves them, and returns when all that it started has ended.
func (r *reconciler) run(ctx context.Context) error {
	life, detach := context.WithCancel(context.WithoutCancel(ctx))
	defer detach()
	records, err := r.h.db.Allocs()
	if err != nil {
		return err
	}
	for _, rec := range records {
		r.restore(life, rec)
	}
	if err := r.sweep(); err != nil {
		r.log.Error("look for what an earlier agent left", "err", err)
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case n := <-r.wanted:
			r.apply(life, n)
		case h := <-r.ended:
			r.settle(h)
		case q := <-r.lookups:
			q.reply <- r.allocs[q.id]
		case e := <-r.h.drivers.said:
			r.tell(e)
		}
	}
	if r.stopTasks {
		r.stopAll()
	}
	detach()
	return r.drain()
}

// idle reports whether nothing of this node runs any more. It is for the caller of run, after run.
func (r *reconciler) idle() bool {
	for _, h := range r.allocs {
		if h.a.rec.Ended == 0 {
			return false
		}
	}
	return true
}

// restore takes up an allocation from the local database.
func (r *reconciler) restore(life context.Context, rec *localdb.Record) {
	want, err := newPlacement(rec.Alloc.Alloc, rec.Alloc.Alloc.Job)
	if err != nil {
		r.log.Error("restore allocation", "alloc", rec.Alloc.Alloc.ID, "err", err)
		return
	}
	h := &held{a: newAlloc(r.h, want, rec), want: want, over: make(chan struct{})}
	r.allocs[want.alloc.ID] = h
	if rec.Ended != 0 {
		h.done = true
		close(h.over)
		h.a.report() // the hubs may not have heard
		return
	}
	r.start(life, h)
}

func (r *reconciler) start(life context.Context, h *held) {
	r.running.Go(func() {
		h.a.run(life)
		r.ended <- h
	})
}

// apply follows one answer of the hubs.
func (r *reconciler) apply(life context.Context, n *api.NodeAllocs) {
	jobs := make(map[jobKey]*api.Job, len(n.Jobs))
	for _, j := range n.Jobs {
		jobs[jobKey{j.Namespace, j.ID, j.Version}] = j
	}
	listed := make(map[string]bool, len(n.Allocs))
	for i, a := range n.Allocs {
		listed[a.ID] = true
		var version uint64
		if i < len(n.Versions) {
			version = n.Versions[i]
		}
		r.want(life, a, jobs[jobKey{a.Namespace, a.JobID, version}])
	}
	if n.Full {
		for id, h := range r.allocs {
			// A hub that lags behind does not know yet what another has already placed.
			if !listed[id] && !h.done && h.want.alloc.AllocModifyIndex <= n.Index {
				r.log.Info("hubs no longer know allocation", "alloc", id)
				h.forget = true
				h.stop("The hubs no longer know the allocation", false)
			}
		}
	}
}

type jobKey struct {
	namespace, id string
	version       uint64
}

// want follows the hubs' wish for one allocation.
func (r *reconciler) want(life context.Context, a *api.Allocation, j *api.Job) {
	h := r.allocs[a.ID]
	if h != nil && h.done {
		h.a.report() // they have not heard that it is over
		return
	}
	if h == nil && a.ClientTerminal() {
		return
	}
	if h == nil && a.DesiredStatus != api.AllocDesiredRun {
		r.report(a.ID, api.AllocClientComplete, "Stopped before it was begun")
		return
	}
	want, err := newPlacement(a, j)
	if err != nil {
		r.log.Error("take allocation", "alloc", a.ID, "err", err)
		r.report(a.ID, api.AllocClientFailed, "The node cannot take it: "+err.Error())
		return
	}
	if h == nil {
		h = &held{a: newAlloc(r.h, want, nil), want: want, over: make(chan struct{})}
		r.allocs[a.ID] = h
		r.start(life, h)
		return
	}
	newer := a.AllocModifyIndex > h.want.alloc.AllocModifyIndex && !h.forget
	if newer {
		h.want = want
	}
	if newer || !h.told {
		h.update()
	}
}

// tell hands a driver's words to the task that they are about. A task that is behind misses some.
func (r *reconciler) tell(e plugins.TaskEvent) {
	h := r.allocs[e.AllocID]
	if h == nil || h.a.tasks[e.TaskName] == nil {
		return
	}
	select {
	case h.a.tasks[e.TaskName].said <- e:
	default:
	}
}

// report tells the hubs of an allocation that this node does not hold.
func (r *reconciler) report(id, status, description string) {
	r.h.reporter.report(&api.AllocStatus{ID: id, ClientStatus: status, ClientDescription: description, Time: time.Now().UnixNano()})
}

// stop ends the allocation's tasks.
func (h *held) stop(why string, hurry bool) {
	a := *h.want.alloc
	a.DesiredStatus, a.DesiredDescription = api.AllocDesiredStop, why
	h.want = &placement{alloc: &a, group: h.want.group, hurry: hurry}
	h.update()
}

func (h *held) update() {
	h.told = true
	h.a.update(h.want)
}

// settle notes that an allocation has ended, and removes what is no longer kept.
func (r *reconciler) settle(h *held) {
	h.done = true
	close(h.over)
	if h.forget {
		r.remove(h)
		return
	}
	var over []*held
	for _, h := range r.allocs {
		if h.done {
			over = append(over, h)
		}
	}
	slices.SortFunc(over, func(a, b *held) int { return cmp.Compare(a.a.rec.Ended, b.a.rec.Ended) })
	for _, h := range over[:max(0, len(over)-keptAllocs)] {
		if !r.h.reporter.unsent(h.a.id) {
			r.remove(h)
		}
	}
}

// remove forgets an ended allocation: its record at once, its directories beside the reconciling.
func (r *reconciler) remove(h *held) {
	delete(r.allocs, h.a.id)
	if err := r.h.db.DeleteAlloc(h.a.id); err != nil {
		r.log.Error("forget allocation", "alloc", h.a.id, "err", err)
	}
	r.clear(h.a.id)
}

// clear removes the directories of an allocation that is on record no more.
func (r *reconciler) clear(id string) {
	r.running.Go(func() {
		r.clearing <- struct{}{}
		defer func() { <-r.clearing }()
		if err := r.h.dirs.alloc(id).Remove(); err != nil {
			r.log.Error("remove allocation", "alloc", id, "err", err)
		}
		if err := os.RemoveAll(r.h.dirs.fifo(id)); err != nil {
			r.log.Error("remove log pipes", "alloc", id, "err", err)
		}
	})
}

// sweep removes directories that an agent left which died over removing them.
func (r *reconciler) sweep() error {
	for _, dir := range []string{r.h.dirs.allocs, r.h.dirs.fifos} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if r.allocs[e.Name()] == nil {
				r.clear(e.Name())
			}
		}
	}
	return nil
}

// stopAll stops every task and waits until all are dead.
func (r *reconciler) stopAll() {
	alive := 0
	for _, h := range r.allocs {
		if !h.done {
			alive++
			h.stop("The agent stops", true)
		}
	}
	for ; alive > 0; alive-- {
		r.settle(<-r.ended)
	}
}

// drain waits for the allocations that were left.
func (r *reconciler) drain() error {
	gone := make(chan struct{})
	go func() {
		r.running.Wait()
		close(gone)
	}()
	for {
		select {
		case <-r.ended:
		case <-gone:
			return nil
		}
	}
}

// find returns the allocation with that id, nil if this node has none. It may be called from any goroutine while run runs.
func (r *reconciler) find(ctx context.Context, id string) *held {
	reply := make(chan *held, 1)
	select {
	case r.lookups <- lookup{id, reply}:
		return <-reply
	case <-ctx.Done():
		return nil
	}
}
