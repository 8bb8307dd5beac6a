package state

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/brumehq/brume/api"
)

// JobRef names one version of one registration of a job.
type JobRef struct {
	Namespace   string
	ID          string
	CreateIndex uint64 // of the registration: a job that was purged and registered again is another one
	Version     uint64
}

// RefOf is the reference to a job's version.
func RefOf(j *api.Job) JobRef { return JobRef{j.Namespace, j.ID, j.CreateIndex, j.Version} }

func (r JobRef) job() *api.Job {
	return &api.Job{Namespace: r.Namespace, ID: r.ID, CreateIndex: r.CreateIndex, Version: r.Version}
}

func (e *encoder) jobRef(r JobRef) {
	e.text(r.Namespace)
	e.text(r.ID)
	e.uint(r.CreateIndex)
	e.uint(r.Version)
}

func (d *decoder) jobRef() JobRef {
	return JobRef{Namespace: d.text(), ID: d.text(), CreateIndex: d.uint(), Version: d.uint()}
}

// RegisterJob registers a job, or a new version of it, with the evaluation that will look at it. A job equal to the
// present one makes no new version. The result is a Registered; with EnforceIndex, an index other than that of the
// present job (0: there is none) is refused with api.ErrConflict.
type RegisterJob struct {
	Job  *api.Job
	Eval *api.Evaluation // nil: none; its namespace, job, type, priority and index are filled

	EnforceIndex   bool
	JobModifyIndex uint64
}

// Registered answers a registration or a deregistration.
type Registered struct {
	JobModifyIndex  uint64
	Version         uint64
	Changed         bool // a new version was made
	EvalID          string
	EvalCreateIndex uint64
}

func (c RegisterJob) kind() kind { return kindRegisterJob }

func (c RegisterJob) encode(e *encoder) error {
	if err := checkJob(c.Job); err != nil {
		return err
	}
	e.bool(c.EnforceIndex)
	e.uint(c.JobModifyIndex)
	if err := e.object(c.Job); err != nil {
		return err
	}
	return e.evals(optional(c.Eval))
}

func decodeRegisterJob(d *decoder) Command {
	c := RegisterJob{EnforceIndex: d.bool(), JobModifyIndex: d.uint(), Job: new(api.Job)}
	d.job(c.Job)
	c.Eval = d.eval()
	return c
}

// job reads a job; one that the store could not hold is a fault.
func (d *decoder) job(j *api.Job) {
	d.object(j)
	d.check(checkJob(j))
}

// checkJob makes sure of what the store relies on. It is no validation: the server does that before.
func checkJob(j *api.Job) error {
	if j == nil || j.ID == "" || j.Namespace == "" || len(j.TaskGroups) > 1<<16 {
		return fmt.Errorf("job without id or namespace, or with too many groups: %w", api.ErrInvalid)
	}
	for _, g := range j.TaskGroups {
		if g == nil || slices.Contains(g.Tasks, nil) || slices.Contains(g.Networks, nil) {
			return fmt.Errorf("job %s: a group, task or network is null: %w", j.ID, api.ErrInvalid)
		}
	}
	return nil
}

func (c RegisterJob) apply(t *txn) (any, error) {
	e := t.editJob(c.Job.Namespace, c.Job.ID)
	if c.EnforceIndex {
		if err := enforceIndex(e, c.JobModifyIndex); err != nil {
			return nil, err
		}
	}
	j := c.Job
	switch {
	case e == nil:
		j.CreateIndex, j.Version = t.index, 0
		e = &jobEdit{}
		e.job = j
		for ev := range t.evalsByJob(j.Namespace, j.ID) { // of a job of that name that was purged
			e.evalsIndex = max(e.evalsIndex, ev.ModifyIndex)
			if evalOpen(ev) {
				e.open++
			}
		}
		t.keepEdit(e)
		t.setVersion(e, j)
	case !sameJob(e.job, j):
		j.CreateIndex, j.Version = e.job.CreateIndex, e.job.Version+1
		t.setVersion(e, j)
	}
	r := Registered{JobModifyIndex: e.job.JobModifyIndex, Version: e.job.Version, Changed: e.was == nil || e.version != e.was.version}
	t.evaluate(c.Eval, e, &r)
	return r, nil
}

// setVersion makes j, whose CreateIndex and Version are set, the present version of a job.
func (t *txn) setVersion(e *jobEdit, j *api.Job) {
	j.ModifyIndex, j.JobModifyIndex, j.SubmitTime = t.index, t.index, t.time
	j.Stable, j.StatusDescription = false, ""
	e.setVersion(newVersion(j))
	j.Status = e.status()
	t.versions.put(t.index, &versionRow{version: e.version})
	t.forgetVersions(j)
}

