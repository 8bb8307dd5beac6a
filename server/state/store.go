package state

import (
	"sync"
	"sync/atomic"

	"github.com/brumehq/brume/api"
)

// Store is the replicated state of one hub. Apply, ApplyBatch and Restore are for one goroutine at a time; everything else
// may be called from any.
type Store struct {
	mu        sync.Mutex // guards rows: the writer's own trees
	rows      *rows
	published atomic.Pointer[Snapshot]
	watches   watches
}

// rows is everything that is replicated. The writer changes its own; each Snapshot has a frozen one.
type rows struct {
	index uint64 // of the last entry applied

	jobs     *table[jobRow]
	versions *table[versionRow]
	evals    *table[api.Evaluation]
	allocs   *table[Row]
	nodes    *table[api.Node]
	nodeRefs *table[nodeRef]

	joinTokens *table[api.JoinToken]
	tokens     *table[Token]
	hubs       *table[HubVersions]
	cluster    *Cluster // nil until the cluster is made

	nextOrdinal uint32 // of the next new node; ordinals begin at 1
	bootstrap   uint64 // index of the first management token; 0: none yet

	jobsAt, summariesAt, clusterAt uint64 // table indexes that their tables' own do not tell
}

func newRows() *rows {
	return &rows{
		jobs: newJobs(), versions: newVersions(), evals: newEvals(), allocs: newAllocs(), nodes: newNodes(), nodeRefs: newNodeRefs(),
		joinTokens: newJoinTokens(), tokens: newTokens(), hubs: newHubs(), nextOrdinal: 1,
	}
}

// New returns an empty store.
func New() *Store {
	s := &Store{rows: newRows()}
	s.watches.byKey = make(map[Key][]*waiter)
	s.publishAll()
	return s
}

// Snapshot returns the state as of the last commit. It never changes and costs nothing to keep but memory.
func (s *Store) Snapshot() *Snapshot { return s.published.Load() }

// Watch returns a channel that is closed by the first commit from now on that touches any of keys. Watch first, then read
// a Snapshot: no change is missed. cancel gives the watch up and must be called in the end, also after a wake.
func (s *Store) Watch(keys ...Key) (woken <-chan struct{}, cancel func()) {
	return s.watches.watch(keys)
}

// Entry is one entry of the Raft log.
type Entry struct {
	Index uint64
	Data  []byte
}

// Outcome is what applying one entry gave, see Store.Apply.
type Outcome struct {
	Result any
	Err    error
}

// Apply applies one entry of the log and publishes what it made. The result is the command's own (see each). An error is
// either an *UnsupportedError, after which the hub must stop, or the command's refusal, one of api's errors: then the
// entry changed nothing.
func (s *Store) Apply(index uint64, entry []byte) (any, error) {
	out := s.ApplyBatch([]Entry{{index, entry}})
	return out[0].Result, out[0].Err
}

// ApplyBatch applies entries in order and publishes them together. After an *UnsupportedError it applies no more: the
// entries that follow have the same error.
func (s *Store) ApplyBatch(entries []Entry) []Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Outcome, len(entries))
	var touched []Key
	for i, e := range entries {
		h, cmd, err := decodeEntry(e.Index, e.Data)
		if err != nil {
			for ; i < len(entries); i++ {
				out[i].Err = err
			}
			break
		}
		t := &txn{rows: s.rows, index: e.Index, time: h.Time, seed: h.Seed, touched: touched}
		out[i].Result, out[i].Err = cmd.apply(t)
		t.settle()
		s.rows.index = e.Index
		touched = t.touched
	}
	s.publish()
	s.watches.wake(touched)
	return out
}

// publish makes the writer's rows the ones that readers see; s.mu is held.
func (s *Store) publish() { s.publishOver(s.published.Load()) }

// publishAll does so for rows that no snapshot shares anything with.
func (s *Store) publishAll() { s.publishOver(&Snapshot{}) }

func (s *Store) publishOver(last *Snapshot) {
	next := &Snapshot{rows: *s.rows}
	keepFrozen(next, last, s.rows)
	s.published.Store(next)
}

// keepFrozen freezes the tables that changed and takes the others from the snapshot before.
func keepFrozen(next, last *Snapshot, w *rows) {
	next.jobs = frozen(w.jobs, last.jobs)
	next.versions = frozen(w.versions, last.versions)
	next.evals = frozen(w.evals, last.evals)
	next.allocs = frozen(w.allocs, last.allocs)
	next.nodes = frozen(w.nodes, last.nodes)
	next.nodeRefs = frozen(w.nodeRefs, last.nodeRefs)
	next.joinTokens = frozen(w.joinTokens, last.joinTokens)
	next.tokens = frozen(w.tokens, last.tokens)
	next.hubs = frozen(w.hubs, last.hubs)
}

func frozen[R any](writer, last *table[R]) *table[R] {
	if last != nil && !writer.changed {
		return last
	}
	return writer.freeze()
}
