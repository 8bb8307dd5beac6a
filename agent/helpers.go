package agent

import (
	"context"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/plugins"
)

// startHelpers starts the log process and makes the keeper ready to be started.
func (a *agent) startHelpers(l *lifetime) *keeperProcess {
	if a.cfg.Drivers != nil {
		return nil
	}
	a.logs = newLogPipes(a.cfg, a.dirs)
	l.run(func(ctx context.Context) { a.logs.run(ctx, a.ending) })
	for _, b := range builtins() {
		if b.keeper && b.on(a.cfg) {
			k := newKeeper(a.cfg, a.dirs)
			l.run(func(ctx context.Context) { k.run(ctx, a.ending) })
			return k
		}
	}
	return nil
}

// startDrivers starts the node's driver plugins. The channel is closed once each has said how it is, or has had its time.
func (a *agent) startDrivers(l *lifetime, facts *fingerprint.Facts, k *keeperProcess) (<-chan struct{}, error) {
	launcher := &launcher{
		log: a.cfg.Log, db: a.db, sockets: a.dirs.sockets, stop: a.ending,
		host: plugins.HostConfig{MinPort: api.MinDynamicPort, MaxPort: api.MaxDynamicPort, Topology: topology(facts.Topology)},
	}
	specs, err := launcher.specs(a.cfg, a.dirs, k)
	if err != nil {
		return nil, err
	}
	for _, b := range builtins() {
		if !b.on(a.cfg) && b.off != "" && a.cfg.Drivers == nil {
			a.node.setDriver(b.name, &api.DriverStatus{HealthDescription: b.off, UpdateTime: time.Now()})
		}
	}
	a.drivers = newDriverSet(a.cfg.Log, a.node, specs)
	known := make(chan struct{})
	l.run(func(ctx context.Context) { a.drivers.run(ctx, func() { close(known) }) })
	return known, nil
}

// topology is the machine's processors as plugins are told of them.
func topology(t fingerprint.Topology) plugins.Topology {
	var out plugins.Topology
	for _, id := range t.NUMANodes {
		out.NodeIDs = append(out.NodeIDs, uint32(id))
		row := make([]uint32, 0, len(t.NUMANodes))
		for _, other := range t.NUMANodes {
			row = append(row, distance(id, other))
		}
		out.Distances = append(out.Distances, row)
	}
	for _, c := range t.Cores {
		out.Cores = append(out.Cores, plugins.Core{
			ID: uint32(c.ID), SocketID: uint32(c.Socket), NodeID: uint32(c.NUMANode), Efficiency: c.Grade == fingerprint.Efficiency,
			Disabled: !c.Usable, BaseMHz: c.BaseMHz, MaxMHz: c.MaxMHz,
		})
	}
	return out
}

// distance between NUMA nodes, as firmware gives it where it measured nothing: 10 to itself, 20 to any other.
func distance(a, b int) uint32 {
	if a == b {
		return 10
	}
	return 20
}