// evaluate adds the evaluation that comes with a change of a job.
func (t *txn) evaluate(ev *api.Evaluation, e *jobEdit, r *Registered) {
	if ev == nil {
		return
	}
	ev.Namespace, ev.JobID, ev.Type, ev.JobModifyIndex = e.job.Namespace, e.job.ID, e.job.Type, e.job.JobModifyIndex
	if ev.Priority == 0 {
		ev.Priority = e.job.Priority
	}
	t.putEval(ev)
	r.EvalID, r.EvalCreateIndex = ev.ID, ev.CreateIndex
}

func enforceIndex(e *jobEdit, want uint64) error {
	switch {
	case e == nil && want != 0:
		return api.E(api.ErrConflict, fmt.Sprintf("Enforcing job modify index %d: job does not exist", want))
	case e != nil && want == 0:
		return api.E(api.ErrConflict, "Enforcing job modify index 0: job already exists")
	case e != nil && want != e.job.JobModifyIndex:
		return api.E(api.ErrConflict, fmt.Sprintf("Enforcing job modify index %d: job exists with conflicting job modify index: %d",
			want, e.job.JobModifyIndex))
	}
	return nil
}

// sameJob reports whether a registration asks for what the present job is already. Both have been through the codec, so
// equal values have equal forms.
func sameJob(have, want *api.Job) bool {
	a, b := *have, *want
	for _, j := range []*api.Job{&a, &b} {
		j.Status, j.StatusDescription, j.Stable, j.Version, j.SubmitTime = "", "", false, 0, 0
		j.CreateIndex, j.ModifyIndex, j.JobModifyIndex = 0, 0, 0
	}
	return reflect.DeepEqual(a, b)
}

// DeregisterJob stops a job, which makes a new version with Stop set, or forgets it if Purge; what still runs of it is
// stopped when the evaluation is scheduled. The result is a Registered; a job that does not exist is api.ErrNotFound.
type DeregisterJob struct {
	Namespace string
	ID        string
	Purge     bool
	Eval      *api.Evaluation // as in RegisterJob
}

func (c DeregisterJob) kind() kind { return kindDeregisterJob }

func (c DeregisterJob) encode(e *encoder) error {
	e.text(c.Namespace)
	e.text(c.ID)
	e.bool(c.Purge)
	return e.evals(optional(c.Eval))
}

func decodeDeregisterJob(d *decoder) Command {
	return DeregisterJob{Namespace: d.text(), ID: d.text(), Purge: d.bool(), Eval: d.eval()}
}

func (c DeregisterJob) apply(t *txn) (any, error) {
	e := t.editJob(c.Namespace, c.ID)
	if e == nil {
		return nil, api.E(api.ErrNotFound, "job not found")
	}
	r := Registered{JobModifyIndex: e.job.JobModifyIndex, Version: e.job.Version}
	if c.Purge {
		r.JobModifyIndex, r.Changed = t.index, true
		gone := *e.job
		gone.JobModifyIndex = t.index
		t.purgeJob(e)
		e.job = &gone
	} else if !e.job.Stop {
		j := *e.version.job
		j.Stop, j.Version = true, e.job.Version+1
		t.setVersion(e, &j)
		r = Registered{JobModifyIndex: t.index, Version: j.Version, Changed: true}
		e.setQueued(nil)
	}
	t.evaluate(c.Eval, e, &r)
	return r, nil
}

// purgeJob forgets a job; its allocations keep their version of it.
func (t *txn) purgeJob(e *jobEdit) {
	t.dropEdit(e)
	t.jobs.remove(t.index, &e.jobRow)
	t.jobsAt, t.summariesAt = t.index, t.index
	t.touch(TableKey(Jobs), JobKey(e.job.Namespace, e.job.ID), TableKey(Summaries), SummaryKey(e.job.Namespace, e.job.ID))
	t.forgetVersions(e.job)
}

func optional(e *api.Evaluation) []*api.Evaluation {
	if e == nil {
		return nil
	}
	return []*api.Evaluation{e}
}

// eval reads an optional evaluation.
func (d *decoder) eval() *api.Evaluation {
	evals := d.evals()
	switch len(evals) {
	case 0:
		return nil
	case 1:
		return evals[0]
	}
	d.fail(fmt.Errorf("%d evaluations where one was expected", len(evals)))
	return nil
}
