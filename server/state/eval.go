package state

import (
	"cmp"
	"reflect"
	"strings"

	"github.com/brumehq/brume/api"
)

// Orders of the table of evaluations.
const (
	evalsByID = iota
	evalsByJob
	evalsByState
)

const terminalBit = 1 << 63

func newEvals() *table[api.Evaluation] {
	return newTable(
		order[api.Evaluation]{
			hint: func(e *api.Evaluation) uint64 { return prefixHint(e.ID) },
			less: func(a, b *api.Evaluation) bool { return a.ID < b.ID },
		},
		order[api.Evaluation]{less: func(a, b *api.Evaluation) bool {
			return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.JobID, b.JobID),
				cmp.Compare(a.CreateIndex, b.CreateIndex), strings.Compare(a.ID, b.ID)) < 0
		}},
		order[api.Evaluation]{ // the open ones first, each half in the order of creation
			hint: func(e *api.Evaluation) uint64 {
				if evalOpen(e) {
					return e.CreateIndex &^ terminalBit
				}
				return e.CreateIndex | terminalBit
			},
			less: func(a, b *api.Evaluation) bool { return a.ID < b.ID },
		},
	)
}

// evalOpen reports whether an evaluation is still to be worked on.
func evalOpen(e *api.Evaluation) bool {
	return e.Status == api.EvalStatusPending || e.Status == api.EvalStatusBlocked
}

// sameEval reports whether two states of an evaluation differ in nothing but when they were written.
func sameEval(old, e *api.Evaluation) bool {
	a := *old
	a.CreateIndex, a.ModifyIndex, a.CreateTime, a.ModifyTime = e.CreateIndex, e.ModifyIndex, e.CreateTime, e.ModifyTime
	return reflect.DeepEqual(&a, e)
}

// PutEvals adds evaluations, or replaces those with the same ids. There is no result.
type PutEvals struct{ Evals []*api.Evaluation }

func (c PutEvals) kind() kind { return kindPutEvals }

func (c PutEvals) encode(e *encoder) error { return e.evals(c.Evals) }

func (c PutEvals) apply(t *txn) (any, error) {
	t.putEvals(c.Evals)
	return nil, nil
}
