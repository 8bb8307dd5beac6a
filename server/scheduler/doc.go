// Package scheduler decides what a job's evaluation changes: which allocations to place and where, which to stop, to update
// or to replace, and, for what cannot be placed, why. It handles service and batch jobs.
//
// It is pure: the nodes come in a View, the job's allocations, the time and a seed in a Request, and Schedule returns a
// Plan. It reads no clock, no randomness and no state, starts no goroutine and never depends on the order of a map, so
// equal inputs give equal plans.
//
// The leader's scheduling loop calls it and is its only caller: it feeds the View from committed changes, fills a Request
// from a snapshot, and turns the Plan into a replicated command.
package scheduler
