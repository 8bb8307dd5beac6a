package scheduler

import "github.com/brumehq/brume/api"

// View is the nodes as they will be when all plans made so far are committed: what each has, and what is taken of it. It
// has one owner; it is not safe for concurrent use.
//
// Whoever owns it keeps these rules: every allocation that is not terminal on its node is occupied exactly once (Schedule
// occupies what it places; after a rebuild the owner occupies what the snapshot holds), and is released exactly once,
// when it becomes terminal or its placement is not committed.
type View struct {
	nodes map[uint32]*api.Node
}

// NewView returns a view without nodes.
func NewView() *View { return &View{} }

// PutNode adds a node or replaces what is known of it; n.Ordinal names it and n must not change afterwards. What is
// occupied on it stays.
func (v *View) PutNode(n *api.Node) {}

// RemoveNode forgets a node. What is occupied on it is kept until released, in case the node comes back.
func (v *View) RemoveNode(ordinal uint32) {}

// Node returns what was put, or nil.
func (v *View) Node(ordinal uint32) *api.Node { return v.nodes[ordinal] }

// Occupy takes u on a node. A node that is not known is remembered by its ordinal.
func (v *View) Occupy(ordinal uint32, u Usage) {}

// Release gives u back.
func (v *View) Release(ordinal uint32, u Usage) {}

// Schedule decides what req changes and, unless it is a dry run, occupies v with the placements.
func Schedule(v *View, req Request) *Plan { return &Plan{} }
