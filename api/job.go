package api

import "time"

// Job types. A service job keeps its tasks running; a batch job runs them to completion.
const (
	JobTypeService  = "service"
	JobTypeBatch    = "batch"
	JobTypeSystem   = "system"   // one instance on every node: not supported yet
	JobTypeSysbatch = "sysbatch" // not supported yet
)

// Job statuses, derived by the store from the job's allocations and evaluations.
const (
	JobStatusPending = "pending"
	JobStatusRunning = "running"
	JobStatusDead    = "dead"
)

// Job is what a user asks for: groups of tasks, and where and how they may run. (Namespace, ID) names it; Version counts
// its registrations from 0.
type Job struct {
	ID          string `hcl:"id,optional"`
	Name        string `hcl:"name,optional"`
	Namespace   string `hcl:"namespace,optional"`
	Region      string `hcl:"region,optional"`
	ParentID    string
	Type        string            `hcl:"type,optional"`
	Priority    int               `hcl:"priority,optional"` // 1 to 100; higher goes first
	AllAtOnce   bool              // kept for clients; refused when true
	Datacenters []string          `hcl:"datacenters,optional"` // globs; ["*"] by default
	NodePool    string            `hcl:"node_pool,optional"`
	Constraints []Constraint      `hcl:"constraint,block"`
	TaskGroups  []*Group          `hcl:"group,block"`
	Update      *Update           `hcl:"update,block"`
	Reschedule  *Reschedule       `hcl:"reschedule,block"` // default of the job's groups; folded into them by the decoders
	Meta        map[string]string `hcl:"meta,optional"`

	Stop              bool
	Stable            bool
	Status            string
	StatusDescription string
	Version           uint64
	SubmitTime        int64 // unix nanoseconds, stamped by the leader

	CreateIndex    uint64
	ModifyIndex    uint64
	JobModifyIndex uint64 // the index of the last registration; status changes move ModifyIndex only
}

// Group is a set of tasks that run together on one node; Count is how many such sets to run.
type Group struct {
	Name             string            `hcl:",label"`
	Count            int               `hcl:"count,optional"`
	Constraints      []Constraint      `hcl:"constraint,block"`
	Tasks            []*Task           `hcl:"task,block"`
	Networks         []*Network        `hcl:"network,block"`
	Services         []*Service        `hcl:"service,block"`
	RestartPolicy    Restart           `hcl:"restart,block"`
	ReschedulePolicy *Reschedule       `hcl:"reschedule,block"`
	Update           *Update           `hcl:"update,block"` // nil for batch jobs
	EphemeralDisk    EphemeralDisk     `hcl:"ephemeral_disk,block"`
	ShutdownDelay    time.Duration     `hcl:"shutdown_delay,optional"`
	Meta             map[string]string `hcl:"meta,optional"`
}

// Task is one process, container or whatever its driver starts.
type Task struct {
	Name          string            `hcl:",label"`
	Driver        string            `hcl:"driver"`
	User          string            `hcl:"user,optional"`
	Config        map[string]any    `hcl:"config,block"` // opaque until the node's driver checks it with its own schema
	Env           map[string]string `hcl:"env,optional"`
	Constraints   []Constraint      `hcl:"constraint,block"`
	Services      []*Service        `hcl:"service,block"`
	Resources     Resources         `hcl:"resources,block"`
	RestartPolicy Restart           `hcl:"restart,block"`
	LogConfig     LogConfig         `hcl:"logs,block"`
	Leader        bool              `hcl:"leader,optional"` // when it ends, the group's other tasks are stopped
	KillTimeout   time.Duration     `hcl:"kill_timeout,optional"`
	KillSignal    string            `hcl:"kill_signal,optional"`
	ShutdownDelay time.Duration     `hcl:"shutdown_delay,optional"`
	Meta          map[string]string `hcl:"meta,optional"`
}

// Constraint limits the nodes a job, group or task may be placed on: LTarget and RTarget are texts with interpolation
// (`${attr.kernel.name}`), compared by Operand.
type Constraint struct {
	LTarget string `hcl:"attribute,optional"`
	Operand string `hcl:"operator,optional"`
	RTarget string `hcl:"value,optional"`
}

// Constraint operands. "" in a job file means OperandEqual.
const (
	OperandEqual            = "="
	OperandNotEqual         = "!="
	OperandLess             = "<"
	OperandLessEqual        = "<="
	OperandGreater          = ">"
	OperandGreaterEqual     = ">="
	OperandRegexp           = "regexp"
	OperandVersion          = "version"
	OperandSemver           = "semver"
	OperandSetContains      = "set_contains" // alias set_contains_all
	OperandSetContainsAll   = "set_contains_all"
	OperandSetContainsAny   = "set_contains_any"
	OperandIsSet            = "is_set"
	OperandIsNotSet         = "is_not_set"
	OperandDistinctHosts    = "distinct_hosts"
	OperandDistinctProperty = "distinct_property"
)

