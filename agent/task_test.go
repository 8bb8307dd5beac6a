package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

// bubble runs f with an agent in virtual time.
func bubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, newBench(t, dir, newScripted())) })
}

func TestBatchTaskRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeBatch, "main")
		b.hubs(true, a)
		b.wantStatus(a.ID, api.AllocClientRunning)
		b.driver.finish("main", plugins.ExitResult{})
		s := b.wantStatus(a.ID, api.AllocClientComplete)
		if s.Healthy != nil {
			t.Error("a batch allocation has a verdict on its health")
		}
		b.wantEvents(a.ID, "main", api.TaskReceived, api.TaskSetup, api.TaskStarted, api.TaskTerminated)
		if diff := cmp.Diff([]string{"start main"}, b.driver.seen()); diff != "" {
			t.Errorf("asked of the driver (-want +got):\n%s", diff)
		}
		if len(b.driver.tasks) != 0 {
			t.Error("the driver still knows the task")
		}
	})
}

func TestServiceTaskIsRestartedUntilItsAttemptsAreUsedUp(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		for range 2 {
			b.driver.finish("main", plugins.ExitResult{ExitCode: 1})
			b.wantStatus(a.ID, api.AllocClientPending)
			time.Sleep(8*time.Second - time.Millisecond)
			b.wantStatus(a.ID, api.AllocClientPending)
			time.Sleep(2*time.Second + time.Millisecond)
			b.wantStatus(a.ID, api.AllocClientRunning)
		}
		b.driver.finish("main", plugins.ExitResult{ExitCode: 1})
		s := b.wantStatus(a.ID, api.AllocClientFailed)
		b.wantEvents(a.ID, "main", api.TaskRestarting, api.TaskStarted, api.TaskTerminated, api.TaskNotRestarting)
		if s.Healthy == nil || *s.Healthy {
			t.Errorf("a failed allocation has health %v, want false", s.Healthy)
		}
		if got := s.TaskStates["main"].Restarts; got != 2 {
			t.Errorf("%d restarts, want 2", got)
		}
	})
}

func TestAllocationIsHealthyWhenAllTasksRanForMinHealthyTime(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "one", "two")
		b.hubs(true, a)
		time.Sleep(9 * time.Second)
		b.driver.finish("two", plugins.ExitResult{ExitCode: 1}) // starts the clock again
		time.Sleep(10 * time.Second)
		if s := b.wantStatus(a.ID, api.AllocClientRunning); s.Healthy != nil {
			t.Fatal("healthy though a task was restarted")
		}
		time.Sleep(10 * time.Second)
		if s := b.wantStatus(a.ID, api.AllocClientRunning); s.Healthy == nil || !*s.Healthy {
			t.Errorf("health %v after all ran for 10s, want true", s.Healthy)
		}
		b.hubs(false, stopped(a)) // the verdict stays
		if s := b.wantStatus(a.ID, api.AllocClientComplete); s.Healthy == nil || !*s.Healthy {
			t.Error("a stop changed the verdict")
		}
	})
}

func stopped(a *api.Allocation) *api.Allocation {
	c := *a
	c.DesiredStatus, c.DesiredDescription = api.AllocDesiredStop, "alloc not needed due to job update"
	return &c
}

func TestStopHonoursTheTasksWishes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		adapt func(*api.Group)
		want  string
		after time.Duration
	}{
		{"defaults", func(*api.Group) {}, "stop main SIGINT 5s", 0},
		{"own signal and timeout", func(g *api.Group) { g.Tasks[0].KillSignal, g.Tasks[0].KillTimeout = "SIGTERM", 20*time.Second }, "stop main SIGTERM 20s", 0},
		{"no longer than the node allows", func(g *api.Group) { g.Tasks[0].KillTimeout = time.Hour }, "stop main SIGINT 30s", 0},
		{"after both shutdown delays", func(g *api.Group) { g.ShutdownDelay, g.Tasks[0].ShutdownDelay = 7*time.Second, 3*time.Second }, "stop main SIGINT 5s", 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				a := newAllocation(api.JobTypeService, "main")
				tt.adapt(a.Job.TaskGroups[0])
				b.hubs(true, a)
				b.hubs(false, stopped(a))
				if tt.after > 0 {
					time.Sleep(tt.after - time.Millisecond)
					b.wantStatus(a.ID, api.AllocClientRunning)
					time.Sleep(time.Millisecond)
				}
				b.wantStatus(a.ID, api.AllocClientComplete)
				b.wantEvents(a.ID, "main", api.TaskKilling, api.TaskTerminated, api.TaskKilled)
				if diff := cmp.Diff([]string{"start main", tt.want}, b.driver.seen()); diff != "" {
					t.Errorf("asked of the driver (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTaskThatDoesNotEndIsStoppedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		tries := 0
		b.driver.onStop = func(name string) {
			if tries++; tries == 2 {
				b.driver.finish(name, plugins.ExitResult{ExitCode: 137, Signal: 9})
			}
		}
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		b.hubs(false, stopped(a))
		time.Sleep(stopAgain - time.Second)
		b.wantStatus(a.ID, api.AllocClientRunning) // it is not called ended while it is not
		time.Sleep(2 * time.Second)
		b.wantStatus(a.ID, api.AllocClientComplete)
	})
}

func TestLeadersEndStopsTheGroup(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeBatch, "main", "side")
		a.Job.TaskGroups[0].Tasks[0].Leader = true
		b.hubs(true, a)
		b.driver.finish("main", plugins.ExitResult{})
		b.wantStatus(a.ID, api.AllocClientComplete)
		b.wantEvents(a.ID, "side", api.TaskLeaderDead, api.TaskKilling, api.TaskTerminated, api.TaskKilled)
	})
}

