package state

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/brumehq/brume/api"
)

// maxNodeEvents is how many lines of a node's history are kept.
const maxNodeEvents = 10

// Orders of the table of nodes.
const (
	nodesByID = iota
	nodesByOrdinal
)

func newNodes() *table[api.Node] {
	return newTable(
		order[api.Node]{
			hint: func(n *api.Node) uint64 { return prefixHint(n.ID) },
			less: func(a, b *api.Node) bool { return a.ID < b.ID },
		},
		order[api.Node]{
			hint: func(n *api.Node) uint64 { return uint64(n.Ordinal) },
			less: func(a, b *api.Node) bool { return false },
		},
	)
}

// nodeRef is what allocations show of their node. It outlives a deleted node as long as there are allocations of it.
type nodeRef struct {
	ordinal      uint32
	id, name, ip string
}

func newNodeRefs() *table[nodeRef] {
	return newTable(order[nodeRef]{
		hint: func(r *nodeRef) uint64 { return uint64(r.ordinal) },
		less: func(a, b *nodeRef) bool { return false },
	})
}

func refOfNode(n *api.Node) nodeRef {
	r := nodeRef{ordinal: n.Ordinal, id: n.ID, name: n.Name}
	for _, net := range n.NodeResources.Networks {
		if net != nil && net.IP != "" {
			r.ip = net.IP
			break
		}
	}
	return r
}

// PutNode registers a node, or changes what it says of itself. A known id keeps its ordinal, creation, status,
// eligibility and drain unless the node names a status; nothing moves if nothing changed. The result is a NodeResult.
type PutNode struct{ Node *api.Node }

// NodeResult answers PutNode.
type NodeResult struct {
	Ordinal     uint32
	ModifyIndex uint64
	Changed     bool
}

func (c PutNode) kind() kind { return kindPutNode }

func (c PutNode) encode(e *encoder) error {
	if err := checkNode(c.Node); err != nil {
		return err
	}
	return e.object(c.Node)
}

func checkNode(n *api.Node) error {
	if n == nil || n.ID == "" {
		return fmt.Errorf("node without id: %w", api.ErrInvalid)
	}
	return nil
}

func decodePutNode(d *decoder) Command { return PutNode{d.node()} }

func (d *decoder) node() *api.Node {
	n := new(api.Node)
	d.object(n)
	d.check(checkNode(n))
	return n
}

func (c PutNode) apply(t *txn) (any, error) {
	n := c.Node
	old := t.nodes.get(n)
	if old == nil {
		n.Ordinal, n.CreateIndex, n.Events = t.nextOrdinal, t.index, nil
		t.nextOrdinal++
		n.Drain = false
		orElse(&n.Status, api.NodeStatusInit)
		orElse(&n.SchedulingEligibility, api.NodeEligible)
		n.StatusUpdatedAt = t.seconds()
		t.nodeEvent(n, "node registered")
	} else {
		n.Ordinal, n.CreateIndex, n.ModifyIndex, n.Events = old.Ordinal, old.CreateIndex, old.ModifyIndex, old.Events
		n.Drain, n.SchedulingEligibility, n.StatusUpdatedAt = old.Drain, old.SchedulingEligibility, old.StatusUpdatedAt
		if n.Status == "" {
			n.Status, n.StatusDescription = old.Status, old.StatusDescription
		}
		if reflect.DeepEqual(old, n) {
			return NodeResult{Ordinal: n.Ordinal, ModifyIndex: n.ModifyIndex}, nil
		}
		if n.Status != old.Status {
			t.statusChanged(n)
		}
	}
	t.putNode(n)
	return NodeResult{Ordinal: n.Ordinal, ModifyIndex: t.index, Changed: true}, nil
}

func orElse(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

func (t *txn) seconds() int64 { return t.time / 1e9 }

// statusChanged notes when, and in the node's history.
func (t *txn) statusChanged(n *api.Node) {
	n.StatusUpdatedAt = t.seconds()
	message := "node is " + n.Status
	if n.StatusDescription != "" {
		message += ": " + n.StatusDescription
	}
	t.nodeEvent(n, message)
}

func (t *txn) nodeEvent(n *api.Node, message string) {
	e := api.NodeEvent{Message: message, Subsystem: "Cluster", Details: map[string]string{}, Timestamp: timeOf(t.time), CreateIndex: t.index}
	last := n.Events[max(0, len(n.Events)-maxNodeEvents+1):]
	n.Events = append(slices.Clone(last), e)
}

func (t *txn) putNode(n *api.Node) {
	n.ModifyIndex = t.index
	t.nodes.put(t.index, n)
	t.touch(TableKey(Nodes), NodeKey(n.ID))
	ref := refOfNode(n)
	if old := t.nodeRefs.get(&ref); old == nil || *old != ref {
		t.nodeRefs.put(t.index, &ref)
	}
}

// NodeStatus marks nodes ready, down or otherwise, and adds the evaluations that follow. Unknown nodes and nodes that have
// the status already are passed over; allocations are not touched. The result is the ids of the nodes that changed.
type NodeStatus struct {
	IDs         []string
	Status      string // api.NodeStatus…
	Description string
	Evals       []*api.Evaluation
}

func (c NodeStatus) kind() kind { return kindNodeStatus }

func (c NodeStatus) encode(e *encoder) error {
	e.strings(c.IDs)
	e.text(c.Status)
	e.text(c.Description)
	return e.evals(c.Evals)
}

func decodeNodeStatus(d *decoder) Command {
	return NodeStatus{IDs: d.strings(), Status: d.text(), Description: d.text(), Evals: d.evals()}
}

func (c NodeStatus) apply(t *txn) (any, error) {
	var changed []string
	for _, id := range c.IDs {
		old := t.nodes.get(&api.Node{ID: id})
		if old == nil || old.Status == c.Status {
			continue
		}
		n := *old
		n.Status, n.StatusDescription = c.Status, c.Description
		t.statusChanged(&n)
		t.putNode(&n)
		changed = append(changed, id)
	}
	t.putEvals(c.Evals)
	return changed, nil
}

// DeleteNodes forgets nodes, and adds the evaluations that follow. Their ordinals are never given again. There is no
// result.
type DeleteNodes struct {
	IDs   []string
	Evals []*api.Evaluation
}

func (c DeleteNodes) kind() kind { return kindDeleteNodes }

func (c DeleteNodes) encode(e *encoder) error {
	e.strings(c.IDs)
	return e.evals(c.Evals)
}

func decodeDeleteNodes(d *decoder) Command {
	return DeleteNodes{IDs: d.strings(), Evals: d.evals()}
}

func (c DeleteNodes) apply(t *txn) (any, error) {
	for _, id := range c.IDs {
		old := t.nodes.remove(t.index, &api.Node{ID: id})
		if old == nil {
			continue
		}
		t.touch(TableKey(Nodes), NodeKey(id))
		t.forgetNodeRef(old.Ordinal)
	}
	t.putEvals(c.Evals)
	return nil, nil
}

// forgetNodeRef forgets what is kept of a deleted node once there are no allocations of it.
func (t *txn) forgetNodeRef(ordinal uint32) {
	if t.nodeByOrdinal(ordinal) != nil {
		return
	}
	for range t.rowsOfNode(ordinal, 0) {
		return
	}
	t.nodeRefs.remove(t.index, &nodeRef{ordinal: ordinal})
}

func (s *rows) nodeByOrdinal(ordinal uint32) *api.Node {
	return s.nodes.getBy(nodesByOrdinal, &api.Node{Ordinal: ordinal})
}
