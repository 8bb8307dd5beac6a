package state

import (
	"iter"
	"strings"

	"github.com/brumehq/brume/api"
)

// Snapshot is the state at one index. It never changes; what its methods return is shared and must not be changed either.
type Snapshot struct{ rows }

// Index is the last log entry in it.
func (s *Snapshot) Index() uint64 { return s.index }

// TableIndex is the last entry that changed a table; 0: none did.
func (s *Snapshot) TableIndex(t Table) uint64 {
	switch t {
	case Jobs:
		return s.jobsAt
	case Summaries:
		return s.summariesAt
	case Evals:
		return s.evals.at
	case Allocs:
		return s.allocs.at
	case Nodes:
		return s.nodes.at
	case JoinTokens:
		return s.joinTokens.at
	case Tokens:
		return s.tokens.at
	case ClusterTable:
		return s.clusterAt
	}
	return 0
}

// Job is a job's present version with its present status; nil if there is none.
func (s *Snapshot) Job(namespace, id string) *api.Job {
	if r := s.job(namespace, id); r != nil {
		return r.job
	}
	return nil
}

// Jobs yields the jobs of a namespace (api.AllNamespaces: of all) whose id begins with prefix, in order.
func (s *Snapshot) Jobs(namespace, prefix string) iter.Seq[*api.Job] {
	return func(yield func(*api.Job) bool) {
		var pivot *jobRow
		if namespace != api.AllNamespaces {
			pivot = &jobRow{job: &api.Job{Namespace: namespace, ID: prefix}}
		}
		for r := range s.jobs.from(0, pivot) {
			if pivot != nil && (r.job.Namespace != namespace || !strings.HasPrefix(r.job.ID, prefix)) {
				return
			}
			if strings.HasPrefix(r.job.ID, prefix) && !yield(r.job) {
				return
			}
		}
	}
}

// JobVersion is a kept version of a job as it was registered; nil if it is not kept.
func (s *Snapshot) JobVersion(namespace, id string, version uint64) *api.Job {
	for j := range s.JobVersions(namespace, id) {
		if j.Version == version {
			return j
		}
	}
	return nil
}

// JobVersions yields the kept versions of a job, oldest first, as they were registered; the present one with its present
// status.
func (s *Snapshot) JobVersions(namespace, id string) iter.Seq[*api.Job] {
	return func(yield func(*api.Job) bool) {
		job := s.job(namespace, id)
		if job == nil {
			return
		}
		for r := range s.versionsOf(job.job) {
			j := r.version.job
			if r.version == job.version {
				j = job.job
			}
			if !yield(j) {
				return
			}
		}
	}
}

// Summary counts a job's allocations; nil if there is no such job.
func (s *Snapshot) Summary(namespace, id string) *api.JobSummary {
	r := s.job(namespace, id)
	if r == nil {
		return nil
	}
	sum := &api.JobSummary{JobID: id, Namespace: namespace, Summary: make(map[string]api.GroupSummary, len(r.groups)),
		Children: &api.JobChildrenSummary{}, CreateIndex: r.job.CreateIndex, ModifyIndex: r.summaryIndex}
	for i := range r.groups {
		sum.Summary[r.groups[i].name] = r.groups[i].GroupSummary
	}
	return sum
}

// JobAllocsIndex is the last entry that changed any allocation of a job; if there is no such job, that of the table.
func (s *Snapshot) JobAllocsIndex(namespace, id string) uint64 {
	if r := s.job(namespace, id); r != nil {
		return max(r.allocsIndex, r.job.CreateIndex)
	}
	return s.allocs.at
}

// JobEvalsIndex is the last entry that changed any evaluation of a job; if there is no such job, that of the table.
func (s *Snapshot) JobEvalsIndex(namespace, id string) uint64 {
	if r := s.job(namespace, id); r != nil {
		return max(r.evalsIndex, r.job.CreateIndex)
	}
	return s.evals.at
}

