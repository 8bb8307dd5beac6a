package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/brumehq/brume/agent"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
	"github.com/brumehq/brume/server"
)

func (c *cli) devCmd() *cobra.Command {
	var flags fileConfig
	var file string
	cmd := &cobra.Command{
		Use:   "dev [FILE...]",
		Short: "Run a hub and an agent in one process on loopback, and the job files named, to try things out",
		Long: "Run a hub and an agent in one process, on loopback, without tokens, and run the job files named. All state is\n" +
			"in a temporary directory that is removed at exit, together with the tasks; --data-dir keeps the state instead.",
		RunE: func(cmd *cobra.Command, jobs []string) error {
			d := &dev{cli: c, jobs: jobs}
			if err := d.configure(&flags, file); err != nil {
				return err
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "HCL configuration file")
	f.StringVar(&flags.DataDir, "data-dir", "", "keep the state here")
	f.StringVar(&flags.HTTP, "http", "", "address of the API, on loopback (default 127.0.0.1:4646)")
	f.StringVar(&flags.RPC, "rpc", "", "address of the link (default 127.0.0.1:0)")
	f.StringVar(&flags.Gossip, "gossip", "", "address of the hub's gossip (default 127.0.0.1:0)")
	f.StringVar(&flags.PluginDir, "plugin-dir", "", "run every plugin in this directory")
	f.StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error (default warn)")
	return cmd
}

// dev is the real hub and the real agent in one process.
type dev struct {
	*cli
	hub     server.Config
	agent   agent.Config
	dataDir string // "" is a temporary one
	jobs    []string
}

func (d *dev) configure(flags *fileConfig, path string) error {
	file, err := loadConfig(path, "")
	if err != nil {
		return err
	}
	flags.LogLevel = merge(flags.LogLevel, file.LogLevel, "warn")
	if d.agent, err = d.nodeConfig(flags, &file); err != nil {
		return err
	}
	d.dataDir = merge(flags.DataDir, file.DataDir)
	d.hub = server.Config{
		Name:       merge(file.Name, "dev"),
		Datacenter: file.Datacenter,
		Dev:        true,
		HTTP:       merge(flags.HTTP, file.HTTP, "127.0.0.1:4646"),
		RPC:        merge(flags.RPC, file.RPC, "127.0.0.1:0"),
		Gossip:     merge(flags.Gossip, file.Gossip, "127.0.0.1:0"),
		Log:        d.agent.Log.With("side", "hub"),
	}
	d.agent.Name = merge(file.Name, "dev")
	d.agent.Dev, d.agent.StopTasks = true, true
	d.agent.Gossip = "127.0.0.1:0"
	d.agent.Log = d.agent.Log.With("side", "agent")
	return nil
}

// run blocks until ctx ends, then stops the tasks, the agent and the hub, in this order.
func (d *dev) run(ctx context.Context) (err error) {
	dir := d.dataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "brume-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	d.hub.DataDir, d.agent.DataDir = filepath.Join(dir, "hub"), filepath.Join(dir, "agent")

	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx)) // ends after the agent
	defer stopHub()
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan server.Addrs, 1)
	d.hub.Ready = func(a server.Addrs) { ready <- a }
	g.Go(func() error { return server.Run(hubCtx, d.hub) })
	g.Go(func() error {
		defer stopHub()
		select {
		case <-ctx.Done():
			return nil
		case addrs := <-ready:
			return d.runAgent(ctx, addrs)
		}
	})
	return g.Wait()
}

// runAgent joins an agent to the hub just started and runs the job files on it.
func (d *dev) runAgent(ctx context.Context, hub server.Addrs) error {
	cl, err := client.New(client.Config{Address: "http://" + hub.HTTP})
	if err != nil {
		return err
	}
	defer cl.CloseIdle()
	token, err := cl.CreateJoinToken(ctx, api.JoinTokenRequest{Role: "agent", Uses: 1, TTL: int64(time.Minute)})
	if err != nil {
		return fmt.Errorf("join token: %w", err)
	}
	d.agent.JoinToken, d.agent.Join = token.Token, []string{hub.RPC}
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	d.agent.Ready = func(string) { close(ready) }
	g.Go(func() error { return agent.Run(ctx, d.agent) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
		d.printf("Brume is ready: http://%s\n", hub.HTTP)
		if hub.HTTP != "127.0.0.1:4646" || os.Getenv("BRUME_ADDR") != "" {
			d.printf("In another terminal: export BRUME_ADDR=http://%s\n", hub.HTTP)
		}
		return d.runJobs(ctx, cl)
	})
	return g.Wait()
}

// runJobs runs the job files one after the other; one that fails says so and the next goes on.
func (d *dev) runJobs(ctx context.Context, cl *client.Client) error {
	for _, path := range d.jobs {
		job, err := d.read(&jobFile{}, path)
		if err == nil {
			err = d.runJob(ctx, cl, &api.JobRegisterRequest{Job: job}, false)
		}
		var code exitCode
		if err != nil && !errors.As(err, &code) && ctx.Err() == nil {
			fmt.Fprintln(d.err, "Error:", err)
		}
	}
	return nil
}
