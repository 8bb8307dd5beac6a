package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/brumehq/brume/agent"
)

// fileConfig is a configuration file: attributes have the names of the flags, in snake case. A flag that is given wins.
type fileConfig struct {
	Name       string            `hcl:"name,optional"`
	DataDir    string            `hcl:"data_dir,optional"`
	HTTP       string            `hcl:"http,optional"`
	RPC        string            `hcl:"rpc,optional"`
	Gossip     string            `hcl:"gossip,optional"`
	Join       []string          `hcl:"join,optional"`
	LogLevel   string            `hcl:"log_level,optional"`
	Datacenter string            `hcl:"datacenter,optional"`
	NodePool   string            `hcl:"node_pool,optional"`
	NodeClass  string            `hcl:"node_class,optional"`
	Meta       map[string]string `hcl:"meta,optional"`
	Leaf       bool              `hcl:"leaf,optional"`
	PluginDir  string            `hcl:"plugin_dir,optional"`
	Plugins    []pluginBlock     `hcl:"plugin,block"`
}

// pluginBlock configures the plugin with that file name, or the built-in driver with that name.
type pluginBlock struct {
	Name   string       `hcl:",label"`
	Args   []string     `hcl:"args,optional"`
	SHA256 string       `hcl:"sha256,optional"`
	Config *configBlock `hcl:"config,block"`
}

type configBlock struct {
	Body hcl.Body `hcl:",remain"`
}

// loadConfig reads the configuration file at path, or the usual one for verb ("hub", "agent") if path is empty and the
// file exists.
func loadConfig(path, verb string) (fileConfig, error) {
	var cfg fileConfig
	optional := path == ""
	if optional {
		if path = filepath.Join(configDir(), verb+".hcl"); verb == "" {
			return cfg, nil
		}
	}
	src, err := os.ReadFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	file, diags := hclparse.NewParser().ParseHCL(src, path)
	if !diags.HasErrors() {
		diags = append(diags, gohcl.DecodeBody(file.Body, nil, &cfg)...)
	}
	if diags.HasErrors() {
		return cfg, fmt.Errorf("configuration: %w", errors.Join(diags.Errs()...))
	}
	return cfg, nil
}

// plugins turns the plugin blocks into the agent's configuration of them.
func (f *fileConfig) plugins() (map[string]agent.PluginConfig, error) {
	out := make(map[string]agent.PluginConfig, len(f.Plugins))
	for _, p := range f.Plugins {
		if _, twice := out[p.Name]; twice {
			return nil, fmt.Errorf("configuration: plugin %q has two blocks", p.Name)
		}
		cfg := agent.PluginConfig{Args: p.Args, SHA256: p.SHA256}
		if p.Config != nil {
			values, err := opaque(p.Config.Body)
			if err != nil {
				return nil, fmt.Errorf("configuration: plugin %q: %w", p.Name, err)
			}
			cfg.Config = values
		}
		out[p.Name] = cfg
	}
	return out, nil
}

// opaque turns a plugin's config block into a map, which the plugin's own schema checks later. A nested block is a map,
// and a list of maps where it is repeated.
func opaque(body hcl.Body) (map[string]any, error) {
	syntax, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil, errors.New("config: want HCL")
	}
	out := make(map[string]any, len(syntax.Attributes)+len(syntax.Blocks))
	for name, attr := range syntax.Attributes {
		v, diags := attr.Expr.Value(nil)
		if diags.HasErrors() {
			return nil, errors.Join(diags.Errs()...)
		}
		raw, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = value
	}
	for _, b := range syntax.Blocks {
		inner, err := opaque(b.Body)
		if err != nil {
			return nil, err
		}
		switch before := out[b.Type].(type) {
		case nil:
			out[b.Type] = inner
		case []any:
			out[b.Type] = append(before, inner)
		default:
			out[b.Type] = []any{before, inner}
		}
	}
	return out, nil
}

// logger writes to the error stream from level on: debug, info, warn or error.
func (c *cli) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if level == "" {
		level = "info"
	}
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: l})), nil
}

// dataDir is where a verb keeps its state when nothing is said: below /var/lib/brume for root, else the user's own place.
func dataDir(verb string) (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/brume", verb), nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "brume", verb), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("data directory: %w; name one with --data-dir", err)
	}
	return filepath.Join(home, ".local", "share", "brume", verb), nil
}

func configDir() string {
	if os.Geteuid() == 0 {
		return "/etc/brume"
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "brume")
}

// merge returns the first that is not the zero value.
func merge[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}
