// Package state is the replicated state of a hub: a small typed store of jobs, evaluations, allocations, nodes and what a
// cluster knows of itself. It owns the commands that change it (Encode, Store.Apply), their form in the Raft log, the form
// of snapshots, and the watches that wake when something changed.
//
// One writer (Raft's apply goroutine) changes copy-on-write B-trees; each commit publishes an immutable Snapshot that any
// number of readers use without locks. Rows are never changed in place. Applying is deterministic: times and randomness
// come in the entry's header, nothing depends on the order of a map, and an entry that this hub cannot read is an
// *UnsupportedError, never skipped.
//
// It never schedules, validates jobs, reads a clock or does I/O of its own. The server package is its only caller.
package state
