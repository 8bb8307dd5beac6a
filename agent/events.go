package agent

import (
	"fmt"
	"strconv"
	"time"

	"github.com/brumehq/brume/api"
)

// keptEvents is how many events of a task are kept: the newest.
const keptEvents = 10

// newEvent makes an event of a task's history that reads as message.
func newEvent(kind, message string) *api.TaskEvent {
	return &api.TaskEvent{Type: kind, Time: time.Now().UnixNano(), DisplayMessage: message, Message: message, Details: map[string]string{}}
}

// failing marks an event as the one that failed the task.
func failing(e *api.TaskEvent) *api.TaskEvent {
	e.FailsTask = true
	e.Details["fails_task"] = "true"
	return e
}

func terminatedEvent(x exit) *api.TaskEvent {
	e := newEvent(api.TaskTerminated, x.String())
	e.ExitCode, e.Signal, e.OOMKilled = x.Code, x.Signal, x.OOMKilled
	e.Details["exit_code"] = strconv.Itoa(x.Code)
	e.Details["signal"] = strconv.Itoa(x.Signal)
	e.Details["oom_killed"] = strconv.FormatBool(x.OOMKilled)
	if x.Unknown != "" {
		e.Details["exit_message"] = x.Unknown
	}
	return e
}

func restartingEvent(d decision) *api.TaskEvent {
	e := newEvent(api.TaskRestarting, fmt.Sprintf("Task starts again in %s: %s", d.delay.Round(time.Millisecond), d.reason))
	e.StartDelay = int64(d.delay)
	e.RestartReason = d.reason
	e.Details["start_delay"] = strconv.FormatInt(int64(d.delay), 10)
	e.Details["restart_reason"] = d.reason
	return e
}

func notRestartingEvent(d decision) *api.TaskEvent {
	e := newEvent(api.TaskNotRestarting, "Task is not started again: "+d.reason)
	e.RestartReason = d.reason
	e.Details["restart_reason"] = d.reason
	return failing(e)
}

func killingEvent(reason, signal string, timeout time.Duration) *api.TaskEvent {
	e := newEvent(api.TaskKilling, fmt.Sprintf("%s: sending %s, and killing after %s", reason, signal, timeout))
	e.KillTimeout, e.KillReason = timeout, reason
	e.Details["kill_timeout"] = timeout.String()
	e.Details["kill_reason"] = reason
	return e
}

// addEvent appends to a history and drops what is beyond the newest.
func addEvent(s *api.TaskState, e *api.TaskEvent) {
	s.Events = append(s.Events, e)
	if n := len(s.Events) - keptEvents; n > 0 {
		s.Events = append([]*api.TaskEvent(nil), s.Events[n:]...)
	}
}

// copyState copies a task's state deep enough to be handed to another goroutine: events never change once added.
func copyState(s *api.TaskState) *api.TaskState {
	c := *s
	c.Events = append([]*api.TaskEvent(nil), s.Events...)
	return &c
}