// Restart says how often a failed task is started again on its node: at most Attempts times in Interval, Delay apart;
// after that, Mode "fail" fails the allocation and "delay" waits for the next interval.
type Restart struct {
	Attempts int           `hcl:"attempts,optional"`
	Interval time.Duration `hcl:"interval,optional"`
	Delay    time.Duration `hcl:"delay,optional"`
	Mode     string        `hcl:"mode,optional"`
}

// Restart modes.
const (
	RestartModeFail  = "fail"
	RestartModeDelay = "delay"
)

// Reschedule says how a failed allocation is replaced on another node: after Delay, grown by DelayFunction up to
// MaxDelay, for ever if Unlimited, else at most Attempts times in Interval.
type Reschedule struct {
	Attempts      int           `hcl:"attempts,optional"`
	Interval      time.Duration `hcl:"interval,optional"`
	Delay         time.Duration `hcl:"delay,optional"`
	DelayFunction string        `hcl:"delay_function,optional"`
	MaxDelay      time.Duration `hcl:"max_delay,optional"`
	Unlimited     bool          `hcl:"unlimited,optional"`
}

// How Reschedule.Delay grows from one replacement to the next.
const (
	DelayConstant    = "constant"
	DelayExponential = "exponential"
	DelayFibonacci   = "fibonacci"
)

// Update says how a new version replaces the old one: MaxParallel allocations at a time (0: all at once), each healthy
// (all its tasks running for MinHealthyTime) before the next is replaced. The other fields are not built: they stay at
// their defaults and are there for clients.
type Update struct {
	MaxParallel      int           `hcl:"max_parallel,optional"`
	MinHealthyTime   time.Duration `hcl:"min_healthy_time,optional"`
	Stagger          time.Duration
	HealthCheck      string
	HealthyDeadline  time.Duration
	ProgressDeadline time.Duration
	Canary           int
	AutoRevert       bool
	AutoPromote      bool
}

// EphemeralDisk is the shared disk of an allocation; SizeMB counts in placement and is not enforced on the node.
type EphemeralDisk struct {
	Sticky  bool
	Migrate bool
	SizeMB  int `hcl:"size,optional"`
}

// LogConfig is how a task's output is kept: per stream at most MaxFiles files of MaxFileSizeMB (1 MB = 1<<20 bytes).
type LogConfig struct {
	MaxFiles      int  `hcl:"max_files,optional"`
	MaxFileSizeMB int  `hcl:"max_file_size,optional"`
	Disabled      bool `hcl:"disabled,optional"`
}

// Resources are what a task is promised: CPU in MHz, memory in MiB.
type Resources struct {
	CPU         int `hcl:"cpu,optional"`
	Cores       int // kept for clients; refused when set
	MemoryMB    int `hcl:"memory,optional"`
	MemoryMaxMB int // kept for clients; refused when set
	DiskMB      int
}

// Network asks for ports on the node's address. Only mode "host" (or "") is accepted.
type Network struct {
	Mode          string `hcl:"mode,optional"`
	ReservedPorts []Port
	DynamicPorts  []Port
}

// Port is one port of a network: static when Value is set in the job, else taken from the node's dynamic range.
type Port struct {
	Label       string `hcl:",label"`
	Value       int    `hcl:"static,optional"`
	To          int    `hcl:"to,optional"` // the port inside the task; 0: the same
	HostNetwork string // not built
}

// Service is a name under which a task's port is to be found. It is kept and served; nothing is registered from it yet.
type Service struct {
	Name        string            `hcl:"name,optional"`
	PortLabel   string            `hcl:"port,optional"`
	Provider    string            `hcl:"provider,optional"`
	Tags        []string          `hcl:"tags,optional"`
	Meta        map[string]string `hcl:"meta,optional"`
	Address     string            `hcl:"address,optional"`
	AddressMode string            `hcl:"address_mode,optional"`
	TaskName    string            `hcl:"task,optional"`
	Checks      []ServiceCheck    `hcl:"check,block"`
}

// ServiceCheck is a health check of a service: kept, not run yet.
type ServiceCheck struct {
	Name      string              `hcl:"name,optional"`
	Type      string              `hcl:"type,optional"`
	Path      string              `hcl:"path,optional"`
	Method    string              `hcl:"method,optional"`
	Protocol  string              `hcl:"protocol,optional"`
	PortLabel string              `hcl:"port,optional"`
	Command   string              `hcl:"command,optional"`
	Args      []string            `hcl:"args,optional"`
	Header    map[string][]string `hcl:"header,optional"`
	Body      string              `hcl:"body,optional"`
	Interval  time.Duration       `hcl:"interval,optional"`
	Timeout   time.Duration       `hcl:"timeout,optional"`
	TaskName  string              `hcl:"task,optional"`
}
