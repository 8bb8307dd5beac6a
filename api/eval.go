package api

import "time"

// Evaluation statuses.
const (
	EvalStatusBlocked  = "blocked"
	EvalStatusPending  = "pending"
	EvalStatusComplete = "complete"
	EvalStatusFailed   = "failed"
	EvalStatusCanceled = "canceled"
)

// What made an evaluation.
const (
	EvalTriggerJobRegister       = "job-register"
	EvalTriggerJobDeregister     = "job-deregister"
	EvalTriggerNodeUpdate        = "node-update"
	EvalTriggerAllocStop         = "alloc-stop"
	EvalTriggerScheduled         = "scheduled"
	EvalTriggerDeploymentWatcher = "deployment-watcher" // the next step of a rolling update
	EvalTriggerRetryFailedAlloc  = "alloc-failure"
	EvalTriggerQueuedAllocs      = "queued-allocs" // blocked until capacity changes
	EvalTriggerPeriodicJob       = "periodic-job"
)

// Evaluation says "look at this job again": the unit of scheduling work.
type Evaluation struct {
	ID                   string
	Priority             int
	Type                 string // the job's type
	TriggeredBy          string
	Namespace            string
	JobID                string
	JobModifyIndex       uint64
	NodeID               string `json:",omitempty"`
	NodeModifyIndex      uint64 `json:",omitempty"`
	DeploymentID         string `json:",omitempty"`
	Status               string
	StatusDescription    string
	WaitUntil            time.Time // zero: at once
	NextEval             string
	PreviousEval         string
	BlockedEval          string
	FailedTGAllocs       map[string]*AllocMetric // group -> why it could not be placed
	ClassEligibility     map[string]bool
	EscapedComputedClass bool
	QueuedAllocations    map[string]int // group -> still to place
	SnapshotIndex        uint64         // state the evaluation was computed on
	CreateIndex          uint64
	ModifyIndex          uint64
	CreateTime           int64 // unix nanoseconds
	ModifyTime           int64
}

// EvaluationStub is how an evaluation appears among another's RelatedEvals.
type EvaluationStub struct {
	ID, Type, TriggeredBy, Namespace, JobID, NodeID, DeploymentID string
	Priority                                                      int
	Status, StatusDescription                                     string
	WaitUntil                                                     time.Time
	NextEval, PreviousEval, BlockedEval                           string
	CreateIndex, ModifyIndex                                      uint64
	CreateTime, ModifyTime                                        int64
}
