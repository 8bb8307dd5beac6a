package planner

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
)

func evalOf(job string, opts ...func(*api.Evaluation)) *api.Evaluation {
	e := &api.Evaluation{
		ID: uuid.NewString(), Namespace: api.DefaultNamespace, JobID: job, Type: api.JobTypeService, Priority: 50,
		Status: api.EvalStatusPending, TriggeredBy: api.EvalTriggerJobRegister,
	}
	for _, o := range opts {
		o(e)
	}
	return e
}

func TestQueueOrder(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(index uint64, priority int) func(*api.Evaluation) {
		return func(e *api.Evaluation) { e.CreateIndex, e.Priority = index, priority }
	}
	blocked := func(e *api.Evaluation) { e.Status = api.EvalStatusBlocked }
	tests := []struct {
		rule  string
		evals []*api.Evaluation
		wake  bool
		want  []string
	}{
		{"higher priority first", []*api.Evaluation{evalOf("a", at(1, 50)), evalOf("b", at(2, 70))}, false, []string{"b", "a"}},
		{"then who waited longer", []*api.Evaluation{evalOf("a", at(2, 50)), evalOf("b", at(1, 50))}, false, []string{"b", "a"}},
		{"a job once", []*api.Evaluation{evalOf("a", at(1, 50)), evalOf("a", at(2, 50))}, false, []string{"a"}},
		{"blocked ones wait", []*api.Evaluation{evalOf("a", at(1, 50), blocked)}, false, nil},
		{"blocked ones wake", []*api.Evaluation{evalOf("a", at(1, 50), blocked)}, true, []string{"a"}},
		{"new before retried", []*api.Evaluation{evalOf("a", at(1, 50), blocked), evalOf("b", at(2, 50))}, true, []string{"b", "a"}},
		{"urgent retried before new", []*api.Evaluation{evalOf("a", at(1, 90), blocked), evalOf("b", at(2, 50))}, true, []string{"a", "b"}},
		{"delayed ones wait", []*api.Evaluation{evalOf("a", func(e *api.Evaluation) { e.WaitUntil = now.Add(time.Second) })}, false, nil},
		{"finished ones are nothing", []*api.Evaluation{evalOf("a", func(e *api.Evaluation) { e.Status = api.EvalStatusComplete })}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			q := newQueue()
			for _, e := range tt.evals {
				q.put(e, now)
			}
			if tt.wake {
				q.wake(map[string]bool{"class": true})
			}
			var got []string
			for w := q.next(); w != nil; w = q.next() {
				got = append(got, w.name.ID)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("order %v, want %v", got, tt.want)
			}
		})
	}
}

func TestQueueWakesByClass(t *testing.T) {
	tests := []struct {
		rule string
		eval *api.Evaluation
		want bool
	}{
		{"eligible class", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"c": true} }), true},
		{"ineligible class", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"c": false} }), false},
		{"class not looked at", evalOf("a", func(e *api.Evaluation) { e.ClassEligibility = map[string]bool{"d": false} }), true},
		{"class does not tell", evalOf("a", func(e *api.Evaluation) {
			e.ClassEligibility, e.EscapedComputedClass = map[string]bool{"c": false}, true
		}), true},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			q := newQueue()
			tt.eval.Status = api.EvalStatusBlocked
			q.put(tt.eval, time.Unix(0, 0))
			q.wake(map[string]bool{"c": true})
			if got := q.next() != nil; got != tt.want {
				t.Errorf("woken %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBusyJobWaitsForItsPlan(t *testing.T) {
	q := newQueue()
	q.put(evalOf("a"), time.Unix(0, 0))
	w := q.next()
	w.ready = nil // taken
	q.put(evalOf("a"), time.Unix(0, 0))
	if q.next() != nil {
		t.Error("the job is looked at again before its plan is committed")
	}
	q.done(w)
	if q.next() != w {
		t.Error("what came meanwhile is forgotten")
	}
}
