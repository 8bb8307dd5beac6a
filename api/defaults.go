package api

import "time"

// Values that stand where a job says nothing.
const (
	DefaultPriority      = 50
	DefaultCPU           = 100 // MHz
	DefaultMemoryMB      = 300
	DefaultDiskMB        = 300
	DefaultLogFiles      = 10
	DefaultLogFileSizeMB = 10
	DefaultKillTimeout   = 5 * time.Second
)

// NewJob returns a job of the given type ("": service) with nothing but defaults. Decoders fill it, so that what a job
// file leaves out has its default and an explicit zero stays zero.
func NewJob(jobType string) *Job {
	if jobType == "" {
		jobType = JobTypeService
	}
	j := &Job{
		Namespace:   DefaultNamespace,
		Region:      DefaultRegion,
		Type:        jobType,
		Priority:    DefaultPriority,
		Datacenters: []string{"*"},
		NodePool:    DefaultNodePool,
	}
	if jobType != JobTypeBatch && jobType != JobTypeSysbatch {
		j.Update = NewUpdate()
	}
	return j
}

// NewGroup returns a group with the defaults that the job gives it: restart by its type, update and reschedule from
// its blocks. It is not added to the job.
func (j *Job) NewGroup() *Group {
	g := &Group{
		Count:            1,
		RestartPolicy:    NewRestart(j.Type),
		ReschedulePolicy: NewReschedule(j.Type),
		EphemeralDisk:    EphemeralDisk{SizeMB: DefaultDiskMB},
	}
	if j.Reschedule != nil {
		r := *j.Reschedule
		g.ReschedulePolicy = &r
	}
	if j.Update != nil {
		u := *j.Update
		g.Update = &u
	}
	return g
}

// NewTask returns a task with the defaults that its group gives it: the group's restart policy. It is not added to the
// group.
func (g *Group) NewTask() *Task {
	return &Task{
		Resources:     Resources{CPU: DefaultCPU, MemoryMB: DefaultMemoryMB},
		RestartPolicy: g.RestartPolicy,
		LogConfig:     LogConfig{MaxFiles: DefaultLogFiles, MaxFileSizeMB: DefaultLogFileSizeMB},
		KillTimeout:   DefaultKillTimeout,
	}
}

// NewRestart returns the restart policy of groups in jobs of a type.
func NewRestart(jobType string) Restart {
	if jobType == JobTypeBatch || jobType == JobTypeSysbatch {
		return Restart{Attempts: 3, Interval: 24 * time.Hour, Delay: 15 * time.Second, Mode: RestartModeFail}
	}
	return Restart{Attempts: 2, Interval: 30 * time.Minute, Delay: 15 * time.Second, Mode: RestartModeFail}
}

// NewReschedule returns the reschedule policy of groups in jobs of a type, nil where the type knows none.
func NewReschedule(jobType string) *Reschedule {
	switch jobType {
	case JobTypeService:
		return &Reschedule{
			Delay: 30 * time.Second, DelayFunction: DelayExponential, MaxDelay: time.Hour, Unlimited: true,
		}
	case JobTypeBatch:
		return &Reschedule{
			Attempts: 1, Interval: 24 * time.Hour, Delay: 5 * time.Second, DelayFunction: DelayConstant,
		}
	}
	return nil
}

// NewUpdate returns the update block of a job that has none.
func NewUpdate() *Update {
	return &Update{
		MaxParallel:      1,
		MinHealthyTime:   10 * time.Second,
		Stagger:          30 * time.Second,
		HealthCheck:      "checks",
		HealthyDeadline:  5 * time.Minute,
		ProgressDeadline: 10 * time.Minute,
	}
}
