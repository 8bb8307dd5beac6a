package state

import (
	"cmp"
	"hash/fnv"
	"iter"
	"slices"
	"strings"

	"github.com/brumehq/brume/api"
)

// keptVersions is how many versions of a job are kept whether allocations refer to them or not.
const keptVersions = 6

// version is one version of a job. All rows of allocations that run it point at the same one.
type version struct {
	job  *api.Job // as registered
	hash uint64   // of namespace and id
	key  Key      // AllocsOfJob
}

func newVersion(j *api.Job) *version {
	h := fnv.New64a()
	h.Write([]byte(j.Namespace))
	h.Write([]byte{0})
	h.Write([]byte(j.ID))
	return &version{job: j, hash: h.Sum64(), key: AllocsOfJob(j.Namespace, j.ID)}
}

// versionRow keeps a version while allocations refer to it or it is one of the last of its job.
type versionRow struct {
	version *version
	refs    int // allocations
}

// jobRow is a job's present version and what is counted of it.
type jobRow struct {
	job     *api.Job // the present version, with its present status
	version *version
	groups  []groupCount // in the order of their names
	live    int          // allocations that their nodes have not finished with
	open    int          // evaluations that are pending or blocked

	summaryIndex uint64
	allocsIndex  uint64 // of the last change of any of its allocations
	evalsIndex   uint64 // of the last change of any of its evaluations; 0: there never was one
}

type groupCount struct {
	name    string
	healthy int // allocations of the present version that are to run and became healthy
	api.GroupSummary
}

func (g *groupCount) bucket(s status) *int {
	switch clientNames[s] {
	case api.AllocClientRunning:
		return &g.Running
	case api.AllocClientComplete:
		return &g.Complete
	case api.AllocClientFailed:
		return &g.Failed
	case api.AllocClientLost:
		return &g.Lost
	case api.AllocClientUnknown:
		return &g.Unknown
	}
	return &g.Starting
}

func compareJobs(a, b *api.Job) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.ID, b.ID))
}

func newJobs() *table[jobRow] {
	return newTable(order[jobRow]{less: func(a, b *jobRow) bool { return compareJobs(a.job, b.job) < 0 }})
}

func newVersions() *table[versionRow] {
	return newTable(order[versionRow]{
		hint: func(r *versionRow) uint64 { return r.version.hash },
		less: func(a, b *versionRow) bool { return compareVersions(a.version.job, b.version.job) < 0 },
	})
}

// compareVersions orders by job, then registration, then version.
func compareVersions(a, b *api.Job) int {
	return cmp.Or(compareJobs(a, b), cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.Version, b.Version))
}

func (s *rows) job(namespace, id string) *jobRow {
	return s.jobs.get(&jobRow{job: &api.Job{Namespace: namespace, ID: id}})
}

func (s *rows) versionRow(ref JobRef) *versionRow {
	return s.versions.get(&versionRow{version: newVersion(ref.job())})
}

// jobEdit is a job's row being changed.
type jobEdit struct {
	jobRow
	was     *jobRow // nil: a new job
	changed bool
}

// editJob returns the job's row to be changed, or nil if there is no such job.
func (t *txn) editJob(namespace, id string) *jobEdit {
	name := JobName{namespace, id}
	if e, ok := t.jobOf[name]; ok {
		return e
	}
	row := t.job(namespace, id)
	if row == nil {
		return nil
	}
	e := &jobEdit{jobRow: *row, was: row}
	e.groups = slices.Clone(row.groups)
	t.keepEdit(e)
	return e
}

func (t *txn) keepEdit(e *jobEdit) {
	if t.jobOf == nil {
		t.jobOf = make(map[JobName]*jobEdit)
	}
	t.jobOf[JobName{e.job.Namespace, e.job.ID}] = e
	t.jobEdits = append(t.jobEdits, e)
}

// dropEdit forgets the edit of a job that is gone.
func (t *txn) dropEdit(e *jobEdit) {
	delete(t.jobOf, JobName{e.job.Namespace, e.job.ID})
	t.jobEdits = slices.DeleteFunc(t.jobEdits, func(o *jobEdit) bool { return o == e })
	for _, u := range t.uses {
		if u.job == e {
			u.job = nil
		}
	}
}

// group returns the counts of a group, made if need be.
func (e *jobEdit) group(name string) *groupCount {
	i, ok := slices.BinarySearchFunc(e.groups, name, func(g groupCount, name string) int { return strings.Compare(g.name, name) })
	if !ok {
		e.groups = slices.Insert(e.groups, i, groupCount{name: name})
	}
	return &e.groups[i]
}

// setQueued records what an evaluation left to place; groups that it does not name have nothing queued.
func (e *jobEdit) setQueued(queued map[string]int) {
	for i := range e.groups {
		g := &e.groups[i]
		if n := queued[g.name]; g.Queued != n {
			g.Queued, e.changed = n, true
		}
	}
}

