// Package agent is the node: it joins a cluster, describes its machine, watches for the allocations that the hubs placed
// on it, runs their tasks through driver plugins, and reports what became of them.
//
// Tasks outlive it: the local database holds each task's handle before the task is called running, and the keeper, the log
// process and the driver plugins are processes of their own that the next agent finds again.
//
// It never decides what runs where, never talks to another agent except by gossip, and listens on no HTTP port: hubs send
// their requests over the link that the agent dialled. cmd/brume calls Run.
package agent
