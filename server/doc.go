// Package server is the hub: it admits machines, keeps the cluster's state in Raft, places work and serves the API.
//
// It owns the data directory of a hub, the Raft log and its snapshots, the links of agents, the leader's loops
// (scheduling, liveness, garbage collection) and the HTTP routes. What is true of the cluster is in server/state and is
// changed only by (*Hub).apply; what a placement should be is decided by server/scheduler, which is pure.
//
// It never dials an agent, never reads a job file from disk, and keeps nothing in the leader's loops that cannot be
// rebuilt from the state. cmd/brume calls Run.
package server
