package state

import (
	"fmt"
	"slices"
	"time"

	"github.com/brumehq/brume/api"
)

// Row is an allocation as the store holds it: compact, immutable, and pointing at the one job object of its version. Its
// JSON shape is built by Snapshot.Allocation.
type Row struct {
	id      ID
	version *version
	origin  *origin
	ports   []uint16     // in the order in which its group asks for them
	extra   *extra       // nil for most
	client  *clientState // nil until its node reported something

	modifyIndex      uint64
	allocModifyIndex uint64
	modifyTime       int64

	node  uint32
	index uint32
	seq   uint32 // counts the rows of its origin; lease nonces derive from it
	group uint16 // in its version's TaskGroups

	desired status
	status  status
}

// origin is what the allocations share that one evaluation placed for one group.
type origin struct {
	evalID string
	index  uint64 // of the entry: their CreateIndex
	seq    uint32 // counts the origins of the entry
	time   int64  // their CreateTime
	seed   [16]byte
	metric *api.AllocMetric // nil: not kept
}

// extra is what few allocations have.
type extra struct {
	description       string // of the desired status
	clientDescription string // of a client status that the hubs set
	previous, next    ID
	followup          string
	tracker           *api.RescheduleTracker
	stopRequested     bool
}

// clientState is what a node said of an allocation beside its status.
type clientState struct {
	description string
	healthy     health
	healthTime  int64
	healthIndex uint64
	tasks       []taskState // in the order of their names
}

type health uint8

const (
	healthUnknown health = iota
	healthGood
	healthBad
)

func (h health) pointer() *bool {
	if h == healthUnknown {
		return nil
	}
	good := h == healthGood
	return &good
}

func healthOf(p *bool) health {
	switch {
	case p == nil:
		return healthUnknown
	case *p:
		return healthGood
	}
	return healthBad
}

// status is the number of a desired status, a client status or a task state in the log. Numbers are never used again.
type status uint8

var (
	desiredNames = [...]string{1: api.AllocDesiredRun, 2: api.AllocDesiredStop, 3: api.AllocDesiredEvict}
	clientNames  = [...]string{1: api.AllocClientPending, 2: api.AllocClientRunning, 3: api.AllocClientComplete,
		4: api.AllocClientFailed, 5: api.AllocClientLost, 6: api.AllocClientUnknown}
	taskNames = [...]string{1: api.TaskStatePending, 2: api.TaskStateRunning, 3: api.TaskStateDead}
)

const (
	desiredRun  status = 1
	desiredStop status = 2

	clientPending  status = 1
	clientRunning  status = 2
	clientComplete status = 3
	clientFailed   status = 4
	clientLost     status = 5
)

// statusOf finds a name's number; the empty name is 0.
func statusOf(names []string, what, name string) (status, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("%s %q: %w", what, name, api.ErrInvalid)
	}
	return status(i), nil
}

func clientTerminal(s status) bool { return s >= clientComplete && s <= clientLost }

// ID is the allocation's id.
func (r *Row) ID() ID { return r.id }

// Namespace is its job's namespace.
func (r *Row) Namespace() string { return r.version.job.Namespace }

// JobID is its job's id.
func (r *Row) JobID() string { return r.version.job.ID }

// Job is its job in the version that it runs, as registered: Status is that of the registration. Not to be changed.
func (r *Row) Job() *api.Job { return r.version.job }

// TaskGroup is its group in the version that it runs. Not to be changed.
func (r *Row) TaskGroup() *api.Group { return r.version.job.TaskGroups[r.group] }

// Group is its group's name.
func (r *Row) Group() string { return r.TaskGroup().Name }

// Index is the number in its name: 3 for "web.api[3]".
func (r *Row) Index() int { return int(r.index) }

// Name is "job.group[index]".
func (r *Row) Name() string { return fmt.Sprintf("%s.%s[%d]", r.JobID(), r.Group(), r.index) }

// Node is the ordinal of its node.
func (r *Row) Node() uint32 { return r.node }

// Ports are the host ports it holds: for each network of its group the reserved ones, then the dynamic ones. Not to be
// changed.
func (r *Row) Ports() []uint16 { return r.ports }

// EvalID is the evaluation that placed it.
func (r *Row) EvalID() string { return r.origin.evalID }

// DesiredStatus is what the hubs want of it.
func (r *Row) DesiredStatus() string { return desiredNames[r.desired] }

// ClientStatus is what its node says of it, or lost.
func (r *Row) ClientStatus() string { return clientNames[r.status] }

// ClientTerminal reports whether the node has finished with it, or is not coming back to it: it holds nothing any more.
func (r *Row) ClientTerminal() bool { return clientTerminal(r.status) }

