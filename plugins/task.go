package plugins

import (
	"path/filepath"
	"time"
)

// TaskConfig is all that a driver is told of a task.
type TaskConfig struct {
	ID           string // unique to one start of one task
	Name         string
	DriverConfig []byte // the task's config block by the driver's schema, as msgpack: see Decode

	Env, DeviceEnv map[string]string // complete and interpolated
	Resources      Resources
	Mounts         []Mount
	Devices        []Device
	User           string // name or number; "" is the driver's own
	Network        *NetworkIsolation
	DNS            *DNS

	AllocDir               string // of the allocation, on the host
	StdoutPath, StderrPath string // pipes or files to which the task's output goes

	GroupName, JobName, JobID, ParentJobID, AllocID string
	Namespace, NodeName, NodeID                     string
}

// TaskDir is the task's own directory on the host.
func (c *TaskConfig) TaskDir() string { return filepath.Join(c.AllocDir, c.Name) }

// Decode fills v, a pointer to a struct with `codec` tags, from the task's config block.
func (c *TaskConfig) Decode(v any) error { return decodeMsgpack(c.DriverConfig, v) }

// Resources is what a task may use.
type Resources struct {
	CPUShares    int64 // MHz asked for
	MemoryMB     int64
	MemoryMaxMB  int64 // 0: MemoryMB
	PercentTicks float64
	CPUSet       string // processors, as in cpuset.cpus
	CPUSetCgroup string
	OOMScoreAdj  int64
	Networks     []Network
	Ports        []PortMapping
}

// Network is an address of the node with ports on it.
type Network struct {
	Device, CIDR, IP            string
	MBits                       int
	ReservedPorts, DynamicPorts []Port
}

// Port is a named port.
type Port struct {
	Label string
	Value int
}

// PortMapping is a port of the node and where it leads to in the task's network.
type PortMapping struct {
	Label     string
	Value, To int
	HostIP    string
}

// Mount is a directory or file of the host in a task.
type Mount struct {
	TaskPath, HostPath string
	ReadOnly           bool
	Propagation        string // private, host-to-task, bidirectional
	SELinuxLabel       string
	RequestName        string // the volume's name in the job
}

// Device is a device node of the host in a task.
type Device struct{ TaskPath, HostPath, Permissions string }

// NetworkIsolation is the network that a task runs in.
type NetworkIsolation struct {
	Mode              NetworkMode
	Path              string // of the network namespace
	Labels            map[string]string
	Hostname, Address string // for /etc/hosts; both empty: none
}

// DNS is the name resolution of a task.
type DNS struct{ Servers, Searches, Options []string }

// TaskHandle is what a host keeps so that a later process of the driver can recover a task. It is stored as JSON.
type TaskHandle struct {
	Version     int // of DriverState, from 1
	Config      *TaskConfig
	State       TaskState
	DriverState []byte // the driver's own
}

// TaskState is where a task stands.
type TaskState int

// The states of a task, numbered as on the wire.
const (
	TaskStateUnknown TaskState = iota
	TaskStateRunning
	TaskStateExited
)

// NetworkOverride is where a task is reached if not at the node's address and ports.
type NetworkOverride struct {
	PortMap       map[string]int
	Addr          string
	AutoAdvertise bool
}

// ExitResult is how a task ended.
type ExitResult struct {
	ExitCode  int
	Signal    int // that ended it; 0: none
	OOMKilled bool
}

// Successful reports whether the task ended by itself without an error.
func (r ExitResult) Successful() bool { return r.ExitCode == 0 && r.Signal == 0 && !r.OOMKilled }

// TaskStatus is how a task fares.
type TaskStatus struct {
	ID, Name               string
	State                  TaskState
	StartedAt, CompletedAt time.Time // zero: not yet, or not known
	Exit                   *ExitResult
	Attributes             map[string]string // the driver's own
	Network                *NetworkOverride
}

// Usage is what a task used. A nil pointer is not measured.
type Usage struct {
	Time   time.Time
	CPU    CPUUsage
	Memory MemoryUsage
	ByPID  map[string]Usage // of single processes; Time is zero in these
}

// CPUUsage is of the time since the measurement before.
type CPUUsage struct {
	Percent, SystemMode, UserMode *float64 // of one processor
	TotalTicks                    *float64 // MHz
	ThrottledPeriods              *uint64
	ThrottledTime                 *uint64 // nanoseconds
}

// MemoryUsage is in bytes.
type MemoryUsage struct {
	RSS, Cache, Swap, Usage, MaxUsage, KernelUsage, KernelMaxUsage *uint64
}

// TaskEvent is something that a user of the task should read.
type TaskEvent struct {
	TaskID, AllocID, TaskName string
	Time                      time.Time
	Message                   string
	Annotations               map[string]string
}

// HostConfig is what a host tells each plugin beside the plugin's own configuration.
type HostConfig struct {
	MinPort, MaxPort int // of dynamic ports
	Topology         Topology
}

// Topology is how the machine's processors lie.
type Topology struct {
	NodeIDs   []uint32   // NUMA nodes
	Distances [][]uint32 // of node to node, in the order of NodeIDs
	Cores     []Core

	TotalCompute, WithheldCompute uint64 // MHz; 0: what the cores add up to, nothing
}

// Core is one logical processor. Speeds are in MHz, 0 is unknown.
type Core struct {
	ID, SocketID, NodeID        uint32
	Efficiency                  bool // slower than the others by design
	Disabled                    bool // not for tasks
	BaseMHz, MaxMHz, GuessedMHz uint64
}

// Config is a plugin's configuration by its schema.
type Config struct{ data []byte }

// Decode fills v, a pointer to a struct with `codec` tags.
func (c Config) Decode(v any) error { return decodeMsgpack(c.data, v) }
