// Package planner is the leader's scheduling loop: it keeps the queue of open evaluations and the scheduler's view of the
// nodes, lets server/scheduler decide, and commits the plans as Raft entries of bounded size, placing on while they commit.
//
// Nothing in it outlives a term: view and queue are made from the state when it begins, and again when an entry fails. It
// hears of changes by Committed and looks up in the state what they are. It never talks to agents and reads no log.
//
// The server makes one for each term of leadership, and is its only caller.
package planner
