package api

import "time"

// Node statuses. A node is ready while its link is up, and down when the link has been gone for NodeGrace.
const (
	NodeStatusInit         = "initializing"
	NodeStatusReady        = "ready"
	NodeStatusDown         = "down"
	NodeStatusDisconnected = "disconnected"

	NodeEligible   = "eligible"
	NodeIneligible = "ineligible"
)

// NodeGrace is how long a node's link may be gone before the node is down and its work is placed elsewhere.
const NodeGrace = 4 * time.Second

// Node is a machine that runs an agent, as it describes itself. ID is derived from its key (identity.NodeID); Ordinal is
// its small replicated number, given by the store and never reused.
type Node struct {
	ID                    string
	Name                  string
	Datacenter            string
	NodePool              string
	NodeClass             string
	HTTPAddr              string // of the hub that answers: agents serve no HTTP of their own
	TLSEnabled            bool
	Attributes            map[string]string
	Meta                  map[string]string
	Drivers               map[string]*DriverStatus
	NodeResources         NodeResources
	ReservedResources     ReservedResources
	Links                 map[string]string
	Status                string
	StatusDescription     string
	StatusUpdatedAt       int64 // unix SECONDS, as clients expect
	SchedulingEligibility string
	Drain                 bool
	Events                []NodeEvent
	Version               string // of the agent
	ComputedClass         string // digest of what feasibility depends on, see (*Node).Class
	Ordinal               uint32
	CreateIndex           uint64
	ModifyIndex           uint64
}

// DriverStatus is what a node says of one of its drivers. Only a detected and healthy driver gets tasks.
type DriverStatus struct {
	Attributes        map[string]string
	Detected          bool
	Healthy           bool
	HealthDescription string
	UpdateTime        time.Time
}

// NodeResources is what a machine has.
type NodeResources struct {
	Cpu            NodeCPU //nolint:staticcheck // the name on the wire
	Memory         NodeMemory
	Disk           NodeDisk
	Networks       []*NodeNetwork
	MinDynamicPort int
	MaxDynamicPort int
}

// NodeCPU is a machine's compute: CpuShares is cores × base MHz, the unit in which tasks ask.
type NodeCPU struct {
	CpuShares          int64    //nolint:staticcheck // the name on the wire
	TotalCpuCores      int      //nolint:staticcheck // the name on the wire
	ReservableCpuCores []uint16 //nolint:staticcheck // the name on the wire
}

// NodeMemory is a machine's memory in MiB.
type NodeMemory struct{ MemoryMB int64 }

// NodeDisk is the free disk of the agent's data directory, in MiB, when the agent started.
type NodeDisk struct{ DiskMB int64 }

// NodeNetwork is an address of a machine that tasks' ports are bound to.
type NodeNetwork struct {
	Device string
	CIDR   string
	IP     string
	MBits  int
	Mode   string
}

// ReservedResources are kept away from tasks.
type ReservedResources struct {
	Cpu      NodeCPUReserved //nolint:staticcheck // the name on the wire
	Memory   NodeMemory
	Disk     NodeDisk
	Networks NodeNetworksReserved
}

// NodeCPUReserved is compute in MHz kept away from tasks.
type NodeCPUReserved struct{ CpuShares uint64 } //nolint:staticcheck // the name on the wire

// NodeNetworksReserved lists host ports that are never given out, as "22,80,8000-8100".
type NodeNetworksReserved struct{ ReservedHostPorts string }

// NodeEvent is a line of a node's history.
type NodeEvent struct {
	Message     string
	Subsystem   string
	Details     map[string]string
	Timestamp   time.Time
	CreateIndex uint64
}

// NodeListStub is a row of /v1/nodes.
type NodeListStub struct {
	Address               string
	ID                    string
	Attributes            map[string]string `json:",omitempty"`
	Datacenter            string
	Name                  string
	NodePool              string
	NodeClass             string
	Version               string
	Drain                 bool
	SchedulingEligibility string
	Status                string
	StatusDescription     string
	Drivers               map[string]*DriverStatus
	NodeResources         *NodeResources     `json:",omitempty"`
	ReservedResources     *ReservedResources `json:",omitempty"`
	CreateIndex           uint64
	ModifyIndex           uint64
}
