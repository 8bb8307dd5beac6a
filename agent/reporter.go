package agent

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/brumehq/brume/api"
)

// reporter carries allocation statuses to the hubs: of each allocation only the newest, as soon as the last send is done,
// and again over the next link when a send failed. It is safe for use by many goroutines, and report never waits, so that
// a hub that is away holds up no task.
type reporter struct {
	wake chan struct{} // holds one token while there may be something to send

	mu       sync.Mutex
	pending  map[string]*api.AllocStatus
	inflight map[string]*api.AllocStatus
	settled  chan struct{} // closed when nothing is in flight any more
}

// maxReport is how many statuses one message carries at most.
const maxReport = 2000

func newReporter() *reporter {
	return &reporter{
		wake:     make(chan struct{}, 1),
		pending:  make(map[string]*api.AllocStatus),
		inflight: make(map[string]*api.AllocStatus),
		settled:  make(chan struct{}),
	}
}

// report queues a status; it replaces an older one of the same allocation that was not sent yet.
func (r *reporter) report(s *api.AllocStatus) {
	r.mu.Lock()
	r.pending[s.ID] = s
	r.mu.Unlock()
	r.signal()
}

// unsent reports whether the hubs have not acknowledged the newest status of an allocation.
func (r *reporter) unsent(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending[id] != nil || r.inflight[id] != nil
}

// drained waits until the hubs have acknowledged everything, or ctx ends.
func (r *reporter) drained(ctx context.Context) {
	for {
		r.mu.Lock()
		empty, settled := len(r.pending)+len(r.inflight) == 0, r.settled
		r.mu.Unlock()
		if empty {
			return
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
	}
}

// serve sends what is queued until ctx ends or a send fails, whose error it returns; only one may run at a time.
func (r *reporter) serve(ctx context.Context, send func(context.Context, []*api.AllocStatus) error) error {
	for {
		if err := r.flush(ctx, send); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
	}
}

// flush sends what is queued now and what comes meanwhile.
func (r *reporter) flush(ctx context.Context, send func(context.Context, []*api.AllocStatus) error) error {
	for {
		batch := r.take()
		if len(batch) == 0 {
			return nil
		}
		err := send(ctx, batch)
		r.settle(err)
		if err != nil {
			return err
		}
	}
}

// take moves statuses into flight, in the order of ids.
func (r *reporter) take() []*api.AllocStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Sorted(maps.Keys(r.pending))
	ids = ids[:min(len(ids), maxReport)]
	batch := make([]*api.AllocStatus, len(ids))
	for i, id := range ids {
		batch[i] = r.pending[id]
		r.inflight[id] = batch[i]
		delete(r.pending, id)
	}
	return batch
}

// settle forgets what was in flight, or queues it again unless something newer is queued.
func (r *reporter) settle(failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failed != nil {
		for id, s := range r.inflight {
			if r.pending[id] == nil {
				r.pending[id] = s
			}
		}
		r.signal()
	}
	clear(r.inflight)
	close(r.settled)
	r.settled = make(chan struct{})
}

func (r *reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
