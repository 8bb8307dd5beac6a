package api

import "time"

// What the hubs want of an allocation.
const (
	AllocDesiredRun   = "run"
	AllocDesiredStop  = "stop"
	AllocDesiredEvict = "evict"
)

// What its node says of an allocation.
const (
	AllocClientPending  = "pending"
	AllocClientRunning  = "running"
	AllocClientComplete = "complete"
	AllocClientFailed   = "failed"
	AllocClientLost     = "lost"
	AllocClientUnknown  = "unknown"
)

// Task states.
const (
	TaskStatePending = "pending"
	TaskStateRunning = "running"
	TaskStateDead    = "dead"
)

// Allocation is one instance of a group placed on one node. Name is "job.group[index]".
type Allocation struct {
	ID                 string
	Namespace          string
	EvalID             string
	Name               string
	NodeID             string
	NodeName           string
	JobID              string
	Job                *Job // of the version that was placed
	TaskGroup          string
	AllocatedResources *AllocatedResources
	Metrics            *AllocMetric
	DesiredStatus      string
	DesiredDescription string
	ClientStatus       string
	ClientDescription  string
	TaskStates         map[string]*TaskState
	DeploymentStatus   *AllocDeploymentStatus
	PreviousAllocation string
	NextAllocation     string
	FollowupEvalID     string
	RescheduleTracker  *RescheduleTracker
	LeaseNonce         string // ties a later receipt to this placement; derived from the entry's seed

	CreateIndex      uint64
	ModifyIndex      uint64
	AllocModifyIndex uint64 // the last change by the hubs; a node's own reports do not move it
	CreateTime       int64  // unix nanoseconds
	ModifyTime       int64
}

// AllocatedResources is what an allocation holds on its node.
type AllocatedResources struct {
	Tasks  map[string]*AllocatedTaskResources
	Shared AllocatedSharedResources
}

// AllocatedTaskResources is a task's part of them.
type AllocatedTaskResources struct {
	Cpu    AllocatedCPU //nolint:staticcheck // the name on the wire
	Memory AllocatedMemory
}

// AllocatedCPU is compute in MHz.
type AllocatedCPU struct{ CpuShares int64 } //nolint:staticcheck // the name on the wire

// AllocatedMemory is memory in MiB.
type AllocatedMemory struct {
	MemoryMB    int64
	MemoryMaxMB int64
}

// AllocatedSharedResources are those of the whole group.
type AllocatedSharedResources struct {
	DiskMB int64
	Ports  []PortMapping
}

// PortMapping is a port that an allocation holds: Value on the node's address HostIP, To inside the task (0: the same).
type PortMapping struct {
	Label  string
	Value  int
	To     int
	HostIP string
}

// TaskState is what a node says of one task.
type TaskState struct {
	State       string
	Failed      bool
	Restarts    uint64
	LastRestart time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
	Events      []*TaskEvent // oldest first, the last ten
}

// TaskEvent is one line of a task's history.
type TaskEvent struct {
	Type           string
	Time           int64 // unix nanoseconds
	DisplayMessage string
	Message        string
	Details        map[string]string
	FailsTask      bool
	ExitCode       int
	Signal         int
	OOMKilled      bool `json:"-"`
	KillTimeout    time.Duration
	RestartReason  string
	DriverError    string
	KillReason     string
	StartDelay     int64 // nanoseconds
}

// Task event types, as clients know them.
const (
	TaskReceived         = "Received"
	TaskSetup            = "Task Setup"
	TaskSetupFailure     = "Setup Failure"
	TaskDriverFailure    = "Driver Failure"
	TaskDriverMessage    = "Driver"
	TaskStarted          = "Started"
	TaskTerminated       = "Terminated"
	TaskKilling          = "Killing"
	TaskKilled           = "Killed"
	TaskRestarting       = "Restarting"
	TaskNotRestarting    = "Not Restarting"
	TaskRestartSignal    = "Restart Signaled"
	TaskSignaling        = "Signaling"
	TaskSiblingFailed    = "Sibling Task Failed"
	TaskLeaderDead       = "Leader Task Dead"
	TaskFailedValidation = "Failed Validation"
)

// AllocDeploymentStatus says whether an allocation became healthy: nil Healthy is "not known yet".
type AllocDeploymentStatus struct {
	Healthy     *bool
	Timestamp   time.Time
	ModifyIndex uint64
}

// RescheduleTracker remembers the replaced predecessors of an allocation.
type RescheduleTracker struct {
	Events         []*RescheduleEvent
	LastReschedule string
}

// RescheduleEvent is one such replacement.
type RescheduleEvent struct {
	RescheduleTime int64 // unix nanoseconds
	PrevAllocID    string
	PrevNodeID     string
	Delay          time.Duration
}

// AllocMetric explains a placement, or why there was none: which rule removed how many nodes, and the nearest miss.
type AllocMetric struct {
	NodesEvaluated     int
	NodesFiltered      int
	NodesInPool        int
	NodesAvailable     map[string]int // by datacenter
	ClassFiltered      map[string]int
	ConstraintFiltered map[string]int // text of the rule -> nodes it removed
	NodesExhausted     int
	ClassExhausted     map[string]int
	DimensionExhausted map[string]int // "memory", "cpu", "network: reserved port collision" -> nodes
	ScoreMetaData      []*NodeScoreMeta
	AllocationTime     time.Duration
	CoalescedFailures  int    // further instances that failed for the same reason
	NearestMiss        string // "n3: memory short by 212 MiB"; "" when no node came near
}

// NodeScoreMeta is one of the best-scored nodes of a placement.
type NodeScoreMeta struct {
	NodeID    string
	Scores    map[string]float64
	NormScore float64
}

// AllocationListStub is a row of /v1/allocations and of a job's or node's allocations.
type AllocationListStub struct {
	ID                    string
	EvalID                string
	Name                  string
	Namespace             string
	NodeID                string
	NodeName              string
	JobID                 string
	JobType               string
	JobVersion            uint64
	TaskGroup             string
	AllocatedResources    *AllocatedResources `json:",omitempty"`
	DesiredStatus         string
	DesiredDescription    string
	ClientStatus          string
	ClientDescription     string
	TaskStates            map[string]*TaskState
	DeploymentStatus      *AllocDeploymentStatus
	FollowupEvalID        string
	NextAllocation        string
	RescheduleTracker     *RescheduleTracker
	PreemptedAllocations  []string
	PreemptedByAllocation string
	CreateIndex           uint64
	ModifyIndex           uint64
	CreateTime            int64
	ModifyTime            int64
}

// AllocStatus is a node's report of one allocation.
type AllocStatus struct {
	ID                string
	ClientStatus      string
	ClientDescription string
	TaskStates        map[string]*TaskState
	Healthy           *bool // nil: not known yet
	Time              int64 // unix nanoseconds on the node's clock
}

// ClientTerminal reports whether the node has finished with the allocation, or is not coming back to it.
func (a *Allocation) ClientTerminal() bool { return ClientTerminal(a.ClientStatus) }

// ClientTerminal reports whether a client status is final.
func ClientTerminal(status string) bool {
	return status == AllocClientComplete || status == AllocClientFailed || status == AllocClientLost
}
