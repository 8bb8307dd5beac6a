package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// term is one time of leadership: what the loops of it tell each other. Nothing in it outlives it.
type term struct{ news inbox }

// lead runs the leader's loops for every term that Raft gives this hub, one at a time.
func (h *Hub) lead(ctx context.Context, leading <-chan bool) error {
	end := func() error { return nil }
	for {
		select {
		case <-ctx.Done():
			err := end()
			if h.isLeader() && len(h.voters()) > 1 {
				if err := h.raft.LeadershipTransfer().Error(); err != nil {
					h.log.Warn("hand over leadership", "err", err)
				}
			}
			return err
		case leads := <-leading:
			if err := end(); err != nil {
				return err
			}
			end = func() error { return nil }
			if leads {
				end = h.beginTerm(ctx)
			}
		}
	}
}

// beginTerm starts the loops; end stops them, waits, and returns what must stop the hub.
func (h *Hub) beginTerm(ctx context.Context) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1) // buffered: end may come late
	go func() { done <- h.runTerm(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// runTerm does the leader's work until ctx ends. What fails for want of leadership ends the term, anything else the hub.
func (h *Hub) runTerm(ctx context.Context) error {
	t := &term{}
	t.news.wake = make(chan struct{}, 1)
	h.term.Store(t) // before the barrier: what is committed after it is in the inbox or in the state that the loops read
	defer h.term.Store(nil)
	err := h.raft.Barrier(0).Error()
	if err != nil {
		err = noLeader(err)
	}
	if err == nil {
		err = h.commitGenesis(ctx)
	}
	if err == nil {
		err = h.publishVersions(ctx)
	}
	if err == nil {
		h.log.Info("leadership taken", "index", h.store.Snapshot().Index())
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return newPlanner(h, t).run(ctx) })
		g.Go(func() error { return h.watchNodes(ctx) })
		g.Go(func() error { return h.collectGarbage(ctx) })
		err = g.Wait()
		h.log.Info("leadership left")
	}
	if ctx.Err() != nil || errors.Is(err, api.ErrNoLeader) {
		return nil
	}
	if err != nil {
		h.stop(fmt.Errorf("leader: %w", err))
	}
	return err
}

// publishVersions tells the cluster which commands this hub reads.
func (h *Hub) publishVersions(ctx context.Context) error {
	_, _, err := h.apply(ctx, state.HubVersions{ID: h.key.NodeID(), Name: h.cfg.Name, Min: state.MinVersion, Max: state.Version})
	return err
}

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

// newsOf is what a committed command means for placement. Plans are missing: the planner made them.
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