// setVersion makes v the job's present version.
func (e *jobEdit) setVersion(v *version) {
	e.version, e.job, e.changed = v, v.job, true
	for i := range e.groups {
		e.groups[i].healthy = 0
	}
	for _, g := range v.job.TaskGroups {
		e.group(g.Name)
	}
	e.groups = slices.DeleteFunc(e.groups, func(g groupCount) bool {
		g.Queued = 0 // of a group that is no more, nothing is to be placed
		return g.GroupSummary == (api.GroupSummary{}) &&
			!slices.ContainsFunc(v.job.TaskGroups, func(t *api.Group) bool { return t.Name == g.name })
	})
}

// status derives the job's status.
func (e *jobEdit) status() string {
	switch {
	case e.live > 0:
		return api.JobStatusRunning
	case e.job.Stop:
		return api.JobStatusDead
	case e.open > 0 || e.evalsIndex == 0:
		return api.JobStatusPending
	}
	return api.JobStatusDead
}

// stable reports whether all that the present version asks for became healthy, now or before.
func (e *jobEdit) stable() bool {
	if e.job.Stable || e.job.Stop || e.job.Type == api.JobTypeBatch {
		return e.job.Stable
	}
	for _, g := range e.job.TaskGroups {
		if e.group(g.Name).healthy < g.Count {
			return false
		}
	}
	return len(e.job.TaskGroups) > 0
}

// settleJob writes an edited job.
func (t *txn) settleJob(e *jobEdit) {
	if !e.changed {
		return
	}
	namespace, id := e.job.Namespace, e.job.ID
	if status, stable := e.status(), e.stable(); status != e.job.Status || stable != e.job.Stable {
		j := *e.job
		j.Status, j.Stable, j.ModifyIndex = status, stable, t.index
		e.job = &j
	}
	if e.was == nil || e.was.job != e.job {
		t.jobsAt = t.index
		t.touch(TableKey(Jobs), JobKey(namespace, id))
	}
	if e.was == nil || !slices.Equal(e.groups, e.was.groups) {
		t.summariesAt, e.summaryIndex = t.index, t.index
		t.touch(TableKey(Summaries), SummaryKey(namespace, id))
	}
	row := e.jobRow
	t.jobs.put(t.index, &row)
}

// versionUse gathers what an entry changes of the references to one version.
type versionUse struct {
	version *version
	refs    int      // more than before
	job     *jobEdit // nil if the registration that the version belongs to is gone
}

func (t *txn) use(v *version) *versionUse {
	if t.lastUse != nil && t.lastUse.version == v {
		return t.lastUse
	}
	u := t.useOf[v]
	if u == nil {
		u = &versionUse{version: v}
		if e := t.editJob(v.job.Namespace, v.job.ID); e != nil && e.job.CreateIndex == v.job.CreateIndex {
			u.job = e
		}
		if t.useOf == nil {
			t.useOf = make(map[*version]*versionUse)
		}
		t.useOf[v] = u
		t.uses = append(t.uses, u)
	}
	t.lastUse = u
	return u
}

// settleVersion writes the references to a version and forgets it if nothing needs it.
func (t *txn) settleVersion(u *versionUse) {
	t.touch(TableKey(Allocs), u.version.key)
	row := t.versions.get(&versionRow{version: u.version})
	if row == nil || u.refs == 0 {
		return
	}
	next := &versionRow{version: row.version, refs: row.refs + u.refs}
	t.versions.put(t.index, next)
	t.forgetVersion(next)
}

// forgetVersion deletes a version that no allocation refers to and that is not one of its job's last.
func (t *txn) forgetVersion(r *versionRow) {
	if r.refs > 0 {
		return
	}
	j := r.version.job
	e := t.editJob(j.Namespace, j.ID)
	if e != nil && e.job.CreateIndex == j.CreateIndex && j.Version+keptVersions > e.job.Version {
		return
	}
	t.versions.remove(t.index, r)
}

// forgetVersions does so for all versions of a registration.
func (t *txn) forgetVersions(j *api.Job) {
	var all []*versionRow
	for r := range t.versionsOf(j) {
		all = append(all, r)
	}
	for _, r := range all {
		t.forgetVersion(r)
	}
}

// versionsOf yields the kept versions of a registration, oldest first.
func (s *rows) versionsOf(j *api.Job) iter.Seq[*versionRow] {
	first := newVersion(&api.Job{Namespace: j.Namespace, ID: j.ID, CreateIndex: j.CreateIndex})
	return func(yield func(*versionRow) bool) {
		for r := range s.versions.from(0, &versionRow{version: first}) {
			o := r.version.job
			if compareJobs(o, j) != 0 || o.CreateIndex != j.CreateIndex || !yield(r) {
				return
			}
		}
	}
}
