package server

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/server/state"
)

// snapshotBytes of applied log make a snapshot due: replaying that much takes about a second.
const snapshotBytes = 64 << 20

// fsm applies committed entries to the store. Raft calls its Apply methods from one goroutine.
type fsm struct {
	store *state.Store
	stop  func(error) // ends the hub: its state can go no further

	broken   error         // the first entry that this hub cannot apply; owned by Raft's apply goroutine
	unsaved  int           // bytes applied since the last snapshot was asked for; likewise
	snapshot chan struct{} // cap 1: a snapshot is due
}

func newFSM(store *state.Store, stop func(error)) *fsm {
	return &fsm{store: store, stop: stop, snapshot: make(chan struct{}, 1)}
}

// Apply applies one entry.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in order and answers a state.Outcome for each. It never skips an entry: after one that it
// cannot read it applies none, and the hub stops.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]state.Entry, 0, len(logs))
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			entries = append(entries, state.Entry{Index: l.Index, Data: l.Data})
			f.unsaved += len(l.Data)
		}
	}
	outcomes := f.apply(entries)
	answers := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			answers[i], outcomes = outcomes[0], outcomes[1:]
		}
	}
	return answers
}

func (f *fsm) apply(entries []state.Entry) []state.Outcome {
	if f.broken != nil {
		return slices.Repeat([]state.Outcome{{Err: f.broken}}, len(entries))
	}
	outcomes := f.store.ApplyBatch(entries)
	for _, o := range outcomes {
		if u := (*state.UnsupportedError)(nil); errors.As(o.Err, &u) {
			f.broken = o.Err
			f.stop(f.broken)
			return outcomes
		}
	}
	if f.unsaved >= snapshotBytes {
		f.unsaved = 0
		select {
		case f.snapshot <- struct{}{}:
		default: // one is due already
		}
	}
	return outcomes
}

// Snapshot takes the state as it is: a pointer.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.broken != nil {
		return nil, f.broken
	}
	return fsmSnapshot{f.store.Snapshot()}, nil
}

// Restore replaces the state by a snapshot.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	err := f.store.Restore(r)
	if u := (*state.UnsupportedError)(nil); errors.As(err, &u) {
		f.broken = fmt.Errorf("snapshot: %w", err)
		f.stop(f.broken)
	}
	return err
}

type fsmSnapshot struct{ state *state.Snapshot }

// Persist writes the snapshot; it runs beside Apply.
func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.state.Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release has nothing to give back: the garbage collector frees the snapshot.
func (fsmSnapshot) Release() {}
