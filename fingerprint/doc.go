// Package fingerprint says what this machine is: processors and their layout, memory, disk, network address, host,
// control groups and signals, in the attribute names that job files use.
//
// Each fingerprinter is one function that reads through an injectable root, so that any machine can be described by a
// tree of files. It never changes anything, starts no process, and keeps no state; what a machine does not tell is left
// out or, where a number must be there, stands in by a documented fallback. The agent calls Detect when it starts;
// drivers and devices say for themselves what they find.
package fingerprint
