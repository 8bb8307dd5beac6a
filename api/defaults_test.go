package api

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultsAreThoseThatClientsExpect(t *testing.T) {
	service := NewJob("")
	want := &Group{
		Count:         1,
		RestartPolicy: Restart{Attempts: 2, Interval: 30 * time.Minute, Delay: 15 * time.Second, Mode: "fail"},
		ReschedulePolicy: &Reschedule{
			Delay: 30 * time.Second, DelayFunction: "exponential", MaxDelay: time.Hour, Unlimited: true,
		},
		EphemeralDisk: EphemeralDisk{SizeMB: 300},
		Update: &Update{
			MaxParallel: 1, MinHealthyTime: 10 * time.Second, Stagger: 30 * time.Second, HealthCheck: "checks",
			HealthyDeadline: 5 * time.Minute, ProgressDeadline: 10 * time.Minute,
		},
	}
	if diff := cmp.Diff(want, service.NewGroup()); diff != "" {
		t.Errorf("group of a service job (-want +got):\n%s", diff)
	}
	batch := NewJob(JobTypeBatch)
	want.RestartPolicy = Restart{Attempts: 3, Interval: 24 * time.Hour, Delay: 15 * time.Second, Mode: "fail"}
	want.ReschedulePolicy = &Reschedule{
		Attempts: 1, Interval: 24 * time.Hour, Delay: 5 * time.Second, DelayFunction: "constant",
	}
	want.Update = nil
	if diff := cmp.Diff(want, batch.NewGroup()); diff != "" {
		t.Errorf("group of a batch job (-want +got):\n%s", diff)
	}
	task := &Task{
		Resources:     Resources{CPU: 100, MemoryMB: 300},
		RestartPolicy: want.RestartPolicy,
		LogConfig:     LogConfig{MaxFiles: 10, MaxFileSizeMB: 10},
		KillTimeout:   5 * time.Second,
	}
	if diff := cmp.Diff(task, batch.NewGroup().NewTask()); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
}

func TestGroupsInheritCopies(t *testing.T) {
	j := NewJob(JobTypeService)
	j.Reschedule = &Reschedule{Attempts: 7}
	j.Update.MaxParallel = 3
	a, b := j.NewGroup(), j.NewGroup()
	a.Update.MaxParallel, a.ReschedulePolicy.Attempts = 9, 9
	if b.Update.MaxParallel != 3 || b.ReschedulePolicy.Attempts != 7 || j.Update.MaxParallel != 3 || j.Reschedule.Attempts != 7 {
		t.Error("a change in one group shows in another or in the job")
	}
}
