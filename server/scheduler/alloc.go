package scheduler

import (
	"slices"
	"time"

	"github.com/brumehq/brume/api"
)

// Alloc is an allocation of the job that is being looked at, as the scheduler needs it.
type Alloc struct {
	ID    ID
	Group string
	Index int      // of its name: 3 for "web.api[3]"
	Node  uint32   // ordinal of its node
	Job   *api.Job // of the version that it runs, never nil; allocations of one version share the pointer
	Ports []uint16 // host ports it holds, as Placement.Ports

	DesiredStatus string // api.AllocDesired…
	ClientStatus  string // api.AllocClient…
	Healthy       *bool  // nil: not known yet

	// StopRequested says that a user asked for this allocation to be stopped and the plan for that is not made yet.
	StopRequested bool

	CreateTime int64 // unix nanoseconds on the hubs' clock
	FinishedAt int64 // unix nanoseconds on its node's clock when its last task ended; 0: not known

	FollowUp ID                     // the evaluation that will replace it after its back-off; zero: none
	Tracker  *api.RescheduleTracker // what it inherited; nil: first of its line
}

// Usage is what one allocation holds on its node.
type Usage struct {
	CPU      int64 // MHz
	MemoryMB int64
	DiskMB   int64
	Ports    []uint16 // host ports, see PortAsks
}

// UsageOf is what an allocation of g holds that got ports.
func UsageOf(g *api.Group, ports []uint16) Usage {
	u := Usage{DiskMB: int64(g.EphemeralDisk.SizeMB), Ports: ports}
	for _, t := range g.Tasks {
		u.CPU += int64(t.Resources.CPU)
		u.MemoryMB += int64(t.Resources.MemoryMB)
	}
	return u
}

// PortAsks lists the ports that g asks for, in the order in which Placement.Ports and Usage.Ports hold their values: for
// each network in turn its reserved ports, then its dynamic ones (Value 0).
func PortAsks(g *api.Group) []api.Port {
	var asks []api.Port
	for _, n := range g.Networks {
		asks = append(asks, n.ReservedPorts...)
		for _, p := range n.DynamicPorts {
			p.Value = 0
			asks = append(asks, p)
		}
	}
	return slices.Clip(asks)
}

// terminal reports whether the allocation holds nothing on its node any more.
func (a *Alloc) terminal() bool { return api.ClientTerminal(a.ClientStatus) }

// failedAt is when the allocation ended on the hubs' clock. A node's clock may be wrong either way: the time lies between
// the allocation's creation and now, so a slow clock cannot defeat the back-off and a fast one cannot stretch it.
func (a *Alloc) failedAt(now time.Time) time.Time {
	at := min(a.FinishedAt, now.UnixNano())
	return time.Unix(0, max(at, a.CreateTime))
}
