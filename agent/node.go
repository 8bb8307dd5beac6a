package agent

import (
	"maps"
	"reflect"
	"sync"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
)

// nodeRecord is this machine as the hubs are told of it. It is safe for use by many goroutines; a Node that it returned
// never changes.
type nodeRecord struct {
	mu      sync.Mutex
	node    *api.Node
	changed chan struct{} // closed at the next change
}

// describeNode makes the record of a node from its configuration and what was found on the machine.
func describeNode(cfg Config, id string, f *fingerprint.Facts) *nodeRecord {
	n := &api.Node{
		ID: id, Name: cfg.Name, Datacenter: cfg.Datacenter, NodePool: cfg.NodePool, NodeClass: cfg.NodeClass,
		Attributes: maps.Clone(f.Attributes), Meta: maps.Clone(cfg.Meta), Drivers: map[string]*api.DriverStatus{},
		NodeResources: f.Resources, Links: maps.Clone(f.Links), Version: cfg.Version,
	}
	if n.Attributes == nil {
		n.Attributes = map[string]string{}
	}
	return &nodeRecord{node: n, changed: make(chan struct{})}
}

// current returns the node as it is now.
func (r *nodeRecord) current() *api.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node
}

// watch returns a channel that is closed at the next change: ask for it before reading the node.
func (r *nodeRecord) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// setDriver records what is known of a driver, and its attributes among the node's.
func (r *nodeRecord) setDriver(name string, s *api.DriverStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.node.Drivers[name]
	if old != nil && old.Detected == s.Detected && old.Healthy == s.Healthy &&
		old.HealthDescription == s.HealthDescription && reflect.DeepEqual(old.Attributes, s.Attributes) {
		return
	}
	n := *r.node
	n.Drivers = maps.Clone(n.Drivers)
	n.Drivers[name] = s
	n.Attributes = maps.Clone(n.Attributes)
	if old != nil {
		for k := range old.Attributes {
			delete(n.Attributes, k)
		}
	}
	if s.Detected {
		maps.Copy(n.Attributes, s.Attributes)
	}
	r.node = &n
	close(r.changed)
	r.changed = make(chan struct{})
}
