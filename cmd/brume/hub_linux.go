package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/server"
)

func (c *cli) hubCmd() *cobra.Command {
	var flags fileConfig
	var file string
	var init bool
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Run a hub; --init makes the cluster, later starts need no flags",
		Long: "Run a hub. The first start needs --init, which makes the cluster: its authority, its keys, an admin token that\n" +
			"only its owner can read, and a context so that the next command just works. Later starts need no flags.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.hubConfig(&flags, file)
			if err != nil {
				return err
			}
			cfg.Init = init
			cfg.Ready = func(a server.Addrs) {
				if init {
					c.hubMade(cfg.DataDir, a)
				}
				c.printf("Hub is ready: https://%s\n", reachable(a.HTTP))
			}
			return server.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&init, "init", false, "make a cluster with this hub as its first")
	f.StringVar(&file, "config", "", "HCL configuration file")
	f.StringVar(&flags.Name, "name", "", "name of this hub (default the host's)")
	f.StringVar(&flags.DataDir, "data-dir", "", "where its state is kept")
	f.StringVar(&flags.HTTP, "http", "", "address of the API (default 0.0.0.0:4646)")
	f.StringVar(&flags.RPC, "rpc", "", "address for agents and other hubs (default 0.0.0.0:4647)")
	f.StringVar(&flags.Gossip, "gossip", "", "address for gossip, TCP and UDP (default 0.0.0.0:4648)")
	f.StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	return cmd
}

func (c *cli) hubConfig(flags *fileConfig, path string) (server.Config, error) {
	file, err := loadConfig(path, "hub")
	if err != nil {
		return server.Config{}, err
	}
	dir, err := dataDir("hub")
	if err != nil && flags.DataDir == "" && file.DataDir == "" {
		return server.Config{}, err
	}
	log, err := c.logger(merge(flags.LogLevel, file.LogLevel))
	if err != nil {
		return server.Config{}, err
	}
	dir, err = filepath.Abs(merge(flags.DataDir, file.DataDir, dir))
	if err != nil {
		return server.Config{}, err
	}
	return server.Config{
		Name:       merge(flags.Name, file.Name),
		Datacenter: file.Datacenter,
		DataDir:    dir,
		HTTP:       merge(flags.HTTP, file.HTTP),
		RPC:        merge(flags.RPC, file.RPC),
		Gossip:     merge(flags.Gossip, file.Gossip),
		Log:        log,
	}, nil
}

// hubMade saves the context of a cluster just made, and says how machines join it.
func (c *cli) hubMade(dataDir string, a server.Addrs) {
	token, terr := os.ReadFile(filepath.Join(dataDir, server.AdminTokenFile))
	ca, cerr := os.ReadFile(filepath.Join(dataDir, server.CAFile))
	path := contextPath(os.Getenv)
	err := errors.Join(terr, cerr)
	if err == nil {
		err = saveContext(path, savedContext{Address: "https://" + reachable(a.HTTP), Token: trimmed(token), CACert: string(ca)})
	}
	if err != nil {
		fmt.Fprintf(c.err, "Warning: the context could not be saved: %v\n", err)
	} else {
		c.printf("Cluster made. \"brume\" commands of this user now talk to it (%s).\n", path)
	}
	c.printf("Admin token: %s\n", filepath.Join(dataDir, server.AdminTokenFile))
	c.printf("A machine joins with:\n  BRUME_JOIN_TOKEN=$(brume join-token create) # here\n  BRUME_JOIN_TOKEN=… brume agent --join %s # there\n", joinAddr(a.RPC))
}

// reachable turns a bound address into one that this machine can dial.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// joinAddr is what other machines dial: a wildcard address stands for this host's name.
func joinAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}
