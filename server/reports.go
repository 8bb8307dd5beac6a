package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

const (
	maxReported    = 4096      // allocations in one agent's report, and in one entry
	maxStatusText  = 64 << 10  // bytes of text that one allocation's status may carry
	reportsFlying  = 2         // entries of statuses in Raft at once
	maxReportBytes = 512 << 10 // rough size of one entry
)

// reports gathers the statuses that agents send into Raft entries. It is self-clocked: what has come is sent as soon as
// there is room in flight, so a single report waits for nothing and a flood makes large entries.
type reports struct {
	h  *Hub
	in chan *report
}

// report is one agent's message on its way.
type report struct {
	node     string
	statuses []*api.AllocStatus
	size     int
	done     chan reported // cap 1: who asked may have gone
}

// reported is what became of a report.
type reported struct {
	index uint64
	err   error
}

func newReports(h *Hub) *reports { return &reports{h: h, in: make(chan *report)} }

// linkStatuses takes an agent's report and answers when it is committed. An agent may speak of its own allocations only.
func (h *Hub) linkStatuses(a *agentLink, r *http.Request) (any, error) {
	var body api.StatusReport
	if err := decodeBody(r, maxReportBody, &body); err != nil {
		return nil, err
	}
	rep, err := h.checkReport(a.nodeID, body.Allocs)
	if err != nil {
		return nil, err
	}
	if len(rep.statuses) == 0 {
		return api.WriteReply{Index: h.store.Snapshot().Index()}, nil
	}
	select {
	case h.reports.in <- rep:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	select {
	case d := <-rep.done:
		return api.WriteReply{Index: d.index}, d.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// checkReport refuses what a sound agent does not send, and leaves out allocations that are not known any more.
func (h *Hub) checkReport(nodeID string, statuses []*api.AllocStatus) (*report, error) {
	rep := &report{node: nodeID, done: make(chan reported, 1)}
	if len(statuses) > maxReported {
		return nil, api.E(api.ErrInvalid, fmt.Sprintf("report of %d allocations: at most %d", len(statuses), maxReported))
	}
	snap := h.store.Snapshot()
	for _, s := range statuses {
		if s == nil {
			return nil, api.E(api.ErrInvalid, "report with a null status")
		}
		id, err := state.ParseID(s.ID)
		if err != nil {
			return nil, err
		}
		row := snap.Row(id)
		if row == nil {
			continue
		}
		if owner, _ := snap.NodeOf(row); owner != nodeID {
			return nil, api.E(api.ErrDenied, fmt.Sprintf("allocation %s is not of node %s", s.ID, nodeID))
		}
		size := textOf(s)
		if size > maxStatusText {
			return nil, api.E(api.ErrInvalid, fmt.Sprintf("status of allocation %s carries %d bytes of text: at most %d", s.ID, size, maxStatusText))
		}
		rep.size += size
		rep.statuses = append(rep.statuses, s)
	}
	return rep, nil
}

// textOf is how many bytes of text a status carries.
func textOf(s *api.AllocStatus) int {
	n := len(s.ClientDescription)
	for name, t := range s.TaskStates {
		n += len(name) + 16
		if t == nil {
			continue
		}
		for _, e := range t.Events {
			if e == nil {
				continue
			}
			n += 16 + len(e.Type) + len(e.DisplayMessage) + len(e.Message) + len(e.RestartReason) + len(e.DriverError) + len(e.KillReason)
			for k, v := range e.Details {
				n += len(k) + len(v)
			}
		}
	}
	return n
}

// batch is reports that go into one entry.
type batch struct {
	reports []*report
	flight  proposal
}

// run sends until ctx ends; it returns when nothing of it is in flight.
func (r *reports) run(ctx context.Context) error {
	var (
		waiting []*report
		busy    = map[string]bool{} // nodes with a report in flight: the next one says what is new after it
		landed  = make(chan *batch, reportsFlying)
		flying  int
		waits   sync.WaitGroup
	)
	defer waits.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case rep := <-r.in:
			waiting = append(waiting, rep)
		case b := <-landed:
			flying--
			for _, rep := range b.reports {
				delete(busy, rep.node)
			}
		}
		for more := true; more; { // what else has come by now
			select {
			case rep := <-r.in:
				waiting = append(waiting, rep)
			default:
				more = false
			}
		}
		for flying < reportsFlying {
			var b *batch
			if b, waiting = gather(waiting, busy); b == nil {
				break
			}
			if b = r.send(b, busy); b == nil {
				continue
			}
			flying++
			waits.Go(func() {
				index, _, err := b.flight.wait()
				b.answer(reported{index, err})
				landed <- b
			})
		}
	}
}

// gather takes the reports for one entry from the front of waiting and returns the rest; nil if none can go now.
func gather(waiting []*report, busy map[string]bool) (b *batch, rest []*report) {
	rows, size := 0, 0
	for i, rep := range waiting {
		if busy[rep.node] {
			rest = append(rest, rep)
			continue
		}
		if rows > 0 && (rows+len(rep.statuses) > maxReported || size+rep.size > maxReportBytes) {
			return b, append(rest, waiting[i:]...)
		}
		busy[rep.node] = true
		if b == nil {
			b = &batch{}
		}
		b.reports = append(b.reports, rep)
		rows, size = rows+len(rep.statuses), size+rep.size
	}
	return b, rest
}

func (b *batch) answer(d reported) {
	for _, rep := range b.reports {
		rep.done <- d
	}
}

// send proposes a batch and returns what is in flight, nil if nothing. Reports that cannot be written are refused, each
// for itself: an agent harms nobody else.
func (r *reports) send(b *batch, busy map[string]bool) *batch {
	snap := r.h.store.Snapshot()
	var err error
	if b.flight, err = r.propose(snap, b.reports); err == nil {
		return b
	}
	sound := &batch{}
	for _, rep := range b.reports {
		_, cause := state.Encode(state.Header{}, state.AllocStatuses{Statuses: rep.statuses, Base: snap})
		if cause == nil && len(b.reports) > 1 {
			sound.reports = append(sound.reports, rep)
			continue
		}
		delete(busy, rep.node)
		rep.done <- reported{err: cmp.Or(cause, err)}
	}
	if len(sound.reports) == 0 {
		return nil
	}
	if sound.flight, err = r.propose(snap, sound.reports); err == nil {
		return sound
	}
	for _, rep := range sound.reports {
		delete(busy, rep.node)
	}
	sound.answer(reported{err: err})
	return nil
}

func (r *reports) propose(snap *state.Snapshot, all []*report) (proposal, error) {
	cmd := state.AllocStatuses{Base: snap}
	for _, rep := range all {
		cmd.Statuses = append(cmd.Statuses, rep.statuses...)
	}
	cmd.Evals = evalsOfReport(snap, cmd.Statuses)
	return r.h.propose(cmd)
}

// evalsOfReport are the evaluations that statuses call for, one a job: an allocation that should run has ended, or one
// that became healthy lets a rolling update go on.
func evalsOfReport(snap *state.Snapshot, statuses []*api.AllocStatus) []*api.Evaluation {
	why := map[state.JobName]string{}
	var order []state.JobName
	for _, s := range statuses {
		id, err := state.ParseID(s.ID)
		if err != nil {
			continue
		}
		row := snap.Row(id)
		if row == nil || row.ClientTerminal() || row.DesiredStatus() != api.AllocDesiredRun {
			continue
		}
		name, trigger := state.JobName{Namespace: row.Namespace(), ID: row.JobID()}, ""
		switch {
		case ended(row, s):
			trigger = api.EvalTriggerRetryFailedAlloc
		case becameHealthy(row, s) && why[name] == "" && hasOldVersion(snap, name):
			trigger = api.EvalTriggerDeploymentWatcher
		}
		if trigger == "" {
			continue
		}
		if why[name] == "" {
			order = append(order, name)
		}
		if why[name] != api.EvalTriggerRetryFailedAlloc {
			why[name] = trigger
		}
	}
	var evals []*api.Evaluation
	for _, name := range order {
		if j := snap.Job(name.Namespace, name.ID); j != nil && !j.Stop {
			evals = append(evals, newEval(j, why[name]))
		}
	}
	return evals
}

// ended reports whether an allocation that is to run has ended in a way that asks for another one: a batch allocation
// that completed is done.
func ended(row *state.Row, s *api.AllocStatus) bool {
	return s.ClientStatus == api.AllocClientFailed ||
		api.ClientTerminal(s.ClientStatus) && row.Job().Type != api.JobTypeBatch
}

func becameHealthy(row *state.Row, s *api.AllocStatus) bool {
	was := row.Healthy()
	return s.Healthy != nil && *s.Healthy && (was == nil || !*was)
}

// hasOldVersion reports whether an allocation of an older version of the job is still to run.
func hasOldVersion(snap *state.Snapshot, name state.JobName) bool {
	j := snap.Job(name.Namespace, name.ID)
	if j == nil {
		return false
	}
	for r := range snap.RowsOfJob(name.Namespace, name.ID) {
		if !r.ClientTerminal() && r.DesiredStatus() == api.AllocDesiredRun && r.Job().Version != j.Version {
			return true
		}
	}
	return false
}

// newEval is a pending evaluation of a job.
func newEval(j *api.Job, trigger string) *api.Evaluation {
	return &api.Evaluation{
		ID: uuid.NewString(), Namespace: j.Namespace, JobID: j.ID, Type: j.Type, Priority: j.Priority,
		JobModifyIndex: j.JobModifyIndex, TriggeredBy: trigger, Status: api.EvalStatusPending,
	}
}
