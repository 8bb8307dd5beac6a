// Package localdb keeps what an agent must find again after a restart: its allocations, each task's id, driver handle and
// state, and how to reach the plugins that are still running. One goroutine writes; whoever asked waits until his record
// is on disk, and requests that come together share one commit. Only the agent calls it.
package localdb
