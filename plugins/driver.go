package plugins

import (
	"context"
	"io"
	"time"
)

// Driver runs tasks of one kind. All methods may be called at the same time; Describe answers the same each time.
// What a driver can do beyond this it says by implementing Configurer, Inspector, Signaler, StatsReporter,
// EventReporter, Execer, Networker or Closer.
type Driver interface {
	// Describe says what the driver is.
	Describe() Description
	Tasks
}

// Tasks is the heart of a driver, the same on the author's and on the host's side.
type Tasks interface {
	// Fingerprint sends what the driver finds on this machine: at once, then on each change, until ctx ends; then the
	// channel is closed.
	Fingerprint(ctx context.Context) (<-chan Fingerprint, error)

	// Start starts a task. The handle must be enough for Recover in a later process of the driver. An error is final
	// for the task unless Recoverable(err). ctx ends with the call; the task goes on.
	Start(ctx context.Context, task *TaskConfig) (*TaskHandle, *NetworkOverride, error)

	// Recover makes a task known that an earlier process of this driver started. For a task that is known already it
	// does nothing and returns nil. A handle without DriverState is of a Start whose answer was lost.
	Recover(ctx context.Context, handle *TaskHandle) error

	// Wait blocks until the task has ended, and answers at once when it has: each time it is asked, until Destroy.
	// ErrExitUnknown says that the task ended and nobody saw how.
	Wait(ctx context.Context, taskID string) (ExitResult, error)

	// Stop sends signal ("" is the driver's choice), and ends the task by force if it has not ended within timeout.
	// For a task that has ended it does nothing.
	Stop(ctx context.Context, taskID string, timeout time.Duration, signal string) error

	// Destroy forgets a task and frees what it held. A running task is an error unless force is set, then it is killed.
	Destroy(ctx context.Context, taskID string, force bool) error
}

// Description is what a driver says of itself, whatever machine it is on.
type Description struct {
	Name         string // as job files name it
	Version      string // of the plugin: "1.2.3"
	Capabilities Capabilities
	Config       Schema // of the plugin block in an agent's configuration
	TaskConfig   Schema // of the config block of a task
}

// Capabilities is what hosts must know before they start a task.
type Capabilities struct {
	SendSignals     bool
	Exec            bool
	FSIsolation     FSIsolation
	NetworkModes    []NetworkMode // nil: host only
	MakesNetwork    bool          // the host must ask the driver for a group's network (Networker)
	NoMounts        bool
	CollectsLogs    bool // the driver keeps the output itself: the host need not read the pipes
	DynamicUserName bool // tasks may run as a user that exists only for them
}

// FSIsolation is what of the host's file system a task sees.
type FSIsolation int

// The kinds of file system isolation, numbered as on the wire.
const (
	FSIsolationNone FSIsolation = iota
	FSIsolationChroot
	FSIsolationImage
	FSIsolationUnveil
)

// NetworkMode is what network a task is in.
type NetworkMode int

// The network modes, numbered as on the wire.
const (
	NetworkHost NetworkMode = iota
	NetworkGroup
	NetworkTask
	NetworkNone
)

// Health is whether a driver can run tasks here.
type Health int

// The states of health, numbered as on the wire.
const (
	Undetected Health = iota // what the driver needs is not on this machine
	Unhealthy                // it is there and does not work
	Healthy
)

func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Unhealthy:
		return "unhealthy"
	}
	return "undetected"
}

// Fingerprint is what a driver finds on a machine.
type Fingerprint struct {
	Attributes  map[string]string
	Health      Health
	Description string // why the health is what it is
	Err         error  // the driver could not find out; Health is Unhealthy then
}

// Configurer is a driver that takes configuration. Configure may be called more than once, and before it Start is not.
type Configurer interface {
	Configure(ctx context.Context, config Config, host HostConfig) error
}

// Inspector is a driver that can say how a task fares.
type Inspector interface {
	Inspect(ctx context.Context, taskID string) (*TaskStatus, error)
}

// Signaler is a driver that can signal a task.
type Signaler interface {
	Signal(ctx context.Context, taskID, signal string) error
}

// StatsReporter is a driver that measures tasks: one Usage each interval until ctx or the task ends; then the channel is
// closed.
type StatsReporter interface {
	Stats(ctx context.Context, taskID string, interval time.Duration) (<-chan Usage, error)
}

// EventReporter is a driver that tells of its tasks what a user should read. The channel is closed when ctx ends.
type EventReporter interface {
	Events(ctx context.Context) (<-chan TaskEvent, error)
}

// Execer is a driver that runs a further command where a task runs.
type Execer interface {
	// Exec runs command to its end, which comes at latest when ctx ends.
	Exec(ctx context.Context, taskID string, command []string, io ExecIO) (ExitResult, error)
}

// ExecIO is the terminal or the pipes of a command run by Exec. Any part may be nil.
type ExecIO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan TerminalSize
}

// TerminalSize is in characters.
type TerminalSize struct{ Height, Width int }

// Networker is a driver that makes the network of a group of tasks.
type Networker interface {
	// CreateNetwork makes it; created is false if it was there.
	CreateNetwork(ctx context.Context, allocID, hostname string) (spec *NetworkIsolation, created bool, err error)
	DestroyNetwork(ctx context.Context, allocID string, spec *NetworkIsolation) error
}

// Closer is a driver that has something to do before its process ends on the host's wish. Tasks go on.
type Closer interface {
	Close(ctx context.Context) error
}
