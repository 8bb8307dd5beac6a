package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestTasksOutliveTheAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		driver := newScripted()
		a := newAllocation(api.JobTypeService, "stays", "ends")
		first := newBench(t, dir, driver)
		first.hubs(true, a)
		first.stop()
		if driver.alive() != 2 {
			t.Fatalf("%d tasks live after a clean stop, want 2", driver.alive())
		}
		driver.forgetAll()
		driver.finish("ends", plugins.ExitResult{ExitCode: 7})
		time.Sleep(time.Minute)

		second := newBench(t, dir, driver)
		s := second.wantStatus(a.ID, api.AllocClientRunning)
		if got := s.TaskStates["ends"].Events; !contains(got[len(got)-2].DisplayMessage, "Exit code 7") {
			t.Errorf("what ended meanwhile: %q, want its true exit code", got[len(got)-2].DisplayMessage)
		}
		time.Sleep(time.Minute)
		if n := len(driver.seen()); n != 4 { // two starts, two recoveries
			t.Errorf("asked of the driver before the hubs spoke: %v", driver.seen())
		}
		second.hubs(true, a)
		second.wantStatus(a.ID, api.AllocClientRunning)
		calls := driver.seen()
		if diff := cmp.Diff("start ends", calls[len(calls)-1]); diff != "" || len(calls) != 5 {
			t.Errorf("asked of the driver: %v, want only the ended task started again", calls)
		}
	})
}

func TestIntendedStartIsFoundAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		started bool // when the agent died, the driver had started the task
		want    []string
	}{
		{"what the driver started is adopted", true, []string{"start main", "recover main"}},
		{"what it did not start is started", false, []string{"start main", "start main"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				driver := newScripted()
				driver.onStart = func(ctx context.Context, c *plugins.TaskConfig) error {
					if tt.started {
						driver.begin(c)
					}
					<-ctx.Done() // the answer never arrives
					return ctx.Err()
				}
				a := newAllocation(api.JobTypeService, "main")
				first := newBench(t, dir, driver)
				first.hubs(true, a)
				first.stop()
				driver.onStart = nil

				second := newBench(t, dir, driver)
				second.hubs(true, a)
				second.wantStatus(a.ID, api.AllocClientRunning)
				if driver.alive() != 1 {
					t.Errorf("%d tasks live, want 1", driver.alive())
				}
				var got []string
				for _, c := range driver.seen() {
					if len(got) == 0 || c != "recover main" || got[len(got)-1] != c {
						got = append(got, c)
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("asked of the driver (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A plugin that dies over a start may have started the task: its next process is asked, whenever it comes, before the task
// is started again. One that dies when the task has ended forgets it all the same.
func TestStartThatThePluginDiedOverIsFoundAgain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.driver.onStart = func(_ context.Context, c *plugins.TaskConfig) error {
			b.driver.begin(c)
			b.killPlugin()
			return nil
		}
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		time.Sleep(time.Minute)
		b.wantStatus(a.ID, api.AllocClientRunning)
		if diff := cmp.Diff([]string{"start main", "recover main"}, slices.Compact(b.driver.seen())); diff != "" {
			t.Errorf("asked of the driver (-want +got):\n%s", diff)
		}
		if n := b.driver.alive(); n != 1 {
			t.Errorf("%d tasks live, want 1", n)
		}
		b.driver.onStart = nil
		b.killPlugin()
		b.driver.finish("main", plugins.ExitResult{})
		b.hubs(false, stopped(a))
		time.Sleep(time.Minute)
		b.wantStatus(a.ID, api.AllocClientComplete)
		if n := len(b.driver.tasks); n != 0 {
			t.Errorf("the driver still holds %d tasks", n)
		}
	})
}

func TestRestartDelaySurvivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		driver := newScripted()
		a := newAllocation(api.JobTypeService, "main")
		first := newBench(t, dir, driver)
		first.hubs(true, a)
		driver.finish("main", plugins.ExitResult{ExitCode: 1})
		first.wantStatus(a.ID, api.AllocClientPending)
		first.stop()
		second := newBench(t, dir, driver)
		second.hubs(true, a)
		second.wantStatus(a.ID, api.AllocClientPending)
		time.Sleep(10 * time.Second)
		if s := second.wantStatus(a.ID, api.AllocClientRunning); s.TaskStates["main"].Restarts != 1 {
			t.Errorf("%d restarts, want 1", s.TaskStates["main"].Restarts)
		}
	})
}

// What an earlier agent was about to start again is not started for a moment by an agent that hears it is not wanted.
func TestUnwantedTasksAreNotStartedAgain(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for name, wanted := range map[string]func(b *bench, a *api.Allocation){
		"the hubs do not know it": func(b *bench, _ *api.Allocation) { b.hubs(true) },
		"the hubs want it stopped": func(b *bench, a *api.Allocation) {
			a.DesiredStatus = api.AllocDesiredStop
			b.index++
			b.hubs(true, a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				driver := newScripted()
				a := newAllocation(api.JobTypeService, names...)
				first := newBench(t, dir, driver)
				first.hubs(true, a)
				for _, n := range names {
					driver.finish(n, plugins.ExitResult{ExitCode: 1})
				}
				first.wantStatus(a.ID, api.AllocClientPending)
				first.stop()
				time.Sleep(time.Minute) // the restarts are due
				before := len(driver.seen())
				second := newBench(t, dir, driver)
				wanted(second, a)
				second.wantStatus(a.ID, api.AllocClientComplete)
				if calls := driver.seen()[before:]; len(calls) != 0 {
					t.Errorf("asked of the driver: %v, want nothing", calls)
				}
			})
		})
	}
}

