// Command brume runs a hub, an agent or both, and is the command line of a cluster.
//
// It owns flags, configuration files, the wiring of server and agent, and what people see: tables, progress and errors.
// It decides nothing about jobs: that is the hub's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

// run holds what must be undone before the process exits.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	defer stop()
	cli := newCLI(os.Stdin, os.Stdout, os.Stderr)
	cmd, err := cli.root().ExecuteContextC(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		if way := advice(cmd, err); way != "" {
			fmt.Fprintln(os.Stderr, way)
		}
		return exitError
	}
}

// stopSignals are those that end a verb in order: the closed terminal's is one, except under nohup.
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// Exit codes of every verb.
const (
	exitError     = 1 // an error, or a task failed
	exitNotPlaced = 2 // something asked for fits on no node now
)

// exitCode is an error whose explanation has been printed already.
type exitCode int

// Error names the code; users never see it.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