// StopRequested reports whether a user asked for it to be stopped and no plan has done so yet.
func (r *Row) StopRequested() bool {
	return r.extra != nil && r.extra.stopRequested && r.desired == desiredRun
}

// Healthy says whether it became healthy; nil: not known yet.
func (r *Row) Healthy() *bool {
	if r.client == nil {
		return nil
	}
	return r.client.healthy.pointer()
}

// HealthTime is when that was recorded, in unix nanoseconds; 0 if Healthy is nil.
func (r *Row) HealthTime() int64 {
	if r.client == nil {
		return 0
	}
	return r.client.healthTime
}

// Previous is the allocation that it replaced; zero: none.
func (r *Row) Previous() ID {
	if r.extra == nil {
		return ID{}
	}
	return r.extra.previous
}

// Next is the allocation that replaced it; zero: none.
func (r *Row) Next() ID {
	if r.extra == nil {
		return ID{}
	}
	return r.extra.next
}

// FollowupEval is the evaluation that will replace it after its back-off; "" if there is none.
func (r *Row) FollowupEval() string {
	if r.extra == nil {
		return ""
	}
	return r.extra.followup
}

// Tracker remembers its replaced predecessors; nil: it is the first of its line. Not to be changed.
func (r *Row) Tracker() *api.RescheduleTracker {
	if r.extra == nil {
		return nil
	}
	return r.extra.tracker
}

// FinishedAt is when its last task ended on its node's clock, in unix nanoseconds; 0: not known, or not all ended.
func (r *Row) FinishedAt() int64 {
	if r.client == nil {
		return 0
	}
	var last int64
	for i := range r.client.tasks {
		t := &r.client.tasks[i]
		if taskNames[t.state] != api.TaskStateDead {
			return 0
		}
		last = max(last, t.finishedAt)
	}
	return last
}

// CreateIndex is the index that placed it.
func (r *Row) CreateIndex() uint64 { return r.origin.index }

// ModifyIndex is the index of its last change.
func (r *Row) ModifyIndex() uint64 { return r.modifyIndex }

// AllocModifyIndex is the index of the last change by the hubs; its node's reports do not move it.
func (r *Row) AllocModifyIndex() uint64 { return r.allocModifyIndex }

// CreateTime is when it was placed, in unix nanoseconds.
func (r *Row) CreateTime() int64 { return r.origin.time }

// ModifyTime is when it last changed, in unix nanoseconds on the hubs' clock.
func (r *Row) ModifyTime() int64 { return r.modifyTime }

// edit returns a copy of the row to be changed and put by the entry that t applies.
func (r *Row) edit(t *txn) *Row {
	c := *r
	c.modifyIndex, c.modifyTime = t.index, t.time
	return &c
}

// editExtra gives an edited row an extra of its own.
func (r *Row) editExtra() *extra {
	var x extra
	if r.extra != nil {
		x = *r.extra
	}
	r.extra = &x
	return r.extra
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func nsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Orders of the table of allocations.
const (
	allocsByID = iota
	allocsByJob
	allocsByNode
)

func newAllocs() *table[Row] {
	return newTable(
		order[Row]{hint: func(r *Row) uint64 { return be64(r.id[:]) }, less: func(a, b *Row) bool { return compareIDs(a.id, b.id) < 0 }},
		order[Row]{hint: func(r *Row) uint64 { return r.version.hash }, less: lessByJob},
		order[Row]{hint: hintByNode, less: lessByNode},
	)
}

// lessByJob orders by job, and within it in the order of placement.
func lessByJob(a, b *Row) bool {
	if a.version != b.version {
		if c := compareJobs(a.version.job, b.version.job); c != 0 {
			return c < 0
		}
	}
	if a.origin != b.origin {
		if a.origin.index != b.origin.index {
			return a.origin.index < b.origin.index
		}
		if a.origin.seq != b.origin.seq {
			return a.origin.seq < b.origin.seq
		}
	}
	return a.seq < b.seq
}

// hintByNode holds the node's ordinal and as much of the index as fits.
func hintByNode(r *Row) uint64 { return uint64(r.node)<<32 | min(r.allocModifyIndex, 1<<32-1) }

// lessByNode orders by node, and within it by the last change of the hubs.
func lessByNode(a, b *Row) bool {
	if a.node != b.node {
		return a.node < b.node
	}
	if a.allocModifyIndex != b.allocModifyIndex {
		return a.allocModifyIndex < b.allocModifyIndex
	}
	return compareIDs(a.id, b.id) < 0
}
