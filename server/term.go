package server

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/planner"
	"github.com/brumehq/brume/server/state"
)

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
	p := planner.New(planner.Config{Store: h.store, Propose: h.proposePlan, Log: h.log.With("component", "planner")})
	h.planner.Store(p) // before the barrier: it hears of what is committed after it, or finds it in the state
	defer h.planner.Store(nil)
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
		g.Go(func() error { return p.Run(ctx) })
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

// proposePlan gives a command of the planner to Raft.
func (h *Hub) proposePlan(cmd state.Command) (planner.Wait, error) {
	p, err := h.propose(cmd)
	if err != nil {
		return nil, err
	}
	return func() (any, error) {
		_, result, err := p.outcome()
		return result, err
	}, nil
}

// publishVersions tells the cluster which commands this hub reads.
func (h *Hub) publishVersions(ctx context.Context) error {
	_, _, err := h.apply(ctx, state.HubVersions{ID: h.key.NodeID(), Name: h.cfg.Name, Min: state.MinVersion, Max: state.Version})
	return err
}
