package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/agent"
)

func (c *cli) agentCmd() *cobra.Command {
	var flags fileConfig
	var file, tokenFile string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent: this machine runs tasks",
		Long: "Run an agent: this machine runs tasks. The first start joins a cluster: --join HOST and a join token in\n" +
			"BRUME_JOIN_TOKEN or --join-token-file. Later starts need no flags.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			saveMemory()
			cfg, err := c.agentConfig(&flags, file)
			if err != nil {
				return err
			}
			if cfg.JoinToken, err = joinToken(tokenFile); err != nil {
				return err
			}
			cfg.Ready = func(nodeID string) { c.printf("Agent is ready: node %s\n", nodeID) }
			return agent.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "HCL configuration file")
	f.StringVar(&flags.Name, "name", "", "name of this node (default the host's)")
	f.StringVar(&flags.DataDir, "data-dir", "", "where its state and its tasks' directories are kept")
	f.StringVar(&flags.Gossip, "gossip", "", "address for gossip, TCP and UDP (default 0.0.0.0:4648)")
	f.StringArrayVar(&flags.Join, "join", nil, "HOST or HOST:PORT of a hub, or of any member once joined (repeatable)")
	f.StringVar(&tokenFile, "join-token-file", "", "file that holds the join token")
	f.StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	return cmd
}

func (c *cli) agentConfig(flags *fileConfig, path string) (agent.Config, error) {
	file, err := loadConfig(path, "agent")
	if err != nil {
		return agent.Config{}, err
	}
	dir, err := dataDir("agent")
	if err != nil && flags.DataDir == "" && file.DataDir == "" {
		return agent.Config{}, err
	}
	if dir, err = filepath.Abs(merge(flags.DataDir, file.DataDir, dir)); err != nil {
		return agent.Config{}, err
	}
	cfg, err := c.nodeConfig(flags, &file)
	if err != nil {
		return cfg, err
	}
	cfg.DataDir = dir
	cfg.Gossip = merge(flags.Gossip, file.Gossip, cfg.Gossip)
	if cfg.Join = flags.Join; len(cfg.Join) == 0 {
		cfg.Join = file.Join
	}
	return cfg, nil
}

// nodeConfig is what agent and dev share: the machine's description and its plugins.
func (c *cli) nodeConfig(flags, file *fileConfig) (agent.Config, error) {
	cfg := agent.DefaultConfig()
	log, err := c.logger(merge(flags.LogLevel, file.LogLevel))
	if err != nil {
		return cfg, err
	}
	if cfg.Plugins, err = file.plugins(); err != nil {
		return cfg, err
	}
	if cfg.Exe, err = os.Executable(); err != nil {
		return cfg, fmt.Errorf("own executable: %w", err)
	}
	cfg.Log, cfg.Version = log, version
	cfg.Name = merge(flags.Name, file.Name, cfg.Name)
	cfg.Datacenter = merge(file.Datacenter, cfg.Datacenter)
	cfg.NodePool = merge(file.NodePool, cfg.NodePool)
	cfg.NodeClass, cfg.Meta, cfg.Leaf = file.NodeClass, file.Meta, file.Leaf
	cfg.PluginDir = merge(flags.PluginDir, file.PluginDir)
	return cfg, nil
}

// joinToken reads the token from the file, else from BRUME_JOIN_TOKEN, which no child process shall inherit.
func joinToken(file string) (string, error) {
	env := os.Getenv("BRUME_JOIN_TOKEN")
	if err := os.Unsetenv("BRUME_JOIN_TOKEN"); err != nil {
		return "", err
	}
	if file == "" {
		return env, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	if trimmed(raw) == "" {
		return "", errors.New("join token: " + file + " is empty")
	}
	return trimmed(raw), nil
}

func trimmed(b []byte) string { return strings.TrimSpace(string(b)) }
