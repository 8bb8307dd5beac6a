package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

const (
	// startGrace is what a fresh leader gives nodes without a link: they may be on their way back to it.
	startGrace = 10 * time.Second
	// lookEvery spaces the looks at all nodes while a storm of agents reconnects.
	lookEvery = 10 * time.Millisecond
	// beatEvery is how often the loop notes that it runs.
	beatEvery = time.Second
	// silenceHeard is how long the hub must have run without a pause for the silence of a link to count as grace.
	silenceHeard = 15 * time.Second
	// changeAtOnce bounds the nodes of one entry,
	changeAtOnce = 200
	// evalsAtOnce its evaluations, each of which may take 1 KiB.
	evalsAtOnce = 1000
	// afterDown is when the evaluations are due that do not fit the entry which marks their node down.
	afterDown = 5 * time.Second
)

// watchNodes marks nodes down whose link is gone and stays gone for the grace, and ready again when it is back. Gossip is
// not asked: whoever holds its key could forge a death.
func (h *Hub) watchNodes(ctx context.Context) error {
	l := newLiveness(h, time.Now())
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		next, err := l.look(ctx, time.Now())
		if err != nil {
			return err
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case now := <-beat.C:
				l.beat(now)
			case <-h.links.changed:
				waiting = false
			case <-due:
				waiting = false
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// liveness is what one leader knows of the nodes' links. watchNodes owns it.
type liveness struct {
	hub   *Hub
	gone  map[string]time.Time // nodes without a link that are not down: when their grace ends
	grace time.Duration        // of those that are found without a link now
	last  time.Time            // the last beat
	awake time.Time            // since when this hub has run without a pause
}

func newLiveness(h *Hub, now time.Time) *liveness {
	return &liveness{hub: h, gone: map[string]time.Time{}, grace: startGrace, last: now, awake: now}
}

// beat notes that the hub runs. A hub that was stopped for a while has heard nobody, which is not their fault.
func (l *liveness) beat(now time.Time) {
	if now.Sub(l.last) > 2*beatEvery {
		l.awake = now
	}
	l.last = now
}

// look compares nodes with links and commits what follows. next is when the next grace ends; zero: none is running.
func (l *liveness) look(ctx context.Context, now time.Time) (next time.Time, err error) {
	snap := l.hub.store.Snapshot()
	down, back, next := l.judge(snap, now)
	l.grace = api.NodeGrace
	if len(down) == 0 && len(back) == 0 {
		return next, nil
	}
	return now, errors.Join(l.markDown(ctx, snap, down), l.markReady(ctx, back))
}

// judge says which nodes are down, which are back, and when the next grace ends.
func (l *liveness) judge(snap *state.Snapshot, now time.Time) (down, back []string, next time.Time) {
	l.beat(now)
	gone := make(map[string]time.Time)
	for n := range snap.Nodes("") {
		is := l.hub.links.state(n.ID)
		if is.linked || n.Status == api.NodeStatusDown {
			if is.registered && n.Status != api.NodeStatusReady && len(back) < changeAtOnce {
				back = append(back, n.ID)
			}
			continue
		}
		end, known := l.gone[n.ID]
		if !known {
			end = now.Add(l.grace)
			if is.silent && now.Sub(l.awake) >= silenceHeard {
				end = now // the grace has passed while the link was listened to
			}
		}
		gone[n.ID] = end
		if !end.After(now) && len(down) < changeAtOnce {
			down = append(down, n.ID)
		}
		if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	l.gone = gone
	return down, back, next
}

// markDown marks those of the nodes down whose evaluations fit an entry, one at least; the others are found again.
func (l *liveness) markDown(ctx context.Context, snap *state.Snapshot, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	evals, n := evalsOfNodes(snap, ids)
	ids = ids[:n]
	for _, cmd := range downCommands(ids, evals, time.Now()) {
		if _, _, err := l.hub.apply(ctx, cmd); err != nil {
			return ignoreEnd(ctx, err)
		}
	}
	for _, id := range ids {
		l.hub.log.Info("node is down", "node", id)
	}
	return nil
}

// downCommands mark nodes down and have their jobs looked at. Evaluations for which the entry has no room go first, to be
// looked at when the node is down: should the hub end in between, nothing is forgotten.
func downCommands(ids []string, evals []*api.Evaluation, now time.Time) (cmds []state.Command) {
	at := min(len(evals), evalsAtOnce)
	for late := range slices.Chunk(evals[at:], evalsAtOnce) {
		for _, e := range late {
			e.WaitUntil = now.Add(afterDown)
		}
		cmds = append(cmds, state.PutEvals{Evals: late})
	}
	return append(cmds, state.NodeStatus{
		IDs: ids, Status: api.NodeStatusDown, Description: "its link is gone", Evals: evals[:at],
	})
}

func (l *liveness) markReady(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if _, _, err := l.hub.apply(ctx, state.NodeStatus{IDs: ids, Status: api.NodeStatusReady}); err != nil {
		return ignoreEnd(ctx, err)
	}
	for _, id := range ids {
		l.hub.log.Info("node is back", "node", id)
	}
	return nil
}

// ignoreEnd drops an error that is only the end of the term.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// evalsOfNodes are the evaluations of all jobs that have work on the first n of the nodes, one a job: of as many nodes as
// do not call for more than evalsAtOnce, and of one at least.
func evalsOfNodes(snap *state.Snapshot, ids []string) (evals []*api.Evaluation, n int) {
	seen := map[state.JobName]bool{}
	for n, id := range ids {
		more := evalsOfNode(snap, id, seen)
		if n > 0 && len(evals)+len(more) > evalsAtOnce {
			return evals, n
		}
		evals = append(evals, more...)
	}
	return evals, len(ids)
}

// evalsOfNode are those of one node, for jobs that were not seen.
func evalsOfNode(snap *state.Snapshot, id string, seen map[state.JobName]bool) (evals []*api.Evaluation) {
	n := snap.Node(id)
	if n == nil {
		return nil
	}
	for r := range snap.RowsOfNode(n.Ordinal, 0) {
		name := state.JobName{Namespace: r.Namespace(), ID: r.JobID()}
		if r.ClientTerminal() || seen[name] {
			continue
		}
		seen[name] = true
		e := newEval(r.Job(), api.EvalTriggerNodeUpdate)
		e.NodeID, e.NodeModifyIndex = n.ID, n.ModifyIndex
		evals = append(evals, e)
	}
	return evals
}
