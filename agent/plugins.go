package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/plugins"
)

// pluginStop bounds the end of a plugin's process.
const pluginStop = 3 * time.Second

// builtin is a driver that is part of the brume program, run as "brume plugin NAME".
type builtin struct {
	name   string
	inDev  bool   // on in dev without a block in the configuration
	off    string // what the node says while it is off; "" says nothing
	keeper bool   // has the keeper start its processes
}

func builtins() []builtin {
	return []builtin{
		{name: "raw_exec", inDev: true, keeper: true,
			off: `not enabled: it runs commands as the agent's user without limits; add plugin "raw_exec" {} to the agent's configuration`},
		{name: "fake"},
	}
}

// on reports whether the driver is to run.
func (b builtin) on(cfg Config) bool {
	_, configured := cfg.Plugins[b.name]
	return cfg.Drivers == nil && (configured || b.inDev && cfg.Dev)
}

// launcher starts plugins as processes and finds those that earlier agents started.
type launcher struct {
	log     *slog.Logger
	db      pluginDB
	host    plugins.HostConfig
	sockets string
	stop    func() bool // asked when the agent goes: end the processes, otherwise they go on
}

// pluginDB remembers how to reach plugins that outlive the agent.
type pluginDB interface {
	Plugin(name string, reattach any) (bool, error)
	PutPlugin(name string, reattach any) error
}

// program is the program of a plugin, and how it is configured.
type program struct {
	file   string // its name, or that of the built-in driver
	path   string
	args   []string
	env    []string
	sha256 string // "" accepts any
	config map[string]any
	before func(context.Context) error // waited for first; nil for nothing
}

// specs lists the plugins to run: the files in the plugin directory that the configuration names (all, in dev) and the
// built-in drivers that are on.
func (l *launcher) specs(cfg Config, d dirs, k *keeperProcess) ([]pluginSpec, error) {
	if cfg.Drivers != nil {
		return inProcess(cfg.Drivers), nil
	}
	programs, err := findPrograms(cfg)
	if err != nil {
		return nil, err
	}
	env := pluginEnv(os.Environ())
	for _, b := range builtins() {
		if !b.on(cfg) {
			continue
		}
		block := cfg.Plugins[b.name]
		p := program{file: b.name, path: cfg.Exe, args: append([]string{"plugin", b.name}, block.Args...), config: block.Config}
		if b.keeper {
			p.env, p.before = []string{keeperVariable + "=" + d.keeperSocket()}, k.await
		}
		programs = append(programs, p)
	}
	if err := l.endStrays(programs); err != nil {
		l.log.Warn("end plugins that an earlier agent left unknown", "err", err)
	}
	specs := make([]pluginSpec, len(programs))
	for i, p := range programs {
		p.env = append(slices.Clone(env), p.env...)
		specs[i] = pluginSpec{p.file, func(ctx context.Context) (*plugin, error) { return l.begin(ctx, p) }}
	}
	return specs, nil
}

// endStrays ends the plugins that earlier agents started and this one will not take over: those of programs that are no
// longer run, and those whose agent was killed before it had them on record.
func (l *launcher) endStrays(programs []program) error {
	var known []plugins.Reattach
	for _, p := range programs {
		var at plugins.Reattach
		if ok, err := l.db.Plugin(p.file, &at); err != nil {
			return err
		} else if ok {
			known = append(known, at)
		}
	}
	return plugins.EndStrays(l.sockets, known)
}

// inProcess makes plugins of drivers in this process.
func inProcess(drivers map[string]plugins.Client) []pluginSpec {
	var specs []pluginSpec
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		p := &plugin{name: name, client: drivers[name], release: func(context.Context) {}}
		specs = append(specs, pluginSpec{name, func(context.Context) (*plugin, error) { return p, nil }})
	}
	return specs
}

// begin finds the plugin running or starts it, and configures it.
func (l *launcher) begin(ctx context.Context, p program) (*plugin, error) {
	if p.before != nil {
		if err := p.before(ctx); err != nil {
			return nil, err
		}
	}
	instance, err := l.launch(ctx, p)
	if err != nil {
		return nil, err
	}
	release := func(ctx context.Context) { l.release(ctx, p, instance) }
	err = instance.Configure(ctx, p.config, l.host)
	if err == nil {
		err = l.db.PutPlugin(p.file, instance.Reattach())
	}
	if err != nil {
		release(context.WithoutCancel(ctx))
		return nil, err
	}
	return &plugin{name: instance.Info().Name, client: instance.Driver(), gone: instance.Done(), release: release}, nil
}

// launch finds the process that an earlier agent started, or starts one.
func (l *launcher) launch(ctx context.Context, p program) (*plugins.Instance, error) {
	cfg := plugins.LaunchConfig{Name: p.file, Path: p.path, Args: p.args, Env: p.env, SocketDir: l.sockets, Log: l.log}
	var record plugins.Reattach
	known, err := l.db.Plugin(p.file, &record)
	if err != nil {
		return nil, err
	}
	if known {
		again := cfg
		again.Reattach = &record
		instance, err := plugins.Launch(ctx, again)
		if err == nil {
			return instance, nil
		}
		l.log.Debug("plugin of the last agent is gone", "plugin", p.file, "err", err)
	}
	if err := checkFile(p.path, p.sha256); err != nil {
		return nil, err
	}
	return plugins.Launch(ctx, cfg)
}

// release leaves the plugin's process to the next agent if this one is going, or ends it.
func (l *launcher) release(ctx context.Context, p program, instance *plugins.Instance) {
	if ctx.Err() != nil && !l.stop() {
		instance.Detach()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pluginStop)
	defer cancel()
	instance.Kill(ctx)
	if err := l.db.PutPlugin(p.file, nil); err != nil {
		l.log.Warn("forget plugin", "plugin", p.file, "err", err)
	}
}

// findPrograms lists the files in the plugin directory that are to be run.
func findPrograms(cfg Config) ([]program, error) {
	files, err := readPluginDir(cfg.PluginDir)
	if err != nil {
		return nil, err
	}
	var programs []program
	for _, file := range files {
		block, configured := cfg.Plugins[file]
		if !configured && !cfg.Dev {
			cfg.Log.Warn("plugin has no block in the configuration and is not run", "plugin", file)
			continue
		}
		programs = append(programs, program{file: file, path: filepath.Join(cfg.PluginDir, file), args: block.Args, sha256: block.SHA256, config: block.Config})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Plugins)) {
		if !slices.Contains(files, name) && !slices.ContainsFunc(builtins(), func(b builtin) bool { return b.name == name }) {
			return nil, api.E(api.ErrInvalid, fmt.Sprintf("plugin %q: neither a built-in driver nor a program in %q", name, cfg.PluginDir))
		}
	}
	return programs, nil
}

// readPluginDir lists the programs directly in a directory.
func readPluginDir(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	var files []string
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

// checkFile compares a file with its pinned digest; no digest accepts any.
func checkFile(path, pinned string) error {
	if pinned == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if have := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(have, pinned) {
		return fmt.Errorf("%s: SHA-256 is %s, the configuration wants %s", path, have, pinned)
	}
	return nil
}
