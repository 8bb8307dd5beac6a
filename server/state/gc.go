package state

import "github.com/brumehq/brume/api"

// GC forgets what nobody needs any more. Whatever came back to life meanwhile is passed over: an evaluation that is
// pending or blocked, an allocation that its node has not finished with, a job that is not dead. There is no result.
type GC struct {
	Evals      []string
	Allocs     []ID
	Jobs       []JobName
	JoinTokens []string
}

// JobName names a job.
type JobName struct{ Namespace, ID string }

func (c GC) kind() kind { return kindGC }

func (c GC) encode(e *encoder) error {
	e.strings(c.Evals)
	e.ids(c.Allocs)
	e.count(len(c.Jobs))
	for _, j := range c.Jobs {
		e.text(j.Namespace)
		e.text(j.ID)
	}
	e.strings(c.JoinTokens)
	return nil
}

func decodeGC(d *decoder) Command {
	c := GC{Evals: d.strings(), Allocs: d.ids()}
	for range d.count(2) {
		c.Jobs = append(c.Jobs, JobName{d.text(), d.text()})
	}
	c.JoinTokens = d.strings()
	return c
}

func (c GC) apply(t *txn) (any, error) {
	for _, id := range c.Evals {
		t.deleteEval(id)
	}
	for _, id := range c.Allocs {
		t.deleteAlloc(id)
	}
	for _, j := range c.Jobs {
		if e := t.editJob(j.Namespace, j.ID); e != nil && e.status() == api.JobStatusDead {
			t.purgeJob(e)
		}
	}
	for _, id := range c.JoinTokens {
		if t.joinTokens.remove(t.index, &api.JoinToken{ID: id}) != nil {
			t.touch(TableKey(JoinTokens))
		}
	}
	return nil, nil
}