func TestDriversWordsAreInTheTasksHistory(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		say := func(message string) {
			b.driver.events <- plugins.TaskEvent{AllocID: a.ID, TaskName: "main", Message: message}
		}
		b.driver.onStart = func(context.Context, *plugins.TaskConfig) error {
			say("fetching the image")
			time.Sleep(time.Minute)
			return nil
		}
		b.hubs(true, a)
		b.wantEvents(a.ID, "main", api.TaskSetup, api.TaskDriverMessage)
		time.Sleep(time.Minute)
		synctest.Wait()
		say("a health check failed")
		b.wantEvents(a.ID, "main", api.TaskDriverMessage, api.TaskStarted, api.TaskDriverMessage)
		b.driver.events <- plugins.TaskEvent{AllocID: "another", TaskName: "main", Message: "is ignored"}
		e := b.status(a.ID).TaskStates["main"].Events
		if got := e[len(e)-1].DisplayMessage; got != "a health check failed" {
			t.Errorf("the last event says %q", got)
		}
	})
}

func TestLeaderIsStoppedFirst(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "side", "main")
		a.Job.TaskGroups[0].Tasks[1].Leader = true
		b.driver.onStop = func(name string) {
			time.Sleep(time.Second)
			b.driver.finish(name, plugins.ExitResult{})
		}
		b.hubs(true, a)
		b.hubs(false, stopped(a))
		time.Sleep(3 * time.Second)
		b.wantStatus(a.ID, api.AllocClientComplete)
		if diff := cmp.Diff([]string{"stop main SIGINT 5s", "stop side SIGINT 5s"}, b.driver.seen()[2:]); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestFailedTaskStopsItsSiblings(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main", "side")
		a.Job.TaskGroups[0].Tasks[0].RestartPolicy = api.Restart{Mode: api.RestartModeFail}
		b.hubs(true, a)
		b.driver.finish("main", plugins.ExitResult{ExitCode: 3})
		s := b.wantStatus(a.ID, api.AllocClientFailed)
		b.wantEvents(a.ID, "side", api.TaskSiblingFailed, api.TaskKilling, api.TaskTerminated, api.TaskKilled)
		if s.TaskStates["side"].Failed || !s.TaskStates["main"].Failed {
			t.Error("the sibling failed, or the task itself did not")
		}
	})
}

func TestStartErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status string
		events []string
	}{
		{"a final one fails the task", errors.New("no such image"), api.AllocClientFailed,
			[]string{api.TaskSetup, api.TaskDriverFailure, api.TaskNotRestarting}},
		{"a recoverable one is tried again", plugins.NewRecoverable(errors.New("registry is away")), api.AllocClientPending,
			[]string{api.TaskSetup, api.TaskDriverFailure, api.TaskRestarting}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.driver.onStart = func(context.Context, *plugins.TaskConfig) error { return tt.err }
				a := newAllocation(api.JobTypeBatch, "main")
				b.hubs(true, a)
				b.wantStatus(a.ID, tt.status)
				b.wantEvents(a.ID, "main", tt.events...)
			})
		})
	}
}

func TestStartWaitsForAPluginThatIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.killPlugin()
		synctest.Wait()
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		b.wantStatus(a.ID, api.AllocClientPending)
		time.Sleep(time.Second)
		b.wantStatus(a.ID, api.AllocClientRunning)
	})
}

func TestWhatCannotRunFailsWithAReason(t *testing.T) {
	for _, tt := range []struct {
		name  string
		adapt func(*api.Task)
		want  string
	}{
		{"a driver that the node has not", func(t *api.Task) { t.Driver = "docker" }, "driver docker: this node has no such driver"},
		{"a config that the driver does not know", func(t *api.Task) { t.Config["image"] = "x" }, "image"},
		{"a name that is no directory's", func(t *api.Task) { t.Name = "../up" }, `task name "../up" cannot name a directory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				a := newAllocation(api.JobTypeService, "main")
				spec := a.Job.TaskGroups[0].Tasks[0]
				tt.adapt(spec)
				b.hubs(true, a)
				s := b.wantStatus(a.ID, api.AllocClientFailed)
				found := false
				for _, e := range s.TaskStates[spec.Name].Events {
					found = found || e.Type == api.TaskSetupFailure && contains(e.DisplayMessage, tt.want)
				}
				if !found {
					t.Errorf("no event %q that says %q in %v", api.TaskSetupFailure, tt.want, s.TaskStates[spec.Name].Events)
				}
			})
		})
	}
}
