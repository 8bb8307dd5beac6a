package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"iter"

	"github.com/brumehq/brume/api"
)

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// Row is an allocation, or nil.
func (s *Snapshot) Row(id ID) *Row { return s.row(id) }

// Alloc is an allocation in its JSON shape; nil if there is none, or if id is no UUID.
func (s *Snapshot) Alloc(id string) *api.Allocation {
	key, err := ParseID(id)
	if err != nil {
		return nil
	}
	r := s.row(key)
	if r == nil {
		return nil
	}
	return s.Allocation(r)
}

// Rows yields the allocations whose id begins with prefix (hex digits, dashes in their places), in the order of their ids.
func (s *Snapshot) Rows(prefix string) iter.Seq[*Row] {
	return func(yield func(*Row) bool) {
		p, ok := parsePrefix(prefix)
		if !ok {
			return
		}
		for r := range s.allocs.from(allocsByID, &Row{id: p.low}) {
			if !p.matches(r.id) || !yield(r) {
				return
			}
		}
	}
}

// RowsOfJob yields the allocations of a job in the order of their placement, those of a purged job of that name too.
func (s *Snapshot) RowsOfJob(namespace, id string) iter.Seq[*Row] {
	return func(yield func(*Row) bool) {
		v := newVersion(&api.Job{Namespace: namespace, ID: id})
		for r := range s.allocs.from(allocsByJob, &Row{version: v, origin: &origin{}}) {
			if r.version.hash != v.hash || r.Namespace() != namespace || r.JobID() != id || !yield(r) {
				return
			}
		}
	}
}

// RowsOfNode yields the allocations of a node whose AllocModifyIndex is greater than after, in that order.
func (s *Snapshot) RowsOfNode(ordinal uint32, after uint64) iter.Seq[*Row] {
	return s.rowsOfNode(ordinal, after+1)
}

func (s *rows) rowsOfNode(ordinal uint32, from uint64) iter.Seq[*Row] {
	return func(yield func(*Row) bool) {
		for r := range s.allocs.from(allocsByNode, &Row{node: ordinal, allocModifyIndex: from}) {
			if r.node != ordinal || !yield(r) {
				return
			}
		}
	}
}

// RowsOfEval yields the allocations that an evaluation placed.
func (s *Snapshot) RowsOfEval(e *api.Evaluation) iter.Seq[*Row] {
	return func(yield func(*Row) bool) {
		for r := range s.RowsOfJob(e.Namespace, e.JobID) {
			if r.origin.evalID == e.ID && !yield(r) {
				return
			}
		}
	}
}

// Allocation builds a row's JSON shape, with its job.
func (s *Snapshot) Allocation(r *Row) *api.Allocation {
	node := s.nodeRef(r.node)
	a := &api.Allocation{
		ID: r.id.String(), Namespace: r.Namespace(), EvalID: r.origin.evalID, Name: r.Name(), NodeID: node.id, NodeName: node.name,
		JobID: r.JobID(), Job: s.jobOf(r), TaskGroup: r.Group(), AllocatedResources: r.resources(node.ip), Metrics: r.origin.metric,
		DesiredStatus: r.DesiredStatus(), ClientStatus: r.ClientStatus(), TaskStates: r.taskStates(), DeploymentStatus: r.deploymentStatus(),
		FollowupEvalID: r.FollowupEval(), RescheduleTracker: r.Tracker(), LeaseNonce: r.LeaseNonce(),
		PreviousAllocation: r.Previous().String(), NextAllocation: r.Next().String(),
		CreateIndex: r.CreateIndex(), ModifyIndex: r.modifyIndex, AllocModifyIndex: r.allocModifyIndex,
		CreateTime: r.CreateTime(), ModifyTime: r.modifyTime,
	}
	a.DesiredDescription, a.ClientDescription = r.descriptions()
	return a
}

