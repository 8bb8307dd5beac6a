package api

// JobRegisterRequest is the body of a registration.
type JobRegisterRequest struct {
	Job               *Job
	EnforceIndex      bool
	JobModifyIndex    uint64
	PreserveCounts    bool
	PreserveResources bool // not built: refused
	EvalPriority      int
	Submission        *JobSubmission
}

// JobSubmission is the text a job came from.
type JobSubmission struct {
	Source        string
	Format        string
	VariableFlags map[string]string
	Variables     string
}

// JobRegisterResponse answers a registration or a deregistration.
type JobRegisterResponse struct {
	EvalID          string
	EvalCreateIndex uint64
	JobModifyIndex  uint64
	Warnings        string
	Index           uint64 `json:"-"`
}

// JobValidateResponse answers /v1/validate/job.
type JobValidateResponse struct {
	DriverConfigValidated bool
	ValidationErrors      []string
	Error                 string
	Warnings              string
}

// JobParseRequest is the body of /v1/jobs/parse.
type JobParseRequest struct {
	JobHCL       string
	Variables    string
	Canonicalize bool
}

// JobListStub is a row of /v1/jobs.
type JobListStub struct {
	ID, ParentID, Name, Namespace string
	Datacenters                   []string
	NodePool                      string
	Type                          string
	Priority                      int
	Periodic                      bool
	ParameterizedJob              bool
	Stop                          bool
	Status                        string
	StatusDescription             string
	JobSummary                    *JobSummary
	CreateIndex                   uint64
	ModifyIndex                   uint64
	JobModifyIndex                uint64
	SubmitTime                    int64
	Version                       uint64
	Meta                          map[string]string `json:",omitempty"`
}

// JobSummary counts a job's allocations by group and state.
type JobSummary struct {
	JobID       string
	Namespace   string
	Summary     map[string]GroupSummary
	Children    *JobChildrenSummary
	CreateIndex uint64
	ModifyIndex uint64
}

// GroupSummary counts one group's allocations.
type GroupSummary struct {
	Queued, Complete, Failed, Running, Starting, Lost, Unknown int
}

// JobChildrenSummary counts a parent's children; always zero until dispatch and periodic jobs are built.
type JobChildrenSummary struct{ Pending, Running, Dead int64 }

// AllocStopResponse answers /v1/allocation/:id/stop.
type AllocStopResponse struct {
	EvalID string
	Index  uint64
}

// StreamFrame is one JSON object of a framed stream: Offset is the position after Data; an empty frame is a heartbeat.
type StreamFrame struct {
	Offset    int64  `json:",omitempty"`
	Data      []byte `json:",omitempty"`
	File      string `json:",omitempty"`
	FileEvent string `json:",omitempty"`
}

// Member is a gossip member as /v1/agent/members lists it.
type Member struct {
	Name                                  string
	Addr                                  string
	Port                                  uint16
	Tags                                  map[string]string
	Status                                string
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

// Members answers /v1/agent/members.
type Members struct {
	ServerName   string
	ServerRegion string
	ServerDC     string
	Members      []*Member
}
