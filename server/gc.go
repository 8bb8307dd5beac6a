package server

import (
	"context"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// How long what is finished is kept, so that users can ask about it.
const (
	gcEvery        = 5 * time.Minute
	keepJobs       = 4 * time.Hour
	keepEvals      = time.Hour
	keepBatchEvals = 24 * time.Hour
	keepNodes      = 24 * time.Hour
	keepTokens     = time.Hour // join tokens, after they expired
	gcRows         = 4000      // in one entry
)

// collectGarbage forgets what has been finished for long.
func (h *Hub) collectGarbage(ctx context.Context) error {
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, cmd := range garbage(h.store.Snapshot(), time.Now()) {
			if _, _, err := h.apply(ctx, cmd); err != nil {
				return ignoreEnd(ctx, err)
			}
		}
	}
}

// garbage is what can be forgotten, in commands of bounded size. It is conservative: an allocation goes when both its
// node and the hubs are done with it and its evaluation is old, a job when it is dead and has no allocations and
// evaluations left, a node when it has been down for a day and holds nothing.
func garbage(snap *state.Snapshot, now time.Time) []state.Command {
	g := collector{now: now}
	held := map[state.JobName]bool{} // jobs that something is kept of
	for r := range snap.Rows("") {
		name := state.JobName{Namespace: r.Namespace(), ID: r.JobID()}
		if !doneWith(snap, r) || now.Sub(time.Unix(0, r.ModifyTime())) < keepFor(r.Job().Type) {
			held[name] = true
			continue
		}
		g.part().Allocs = append(g.last.Allocs, r.ID())
	}
	for e := range snap.Evals("") {
		open := e.Status == api.EvalStatusPending || e.Status == api.EvalStatusBlocked
		name := state.JobName{Namespace: e.Namespace, ID: e.JobID}
		if open || held[name] || now.Sub(time.Unix(0, e.ModifyTime)) < keepFor(e.Type) {
			held[name] = held[name] || open
			continue
		}
		g.part().Evals = append(g.last.Evals, e.ID)
	}
	for j := range snap.Jobs(api.AllNamespaces, "") {
		if j.Status == api.JobStatusDead && !held[state.JobName{Namespace: j.Namespace, ID: j.ID}] && now.Sub(time.Unix(0, j.SubmitTime)) >= keepJobs {
			g.part().Jobs = append(g.last.Jobs, state.JobName{Namespace: j.Namespace, ID: j.ID})
		}
	}
	for t := range snap.JoinTokens() {
		if now.Sub(time.Unix(0, t.Expires)) >= keepTokens {
			g.part().JoinTokens = append(g.last.JoinTokens, t.ID)
		}
	}
	cmds := g.commands()
	if nodes := deadNodes(snap, now); len(nodes) > 0 {
		cmds = append(cmds, state.DeleteNodes{IDs: nodes})
	}
	return cmds
}

// doneWith reports whether nobody needs an allocation: its node has finished with it, and its job wants no more of it.
func doneWith(snap *state.Snapshot, r *state.Row) bool {
	if !r.ClientTerminal() {
		return false
	}
	if r.DesiredStatus() != api.AllocDesiredRun || r.Next() != (state.ID{}) {
		return true
	}
	j := snap.Job(r.Namespace(), r.JobID())
	return j == nil || j.Status == api.JobStatusDead
}

func keepFor(jobType string) time.Duration {
	if jobType == api.JobTypeBatch {
		return keepBatchEvals
	}
	return keepEvals
}

// deadNodes are the nodes that have been down for long and hold no allocation.
func deadNodes(snap *state.Snapshot, now time.Time) []string {
	var ids []string
	for n := range snap.Nodes("") {
		if n.Status != api.NodeStatusDown || now.Sub(time.Unix(n.StatusUpdatedAt, 0)) < keepNodes {
			continue
		}
		empty := true
		for range snap.RowsOfNode(n.Ordinal, 0) {
			empty = false
			break
		}
		if empty && len(ids) < gcRows {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// collector splits what is to be forgotten into commands.
type collector struct {
	now  time.Time
	last *state.GC
	all  []*state.GC
	rows int
}

// part returns the command that has room for one row more, and counts it.
func (c *collector) part() *state.GC {
	if c.last == nil || c.rows == gcRows {
		c.last, c.rows = &state.GC{}, 0
		c.all = append(c.all, c.last)
	}
	c.rows++
	return c.last
}

func (c *collector) commands() []state.Command {
	cmds := make([]state.Command, len(c.all))
	for i, g := range c.all {
		cmds[i] = *g
	}
	return cmds
}
