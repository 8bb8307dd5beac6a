package planner

import (
	"sync"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// Committed tells the planner of a command that was committed and what the state said of it. It may be called from any
// goroutine and never waits.
func (p *Planner) Committed(cmd state.Command, result any) { p.inbox.put(newsOf(cmd, result)) }

// inbox is what was committed and the planner has not looked at: only names, the state says what they are.
type inbox struct {
	mu   sync.Mutex
	news news
	wake chan struct{} // cap 1
}

// news names what committed commands changed that matters to placement.
type news struct {
	evals []string   // new or changed
	nodes []string   // changed
	ended []state.ID // allocations that their nodes have finished with
}

func (b *inbox) put(n news) {
	if len(n.evals)+len(n.nodes)+len(n.ended) == 0 {
		return
	}
	b.mu.Lock()
	b.news.evals = append(b.news.evals, n.evals...)
	b.news.nodes = append(b.news.nodes, n.nodes...)
	b.news.ended = append(b.news.ended, n.ended...)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (b *inbox) take() news {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.news
	b.news = news{}
	return n
}

// newsOf is what a command means for placement. Plans are missing: the planner made them.
func newsOf(cmd state.Command, result any) (n news) {
	switch c := cmd.(type) {
	case state.RegisterJob:
		n.add(c.Eval)
	case state.DeregisterJob:
		n.add(c.Eval)
	case state.StopAllocs:
		n.add(c.Evals...)
	case state.PutEvals:
		n.add(c.Evals...)
	case state.PutNode:
		n.nodes = []string{c.Node.ID}
	case state.NodeStatus:
		n.nodes = c.IDs
		n.add(c.Evals...)
	case state.DeleteNodes:
		n.nodes = c.IDs
		n.add(c.Evals...)
	case state.AllocStatuses:
		changed, _ := result.([]*state.Row)
		for _, r := range changed {
			if r.ClientTerminal() {
				n.ended = append(n.ended, r.ID())
			}
		}
		n.add(c.Evals...)
	}
	return n
}

func (n *news) add(evals ...*api.Evaluation) {
	for _, e := range evals {
		if e != nil {
			n.evals = append(n.evals, e.ID)
		}
	}
}
