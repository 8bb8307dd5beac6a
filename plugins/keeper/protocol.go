package keeper

import (
	"errors"
	"time"
)

// Spec says what to start.
type Spec struct {
	ID             string // names the process for ever; starting an ID again returns the process that has it
	Path           string // of the program, absolute
	Argv           []string
	Env            []string
	Dir            string
	Stdout, Stderr string // pipes, files or devices; "" is /dev/null
	User           *Credential
	OOMScoreAdj    int // 0: as the keeper's
}

// Credential is the user that a process runs as; only a keeper that runs as root can start one.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Process is one process that the keeper started, and leads a session of its own.
type Process struct {
	ID        string
	PID       int
	Started   uint64 // in clock ticks since boot: with PID it names one process for ever
	StartedAt time.Time
	Exit      *Exit // nil: it runs
}

// Exit is how a process ended.
type Exit struct {
	Code    int
	Signal  int  // that ended it; 0: none
	Unknown bool // nobody saw how it ended; Code and Signal mean nothing
	At      time.Time
	Ticks   uint64 // At, in clock ticks since boot; 0: not known
}

var (
	// ErrNotFound is the answer for an ID that the keeper does not know.
	ErrNotFound = errors.New("no such process")
	// ErrRunning is the answer to Forget while the process runs.
	ErrRunning = errors.New("the process is running")
	// ErrTemporary is the answer to Start when the machine has no room for another process now.
	ErrTemporary = errors.New("cannot start a process now")
	// ErrGone is returned by a Client that cannot reach the keeper.
	ErrGone = errors.New("the keeper is gone")
)

// request is one line from a client; seq pairs it with its answer. Answers come in any order.
type request struct {
	Seq    uint64 `json:"seq"`
	Op     string `json:"op"`
	ID     string `json:"id,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Spec   *Spec  `json:"spec,omitempty"`
}

// The operations.
const (
	opStart    = "start"
	opInspect  = "inspect"
	opWait     = "wait"
	opSignal   = "signal"
	opKill     = "kill"
	opList     = "list"
	opForget   = "forget"
	opCancel   = "cancel" // the wait with the same seq; it is not answered
	opShutdown = "shutdown"
)

// answer is one line to a client.
type answer struct {
	Seq     uint64    `json:"seq"`
	Err     string    `json:"err,omitempty"`
	Kind    string    `json:"kind,omitempty"`
	Process *Process  `json:"process,omitempty"`
	List    []Process `json:"list,omitempty"`
}

// kinds are the errors that keep their identity on the way.
func kinds() map[string]error {
	return map[string]error{"not-found": ErrNotFound, "running": ErrRunning, "temporary": ErrTemporary}
}

// maxRequest bounds a request, of which the environment is the most; the kernel takes no more for an exec.
const maxRequest = 4 << 20
