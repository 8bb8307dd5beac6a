// Package rawexec is the driver raw_exec: a task is a process of the host, without isolation and without limits. The
// keeper, found by the variable BRUME_KEEPER, starts and holds the processes; the driver keeps nothing that matters, so
// that it may die and come again at any time. cmd/brume serves it as a plugin.
package rawexec
