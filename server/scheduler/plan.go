package scheduler

import (
	"time"

	"github.com/brumehq/brume/api"
)

// Request is one evaluation to be scheduled and all that Schedule needs beside the nodes. Schedule changes nothing that it
// points at.
type Request struct {
	Eval *api.Evaluation
	Job  *api.Job // the present version; nil if the job is gone

	// Allocs are the job's allocations, in any order. Those that are both desired to stop and terminal on their node may be
	// left out; nothing else may: a finished batch allocation is known to be done only from here.
	Allocs []Alloc

	// Blocked is the job's blocked evaluation, if there is one other than Eval. It is updated or cancelled, never doubled.
	Blocked *api.Evaluation

	Now  time.Time
	Seed [16]byte // fresh for every call: ids and ports are chosen from it

	// DryRun leaves the View as it was.
	DryRun bool
}

// Plan is what an evaluation changes. Committing it and scheduling again without other changes gives an empty plan.
type Plan struct {
	// Place is grouped: the placements of one group are consecutive, groups in the job's order. Unless the request was a dry
	// run, the View already counts them.
	Place []Placement
	// Stop lists allocations to stop. They occupy their node until it reports them terminal; those with a ClientStatus are
	// terminal by this plan.
	Stop []Stop
	// InPlace lists allocations that take on the job's present version without being stopped.
	InPlace []ID
	// Wait lists failed allocations whose back-off has begun, each with its evaluation in FollowUp.
	Wait []Wait

	// Eval is the request's evaluation as it ends: complete, failed, or blocked again if it was the job's blocked one.
	Eval *api.Evaluation
	// Blocked is the evaluation, new or updated, that waits for capacity; nil if there is none beside Eval.
	Blocked *api.Evaluation
	// Cancelled is the request's Blocked, with nothing left to wait for; nil if it stays.
	Cancelled *api.Evaluation
	// FollowUp are new evaluations that wait until their WaitUntil.
	FollowUp []*api.Evaluation

	// Groups says for each group of the job (and each group that only its allocations know) what was decided.
	Groups map[string]*GroupPlan
}

// GroupPlan counts what a plan does with a group's allocations and explains its placements.
type GroupPlan struct {
	Place           int // new, including replacements of lost, failed and stopped ones
	Stop            int
	Ignore          int
	InPlace         int
	Destructive     int // stopped and replaced because the group changed
	Lost            int // of those replaced or stopped: their node is down or gone
	RescheduleNow   int
	RescheduleLater int
	Queued          int // wanted, and not placed
	Remaining       int // of an older version, to be replaced when others have become healthy

	Metric *api.AllocMetric // of the group's placements; nil if there were none
	Failed *api.AllocMetric // why Queued could not be placed; nil if all were
}

// Placement is a new allocation.
type Placement struct {
	ID       ID
	Group    string
	Index    int
	Node     uint32                 // ordinal
	Ports    []uint16               // in the order of PortAsks
	Previous ID                     // the allocation that it replaces; zero: none
	Tracker  *api.RescheduleTracker // nil: first of its line
}

// Stop is an allocation that is to be stopped.
type Stop struct {
	ID           ID
	Description  string
	ClientStatus string // api.AllocClientLost: its node is gone and will not report it; else ""
}

// Wait ties a failed allocation to the evaluation that will replace it.
type Wait struct {
	ID       ID
	FollowUp ID
}

// Empty reports whether the plan changes no allocation.
func (p *Plan) Empty() bool {
	return len(p.Place) == 0 && len(p.Stop) == 0 && len(p.InPlace) == 0 && len(p.Wait) == 0
}
