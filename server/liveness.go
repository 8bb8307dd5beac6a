package server

import (
	"context"
	"errors"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

const (
	// startGrace is what a fresh leader gives nodes without a link: they may be on their way back to it.
	startGrace = 10 * time.Second
	// lookEvery spaces the looks at all nodes while a storm of agents reconnects.
	lookEvery = 10 * time.Millisecond
	// downAtOnce bounds the nodes, and so the evaluations, of one entry.
	downAtOnce = 200
)

// watchNodes marks nodes down whose link is gone and stays gone for the grace, and ready again when it is back. Gossip is
// not asked: whoever holds its key could forge a death.
func (h *Hub) watchNodes(ctx context.Context) error {
	l := liveness{hub: h, gone: map[string]time.Time{}, extra: startGrace - api.NodeGrace}
	for {
		next, err := l.look(ctx, time.Now())
		if err != nil {
			return err
		}
		l.extra = 0
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.links.changed:
		case <-due:
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
	gone  map[string]time.Time // nodes without a link that are not down: since when
	extra time.Duration        // added to the grace of those that are found without one now
}

// look compares nodes with links and commits what follows. next is when the next grace ends; zero: none is running.
func (l *liveness) look(ctx context.Context, now time.Time) (next time.Time, err error) {
	var down, back []string
	seen := make(map[string]bool, len(l.gone))
	snap := l.hub.store.Snapshot()
	for n := range snap.Nodes("") {
		linked, registered := l.hub.links.live(n.ID)
		if linked || n.Status == api.NodeStatusDown {
			if registered && n.Status != api.NodeStatusReady {
				back = append(back, n.ID)
			}
			continue
		}
		since, known := l.gone[n.ID]
		if !known {
			since = now.Add(l.extra)
			l.gone[n.ID] = since
		}
		seen[n.ID] = true
		if end := since.Add(api.NodeGrace); !end.After(now) {
			if len(down) < downAtOnce {
				down = append(down, n.ID)
			}
			next = now
		} else if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	for id := range l.gone {
		if !seen[id] {
			delete(l.gone, id)
		}
	}
	if len(down) == 0 && len(back) == 0 {
		return next, nil
	}
	return now, errors.Join(l.markDown(ctx, snap, down), l.markReady(ctx, back))
}

func (l *liveness) markDown(ctx context.Context, snap *state.Snapshot, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	cmd := state.NodeStatus{
		IDs: ids, Status: api.NodeStatusDown, Description: "its link is gone", Evals: evalsOfNodes(snap, ids),
	}
	if _, _, err := l.hub.apply(ctx, cmd); err != nil {
		return ignoreEnd(ctx, err)
	}
	for _, id := range ids {
		l.hub.log.Info("node is down", "node", id)
		delete(l.gone, id)
	}
	return nil
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

// evalsOfNodes are the evaluations of all jobs that have work on nodes, one a job.
func evalsOfNodes(snap *state.Snapshot, ids []string) []*api.Evaluation {
	var evals []*api.Evaluation
	seen := map[state.JobName]bool{}
	for _, id := range ids {
		n := snap.Node(id)
		if n == nil {
			continue
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
	}
	return evals
}
