// Package fake is a driver that runs no process: its tasks end when and how their configuration says. Tests of all kinds
// use it, as a plugin and inside one process, in virtual time too: without stdout_string it does no I/O and starts no
// goroutine. It never touches the machine, and runs only where it is configured.
package fake