// AllocStub builds a row's line in lists.
func (s *Snapshot) AllocStub(r *Row) *api.AllocationListStub {
	node := s.nodeRef(r.node)
	j := r.Job()
	a := &api.AllocationListStub{
		ID: r.id.String(), EvalID: r.origin.evalID, Name: r.Name(), Namespace: j.Namespace, NodeID: node.id, NodeName: node.name,
		JobID: j.ID, JobType: j.Type, JobVersion: j.Version, TaskGroup: r.Group(), AllocatedResources: r.resources(node.ip),
		DesiredStatus: r.DesiredStatus(), ClientStatus: r.ClientStatus(), TaskStates: r.taskStates(), DeploymentStatus: r.deploymentStatus(),
		FollowupEvalID: r.FollowupEval(), NextAllocation: r.Next().String(), RescheduleTracker: r.Tracker(),
		CreateIndex: r.CreateIndex(), ModifyIndex: r.modifyIndex, CreateTime: r.CreateTime(), ModifyTime: r.modifyTime,
	}
	a.DesiredDescription, a.ClientDescription = r.descriptions()
	return a
}

// NodeOf is the id and name of a row's node, also after the node was deleted.
func (s *Snapshot) NodeOf(r *Row) (id, name string) {
	ref := s.nodeRef(r.node)
	return ref.id, ref.name
}

func (s *Snapshot) nodeRef(ordinal uint32) nodeRef {
	if ref := s.nodeRefs.get(&nodeRef{ordinal: ordinal}); ref != nil {
		return *ref
	}
	return nodeRef{ordinal: ordinal}
}

// jobOf is a row's job, with its present status if the row runs the present version.
func (s *Snapshot) jobOf(r *Row) *api.Job {
	if job := s.job(r.Namespace(), r.JobID()); job != nil && job.version == r.version {
		return job.job
	}
	return r.Job()
}

// LeaseNonce ties a later receipt to this placement. It depends on the seed of the entry that placed it.
func (r *Row) LeaseNonce() string {
	var b [16 + 8]byte
	copy(b[:], r.origin.seed[:])
	binary.BigEndian.PutUint32(b[16:], r.origin.seq)
	binary.BigEndian.PutUint32(b[20:], r.seq)
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:16])
}

func (r *Row) descriptions() (desired, client string) {
	if r.client != nil {
		client = r.client.description
	}
	if r.extra != nil {
		desired = r.extra.description
		if r.extra.clientDescription != "" {
			client = r.extra.clientDescription
		}
	}
	return desired, client
}

// resources is what the allocation holds: what its group asks for, and its ports.
func (r *Row) resources(ip string) *api.AllocatedResources {
	g := r.TaskGroup()
	res := &api.AllocatedResources{Tasks: make(map[string]*api.AllocatedTaskResources, len(g.Tasks))}
	for _, t := range g.Tasks {
		res.Tasks[t.Name] = &api.AllocatedTaskResources{
			Cpu:    api.AllocatedCPU{CpuShares: int64(t.Resources.CPU)},
			Memory: api.AllocatedMemory{MemoryMB: int64(t.Resources.MemoryMB)},
		}
	}
	res.Shared.DiskMB = int64(g.EphemeralDisk.SizeMB)
	ports := r.ports
	for _, n := range g.Networks {
		for _, asks := range [2][]api.Port{n.ReservedPorts, n.DynamicPorts} {
			for _, p := range asks {
				if len(ports) == 0 {
					return res
				}
				res.Shared.Ports = append(res.Shared.Ports, api.PortMapping{Label: p.Label, Value: int(ports[0]), To: p.To, HostIP: ip})
				ports = ports[1:]
			}
		}
	}
	return res
}

func (r *Row) taskStates() map[string]*api.TaskState {
	if r.client == nil || len(r.client.tasks) == 0 {
		return nil
	}
	states := make(map[string]*api.TaskState, len(r.client.tasks))
	for i := range r.client.tasks {
		t := &r.client.tasks[i]
		states[t.name] = t.unpack()
	}
	return states
}

func (r *Row) deploymentStatus() *api.AllocDeploymentStatus {
	healthy := r.Healthy()
	if healthy == nil {
		return nil
	}
	return &api.AllocDeploymentStatus{Healthy: healthy, Timestamp: timeOf(r.client.healthTime), ModifyIndex: r.client.healthIndex}
}
