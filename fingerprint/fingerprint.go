//go:build linux

package fingerprint

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/brumehq/brume/api"
)

// Config says where to look.
type Config struct {
	Root      string     // of the files looked at: proc, sys and etc below it; "" is "/"
	DataDir   string     // the agent's: its disk is what tasks get; "" is "/"
	Address   netip.Addr // of this machine that tasks' ports are bound to; zero: chosen by Interface
	Interface string     // network interface that tasks' ports are bound to; "" is that of the default route
	Log       *slog.Logger
}

// Facts are what a machine says of itself. The Topology shares nothing with the Resources.
type Facts struct {
	Attributes map[string]string
	Resources  api.NodeResources
	Topology   Topology
	Links      map[string]string // ids of this machine in other systems; none yet
}

// fingerprinter adds what it finds to the facts.
type fingerprinter struct {
	name string
	run  func(ctx context.Context, m *machine, f *Facts) error
}

// Detect looks at this machine. A fingerprinter that finds nothing is logged, and its facts are missing; the error is
// api.ErrNotFound if cfg.Address or cfg.Interface is not of this machine, or ctx's.
func Detect(ctx context.Context, cfg Config) (*Facts, error) {
	return detect(ctx, thisMachine(cfg))
}

func detect(ctx context.Context, m *machine) (*Facts, error) {
	f := &Facts{
		Attributes: map[string]string{
			api.AttrCompatVersion:    api.CompatVersion,
			api.AttrServiceDiscovery: "true",
		},
		Resources: api.NodeResources{MinDynamicPort: api.MinDynamicPort, MaxDynamicPort: api.MaxDynamicPort},
		Links:     map[string]string{},
	}
	for _, p := range []fingerprinter{
		{"host", host}, {"cpu", processors}, {"memory", memory}, {"storage", storage},
		{"cgroup", controlGroups}, {"signal", signals}, {"network", network},
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.run(ctx, m, f); err != nil {
			if p.name == "network" && (m.Interface != "" || m.Address.IsValid()) {
				return nil, fmt.Errorf("fingerprint: %w", err)
			}
			m.Log.Warn("not found out about this machine", "fingerprint", p.name, "err", err)
		}
	}
	return f, nil
}