// Eval is an evaluation, or nil.
func (s *Snapshot) Eval(id string) *api.Evaluation { return s.evals.get(&api.Evaluation{ID: id}) }

// Evals yields the evaluations whose id begins with prefix, in the order of their ids.
func (s *Snapshot) Evals(prefix string) iter.Seq[*api.Evaluation] {
	return func(yield func(*api.Evaluation) bool) {
		for e := range s.evals.from(evalsByID, &api.Evaluation{ID: prefix}) {
			if !strings.HasPrefix(e.ID, prefix) || !yield(e) {
				return
			}
		}
	}
}

// EvalsByJob yields a job's evaluations, oldest first.
func (s *Snapshot) EvalsByJob(namespace, id string) iter.Seq[*api.Evaluation] {
	return s.evalsByJob(namespace, id)
}

func (s *rows) evalsByJob(namespace, id string) iter.Seq[*api.Evaluation] {
	return func(yield func(*api.Evaluation) bool) {
		for e := range s.evals.from(evalsByJob, &api.Evaluation{Namespace: namespace, JobID: id}) {
			if e.Namespace != namespace || e.JobID != id || !yield(e) {
				return
			}
		}
	}
}

// OpenEvals yields the evaluations that are pending or blocked, oldest first.
func (s *Snapshot) OpenEvals() iter.Seq[*api.Evaluation] {
	return func(yield func(*api.Evaluation) bool) {
		for e := range s.evals.from(evalsByState, nil) {
			if !evalOpen(e) || !yield(e) {
				return
			}
		}
	}
}

// Node is a node, or nil.
func (s *Snapshot) Node(id string) *api.Node { return s.nodes.get(&api.Node{ID: id}) }

// NodeByOrdinal is the node with an ordinal, or nil.
func (s *Snapshot) NodeByOrdinal(ordinal uint32) *api.Node { return s.nodeByOrdinal(ordinal) }

// Nodes yields the nodes whose id begins with prefix, in the order of their ids.
func (s *Snapshot) Nodes(prefix string) iter.Seq[*api.Node] {
	return func(yield func(*api.Node) bool) {
		for n := range s.nodes.from(nodesByID, &api.Node{ID: prefix}) {
			if !strings.HasPrefix(n.ID, prefix) || !yield(n) {
				return
			}
		}
	}
}

// JoinTokens yields the join tokens in the order of their ids.
func (s *Snapshot) JoinTokens() iter.Seq[*api.JoinToken] { return s.joinTokens.from(0, nil) }

// JoinToken is a join token, or nil.
func (s *Snapshot) JoinToken(id string) *api.JoinToken {
	return s.joinTokens.get(&api.JoinToken{ID: id})
}

// Token is the token whose secret has this SHA-256, or nil.
func (s *Snapshot) Token(secretHash []byte) *Token {
	return s.tokens.get(&Token{SecretHash: secretHash})
}

// Tokens yields the tokens.
func (s *Snapshot) Tokens() iter.Seq[*Token] { return s.tokens.from(0, nil) }

// Cluster is what makes the cluster; nil before it is made.
func (s *Snapshot) Cluster() *Cluster { return s.cluster }

// HubVersions yields what hubs said of the command versions that they read, in the order of their ids.
func (s *Snapshot) HubVersions() iter.Seq[*HubVersions] { return s.hubs.from(0, nil) }

// CommandVersion is the highest command version that all of these hubs read. ok is false if there is none, or if one of
// them has not said which it reads.
func (s *Snapshot) CommandVersion(hubIDs []string) (version uint8, ok bool) {
	low, high := MinVersion, Version
	for _, id := range hubIDs {
		h := s.hubs.get(&HubVersions{ID: id})
		if h == nil {
			return 0, false
		}
		low, high = max(low, h.Min), min(high, h.Max)
	}
	return high, low <= high
}
