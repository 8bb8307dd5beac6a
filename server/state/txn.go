package state

import "github.com/brumehq/brume/api"

// txn is one entry being applied. Counts that follow from rows (a job's summary and status, the references to its
// versions) are gathered while rows change and written once, by settle.
type txn struct {
	*rows
	index uint64
	time  int64
	seed  [16]byte

	touched  []Key
	jobEdits []*jobEdit // in the order of first use
	jobOf    map[JobName]*jobEdit
	uses     []*versionUse
	useOf    map[*version]*versionUse
	lastUse  *versionUse
	origins  uint32

	rowKey  Row // for look-ups
	nodeKey api.Node
}

func (t *txn) touch(keys ...Key) { t.touched = append(t.touched, keys...) }

// settle writes what was gathered.
func (t *txn) settle() {
	for _, u := range t.uses {
		t.settleVersion(u)
	}
	for _, e := range t.jobEdits {
		t.settleJob(e)
	}
}

// putEval adds or replaces an evaluation, unless it says what is known already.
func (t *txn) putEval(e *api.Evaluation) {
	old := t.evals.get(e)
	e.CreateIndex, e.ModifyIndex, e.CreateTime, e.ModifyTime = t.index, t.index, t.time, t.time
	if old != nil {
		e.CreateIndex, e.CreateTime = old.CreateIndex, old.CreateTime
		if sameEval(old, e) {
			return
		}
	}
	t.evals.put(t.index, e)
	if old != nil && (old.Namespace != e.Namespace || old.JobID != e.JobID) {
		t.evalChanged(old, nil)
		old = nil
	}
	t.evalChanged(old, e)
}

func (t *txn) putEvals(evals []*api.Evaluation) {
	for _, e := range evals {
		t.putEval(e)
	}
}

func (t *txn) deleteEval(id string) {
	old := t.evals.get(&api.Evaluation{ID: id})
	if old == nil || evalOpen(old) {
		return
	}
	t.evals.remove(t.index, old)
	t.evalChanged(old, nil)
}

// evalChanged accounts for an evaluation that was old (or nil) and is now e (or nil).
func (t *txn) evalChanged(old, e *api.Evaluation) {
	either := e
	if e == nil {
		either = old
	}
	t.touch(TableKey(Evals), EvalKey(either.ID), EvalsOfJob(either.Namespace, either.JobID))
	j := t.editJob(either.Namespace, either.JobID)
	if j == nil {
		return
	}
	j.evalsIndex, j.changed = t.index, true
	if old != nil && evalOpen(old) {
		j.open--
	}
	if e != nil && evalOpen(e) {
		j.open++
	}
	if e != nil && e.Status == api.EvalStatusComplete {
		j.setQueued(e.QueuedAllocations)
	}
}

// addAlloc adds an allocation, unless it is there already.
func (t *txn) addAlloc(r *Row) bool {
	if !t.allocs.add(t.index, r) {
		return false
	}
	t.touch(AllocKey(r.id), NodeDesired(r.node))
	t.count(r, 1)
	return true
}

// putAlloc replaces an allocation. desired says that the change is one that its node has to act on.
func (t *txn) putAlloc(r *Row, desired bool) {
	old := t.allocs.put(t.index, r)
	t.touch(AllocKey(r.id))
	if desired {
		t.touch(NodeDesired(r.node))
	}
	t.count(r, 1)
	t.count(old, -1)
}

// deleteAlloc forgets an allocation that its node has finished with.
func (t *txn) deleteAlloc(id ID) {
	old := t.allocs.get(&Row{id: id})
	if old == nil || !old.ClientTerminal() {
		return
	}
	t.allocs.remove(t.index, old)
	t.touch(AllocKey(id), NodeDesired(old.node))
	t.count(old, -1)
	t.forgetNodeRef(old.node)
}

// count adds n times what a row contributes to the references of its version and to its job's counts.
func (t *txn) count(r *Row, n int) {
	u := t.use(r.version)
	u.refs += n
	j := u.job
	if j == nil {
		return
	}
	j.allocsIndex, j.changed = t.index, true
	g := j.group(r.Group())
	*g.bucket(r.status) += n
	if !r.ClientTerminal() {
		j.live += n
	}
	if r.version == j.version && r.desired == desiredRun && r.client != nil && r.client.healthy == healthGood {
		g.healthy += n
	}
}