func TestLostTaskIsReportedAsUnknown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := newAllocation(api.JobTypeBatch, "main")
		a.Job.TaskGroups[0].Tasks[0].RestartPolicy = api.Restart{Mode: api.RestartModeFail}
		first := newBench(t, dir, newScripted())
		first.hubs(true, a)
		first.stop()
		second := newBench(t, dir, newScripted()) // the machine was restarted: nothing is left
		time.Sleep(10 * time.Second)
		s := second.wantStatus(a.ID, api.AllocClientFailed)
		if e := s.TaskStates["main"].Events; !contains(e[len(e)-2].DisplayMessage, "Exit code unknown") {
			t.Errorf("event %q, want an unknown exit code", e[len(e)-2].DisplayMessage)
		}
	})
}

func TestPluginsDeathIsNotTheTasks(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		for range 3 {
			b.killPlugin()
			synctest.Wait()
			if n := b.h.node.current().Drivers["scripted"]; n.Healthy {
				t.Error("the driver is healthy without its plugin")
			}
			time.Sleep(time.Minute)
			b.wantStatus(a.ID, api.AllocClientRunning)
		}
		if n := b.h.node.current().Drivers["scripted"]; !n.Healthy {
			t.Errorf("the driver stays unhealthy: %s", n.HealthDescription)
		}
		b.killPlugin()
		b.hubs(false, stopped(a)) // with no plugin to ask
		time.Sleep(time.Minute)
		b.wantStatus(a.ID, api.AllocClientComplete)
		want := []string{"start main", "recover main", "recover main", "recover main", "recover main", "stop main SIGINT 5s"}
		if diff := cmp.Diff(want, b.driver.seen()); diff != "" {
			t.Errorf("asked of the driver (-want +got):\n%s", diff)
		}
	})
}

func TestFullListEndsWhatItDoesNotName(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		index := b.index
		b.index = index - 1
		b.wanted <- &api.NodeAllocs{Index: b.index, Full: true} // a hub that lags behind
		b.wantStatus(a.ID, api.AllocClientRunning)
		b.index = index
		b.hubs(true)
		b.wantStatus(a.ID, api.AllocClientComplete)
		if b.exists(a.ID) {
			t.Error("the allocation's directory is still there")
		}
		records, err := b.h.db.Allocs()
		if err != nil || len(records) != 0 {
			t.Errorf("records %v, %v, want none", records, err)
		}
	})
}

func TestWhatIsOnNoRecordIsRemovedAtStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		driver := newScripted()
		a := newAllocation(api.JobTypeService, "main")
		first := newBench(t, dir, driver)
		first.hubs(true, a)
		first.stop()
		if err := os.MkdirAll(dir+"/allocs/left-over/alloc", 0o755); err != nil {
			t.Fatal(err)
		}
		second := newBench(t, dir, driver)
		synctest.Wait()
		if second.exists("left-over") || !second.exists(a.ID) {
			t.Errorf("left over: %v, on record: %v; want false, true", second.exists("left-over"), second.exists(a.ID))
		}
	})
}

func TestEndedAllocationsAreKeptForTheirLogs(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var allocs []*api.Allocation
		for i := range keptAllocs + 3 {
			a := newAllocation(api.JobTypeBatch, "main")
			a.ID = fmt.Sprintf("0b4ffd6e-8a1c-4d9a-9d6e-%012d", i)
			allocs = append(allocs, a)
			b.hubs(false, a)
			b.driver.finish("main", plugins.ExitResult{})
			time.Sleep(time.Second)
			b.wantStatus(a.ID, api.AllocClientComplete)
		}
		b.hubs(true) // the hubs list only what is not over
		kept := 0
		for _, a := range allocs {
			if b.exists(a.ID) {
				kept++
			}
		}
		if kept != keptAllocs || b.exists(allocs[2].ID) || !b.exists(allocs[3].ID) {
			t.Errorf("%d directories kept, want the newest %d", kept, keptAllocs)
		}
	})
}

func TestInPlaceUpdateRestartsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, a)
		time.Sleep(11 * time.Second)
		next := *a
		job := *a.Job
		job.Version = 1
		next.Job = &job
		b.hubs(false, &next)
		if s := b.status(a.ID); s.Healthy == nil {
			t.Error("a version whose tasks have run for long enough waits for its health")
		}
		time.Sleep(11 * time.Second)
		if s := b.wantStatus(a.ID, api.AllocClientRunning); s.Healthy == nil || !*s.Healthy {
			t.Error("the new version never became healthy")
		}
		if diff := cmp.Diff([]string{"start main"}, b.driver.seen()); diff != "" {
			t.Errorf("asked of the driver (-want +got):\n%s", diff)
		}
	})
}

func TestStopBeforeTheStartIsReported(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a := newAllocation(api.JobTypeService, "main")
		b.hubs(true, stopped(a))
		b.wantStatus(a.ID, api.AllocClientComplete)
		if calls := b.driver.seen(); len(calls) != 0 {
			t.Errorf("asked of the driver: %v", calls)
		}
	})
}

func TestStopTasksLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		driver := newScripted()
		b := newBench(t, dir, driver, func(r *reconciler) { r.stopTasks = true })
		a := newAllocation(api.JobTypeService, "one", "two")
		a.Job.TaskGroups[0].ShutdownDelay = time.Hour // an agent that goes does not wait for this
		b.hubs(true, a)
		began := time.Now()
		b.stop()
		if driver.alive() != 0 {
			t.Errorf("%d tasks live", driver.alive())
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("stopping took %s", took)
		}
		if s := b.latest[a.ID]; s.ClientStatus != api.AllocClientComplete {
			t.Errorf("reported as %s", s.ClientStatus)
		}
		entries, err := os.ReadDir(dir + "/fifos")
		if err != nil || len(entries) != 0 {
			t.Errorf("left in fifos: %v, %v", entries, err)
		}
	})
}
