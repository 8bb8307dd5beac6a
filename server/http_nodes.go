package server

import (
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

var nodeRoutes = []route{
	{path: "/v1/nodes", get: reads(query{keys: tableKeys(state.Nodes), find: listNodes})},
	{path: "/v1/node/{id}", get: reads(query{keys: nodeKeys, find: readNode})},
	{path: "/v1/node/{id}/allocations", get: reads(query{keys: nodeAllocKeys, find: listNodeAllocs})},
}

func nodeKeys(q *read) []state.Key { return []state.Key{state.NodeKey(q.PathValue("id"))} }

func nodeAllocKeys(q *read) []state.Key {
	return []state.Key{state.TableKey(state.Allocs), state.NodeKey(q.PathValue("id"))}
}

func findNode(snap *state.Snapshot, q *read) (*api.Node, error) {
	if n := snap.Node(q.PathValue("id")); n != nil {
		return n, nil
	}
	return nil, api.E(api.ErrNotFound, "node not found")
}

func listNodes(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	v := q.URL.Query()
	withResources, withOS := flag(v, "resources"), flag(v, "os")
	rows, next, err := list(q, listing[*api.Node, *api.NodeListStub]{
		objects: snap.Nodes(q.prefix),
		key:     func(n *api.Node) string { return n.ID },
		full:    func(n *api.Node) any { return n },
		row:     func(n *api.Node) *api.NodeListStub { return nodeStub(n, withResources, withOS) },
	})
	return answer{rows, snap.TableIndex(state.Nodes), next}, err
}

// nodeStub is the row of a node in lists.
func nodeStub(n *api.Node, withResources, withOS bool) *api.NodeListStub {
	s := &api.NodeListStub{
		Address: n.Attributes["unique.network.ip-address"], ID: n.ID, Datacenter: n.Datacenter, Name: n.Name, NodePool: n.NodePool,
		NodeClass: n.NodeClass, Version: n.Version, Drain: n.Drain, SchedulingEligibility: n.SchedulingEligibility, Status: n.Status,
		StatusDescription: n.StatusDescription, Drivers: n.Drivers, CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex,
	}
	if withResources {
		s.NodeResources, s.ReservedResources = &n.NodeResources, &n.ReservedResources
	}
	if withOS {
		s.Attributes = map[string]string{}
		for _, k := range []string{"os.name", "os.version"} {
			if v, ok := n.Attributes[k]; ok {
				s.Attributes[k] = v
			}
		}
	}
	return s
}

// readNode serves a node with the address of this hub: agents serve no HTTP, every hub reaches every node.
func readNode(h *Hub, snap *state.Snapshot, q *read) (answer, error) {
	n, err := findNode(snap, q)
	if err != nil {
		return answer{}, err
	}
	own := *n
	own.HTTPAddr, own.TLSEnabled = h.public.HTTP, !h.cfg.Dev
	return answer{body: &own, index: n.ModifyIndex}, nil
}

func listNodeAllocs(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
	n, err := findNode(snap, q)
	if err != nil {
		return answer{}, err
	}
	allocs := []*api.Allocation{}
	index := n.ModifyIndex
	for r := range snap.RowsOfNode(n.Ordinal, 0) {
		allocs = append(allocs, snap.Allocation(r))
		index = max(index, r.ModifyIndex())
	}
	return answer{body: allocs, index: index}, nil
}
