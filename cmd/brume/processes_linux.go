package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/agent/logs"
	"github.com/brumehq/brume/plugins/fake"
	"github.com/brumehq/brume/plugins/keeper"
	"github.com/brumehq/brume/plugins/rawexec"
)

// hostCmds are the verbs of machines that run a cluster: Linux only.
func (c *cli) hostCmds() []*cobra.Command {
	return []*cobra.Command{c.devCmd(), c.hubCmd(), c.agentCmd(), c.keeperCmd(), c.logsSinkCmd(), c.pluginCmd()}
}

// The verbs below are started by an agent, never by people.

func (c *cli) keeperCmd() *cobra.Command {
	var cfg keeper.Config
	cmd := &cobra.Command{
		Use:    "keeper",
		Short:  "Start tasks' processes and keep their exit codes (started by the agent)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return keeper.Serve(cmd.Context(), cfg) },
	}
	cmd.Flags().StringVar(&cfg.Socket, "socket", "", "unix socket to listen on")
	cmd.Flags().StringVar(&cfg.Dir, "dir", "", "directory of its journal")
	return cmd
}

func (c *cli) logsSinkCmd() *cobra.Command {
	var cfg logs.SinkConfig
	cmd := &cobra.Command{
		Use:    "logs-sink",
		Short:  "Write tasks' output to rotated files (started by the agent)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			return logs.ServeSink(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Socket, "socket", "", "unix socket to listen on")
	return cmd
}

// saveMemory has an agent or a plugin collect garbage twice as often as programs do: what they hold is small, and belongs
// to the tasks of the machine (docs/benchmarks.md). GOGC in the environment says otherwise.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func (c *cli) pluginCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "plugin NAME",
		Short:  "Be one of the built-in drivers (started by the agent)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			saveMemory()
			switch args[0] {
			case rawexec.Name:
				return rawexec.Main()
			case fake.Name:
				return fake.Main()
			}
			return fmt.Errorf("no built-in driver is called %q", args[0])
		},
	}
}
