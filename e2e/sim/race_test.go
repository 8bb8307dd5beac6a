//go:build race

package sim

import "runtime"

// The race detector's runtime breaks down (golang/go#78156) when two processors fire timers of one bubble at once. One
// processor finds races as well: what counts is the order that synchronisation makes, not when things happen.
func oneProcessorUnderRace() { runtime.GOMAXPROCS(1) }

const someHistories = 8 // each takes ten times as long
