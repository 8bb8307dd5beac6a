package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/plugins"
)

// Config says how to run an agent. DefaultConfig fills what has a default.
type Config struct {
	Name       string // of the node; "" is the one it was admitted by, at the first join the host's
	DataDir    string // must be the agent's own
	Gossip     string // host:port to gossip on, port 0 is allowed; "" is that of the last start, at first 0.0.0.0:4648
	Datacenter string
	NodePool   string
	NodeClass  string
	Meta       map[string]string
	Interface  string // network interface whose address tasks get; "" is that of the default route
	Version    string // that clients are told; api.CompatVersion by default

	// Join names hubs for the first join, as HOST or HOST:PORT of their RPC. An agent that was admitted before may name any
	// member's gossip address too, and needs none as long as a member that it remembers is alive.
	Join      []string
	JoinToken string // "id.secret.cahash": needed for the first join only, and never logged
	Leaf      bool   // stay out of gossip and live on the link alone

	Plugins   map[string]PluginConfig // by file name; built-in drivers by their own name
	PluginDir string
	Exe       string // path of the brume program, which is also keeper, log process and built-in plugins

	Dev            bool          // raw_exec is on, every file in PluginDir is run, and StopTasks is set
	StopTasks      bool          // a clean stop ends the tasks; otherwise they go on, and so do the processes that keep them
	MaxKillTimeout time.Duration // a task's kill_timeout is at most this

	Log   *slog.Logger
	Ready func(nodeID string) // called once, when the hubs first know the node
	Wires Wires

	// Drivers replaces all plugins by drivers inside this process; then neither keeper nor log process is started and
	// tasks' output is not kept. Only tests set it.
	Drivers map[string]plugins.Client
}

// PluginConfig is a plugin's block in the agent's configuration.
type PluginConfig struct {
	Args   []string
	SHA256 string // of the file, in hex; "" accepts any
	Config map[string]any
}

// Wires replaces the outside world; only tests set them, all together or none.
type Wires struct {
	Dial        link.DialFunc                                     // to hubs, for the link and for joining
	Gossip      memberlist.Transport                              // instead of the network
	Fingerprint func(context.Context) (*fingerprint.Facts, error) // instead of looking at this machine
}

// DefaultConfig returns a Config with every default set.
func DefaultConfig() Config {
	return Config{
		Datacenter:     api.DefaultDatacenter,
		NodePool:       api.DefaultNodePool,
		MaxKillTimeout: 30 * time.Second,
		Log:            slog.Default(),
	}
}

// complete returns c with what may be left empty filled in.
func (c Config) complete() Config {
	d := DefaultConfig()
	c.Datacenter = cmp.Or(c.Datacenter, d.Datacenter)
	c.NodePool = cmp.Or(c.NodePool, d.NodePool)
	c.Version = cmp.Or(c.Version, api.CompatVersion)
	c.MaxKillTimeout = cmp.Or(c.MaxKillTimeout, d.MaxKillTimeout)
	c.StopTasks = c.StopTasks || c.Dev
	if c.Log == nil {
		c.Log = d.Log
	}
	if c.Ready == nil {
		c.Ready = func(string) {}
	}
	return c
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, api.E(api.ErrInvalid, fmt.Sprintf(format, args...)))
	}
	for _, field := range []struct{ name, value string }{
		{"data directory", c.DataDir}, {"datacenter", c.Datacenter}, {"node pool", c.NodePool},
	} {
		if field.value == "" {
			bad("%s: missing", field.name)
		}
	}
	if c.DataDir != "" && !filepath.IsAbs(c.DataDir) {
		bad("data directory %s: not an absolute path", c.DataDir)
	}
	if _, _, err := net.SplitHostPort(c.Gossip); err != nil && c.Gossip != "" && !c.Leaf {
		bad("gossip address: %v", err)
	}
	for _, addr := range withPort(c.Join, rpcPort) {
		if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
			bad("join address %q: want HOST or HOST:PORT", addr)
		}
	}
	if c.Exe == "" && c.Drivers == nil {
		bad("path of the program: missing")
	}
	if c.MaxKillTimeout <= 0 {
		bad("longest kill timeout: %s is not positive", c.MaxKillTimeout)
	}
	return errors.Join(errs...)
}
