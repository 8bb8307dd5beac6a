package state

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"
)

// Table names a table for its index and its watches.
type Table uint8

// The tables.
const (
	Jobs Table = iota + 1
	Summaries
	Evals
	Allocs
	Nodes
	JoinTokens
	Tokens
	ClusterTable // ClusterMeta and hub versions
	tables       // how many, plus one
)

type scope uint8

const (
	wholeTable scope = iota
	oneRow
	allocsOfJob
	evalsOfJob
	desiredOfNode
)

// Key names something that can be watched.
type Key struct {
	table  Table
	scope  scope
	hi, lo uint64
}

func named(t Table, s scope, parts ...string) Key {
	h := fnv.New128a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	var sum [16]byte
	h.Sum(sum[:0])
	return Key{t, s, binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// TableKey is every change of a table.
func TableKey(t Table) Key { return Key{table: t} }

// JobKey is a job's own row: a registration, its status, its end.
func JobKey(namespace, id string) Key { return named(Jobs, oneRow, namespace, id) }

// SummaryKey is a job's counts of allocations.
func SummaryKey(namespace, id string) Key { return named(Summaries, oneRow, namespace, id) }

// EvalKey is one evaluation.
func EvalKey(id string) Key { return named(Evals, oneRow, id) }

// NodeKey is one node.
func NodeKey(id string) Key { return named(Nodes, oneRow, id) }

// AllocKey is one allocation.
func AllocKey(id ID) Key {
	return Key{Allocs, oneRow, binary.BigEndian.Uint64(id[:]), binary.BigEndian.Uint64(id[8:])}
}

// AllocsOfJob is every change of a job's allocations.
func AllocsOfJob(namespace, id string) Key { return named(Allocs, allocsOfJob, namespace, id) }

// EvalsOfJob is every change of a job's evaluations.
func EvalsOfJob(namespace, id string) Key { return named(Evals, evalsOfJob, namespace, id) }

// NodeDesired is what the hubs want of a node's allocations; a node's own reports do not touch it.
func NodeDesired(ordinal uint32) Key {
	return Key{table: Allocs, scope: desiredOfNode, lo: uint64(ordinal)}
}

// waiter is one call of Watch.
type waiter struct {
	keys  []Key
	woken chan struct{}
}

// watches is the hub of all waiters.
type watches struct {
	mu    sync.Mutex
	byKey map[Key][]*waiter
}

// watch returns a channel that is closed by the next wake that touches any of keys. cancel gives the watch up; it must be
// called once, after a wake too.
func (w *watches) watch(keys []Key) (woken <-chan struct{}, cancel func()) {
	a := &waiter{woken: make(chan struct{})}
	for _, k := range keys {
		if !slices.Contains(a.keys, k) {
			a.keys = append(a.keys, k)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range a.keys {
		w.byKey[k] = append(w.byKey[k], a)
	}
	return a.woken, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forget(a)
	}
}

// forget takes a waiter off all its keys; w.mu is held.
func (w *watches) forget(a *waiter) {
	for _, k := range a.keys {
		rest := w.byKey[k]
		i := slices.Index(rest, a)
		if i < 0 {
			continue
		}
		rest[i] = rest[len(rest)-1]
		rest[len(rest)-1] = nil
		if rest = rest[:len(rest)-1]; len(rest) == 0 {
			delete(w.byKey, k)
		} else {
			w.byKey[k] = rest
		}
	}
	a.keys = nil
}

// wake wakes the waiters of the touched keys.
func (w *watches) wake(touched []Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.byKey) == 0 {
		return
	}
	for _, k := range touched {
		w.wakeKey(k)
	}
}

// wakeAll wakes every waiter.
func (w *watches) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.byKey {
		w.wakeKey(k)
	}
}

func (w *watches) wakeKey(k Key) {
	woken, ok := w.byKey[k]
	if !ok {
		return
	}
	delete(w.byKey, k)
	for _, a := range woken {
		close(a.woken)
		w.forget(a)
	}
}
