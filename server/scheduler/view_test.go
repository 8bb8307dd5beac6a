package scheduler

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

func TestWhatIsOccupiedOutlivesItsNode(t *testing.T) {
	v := NewView()
	u := Usage{CPU: 100, MemoryMB: 200, DiskMB: 300, Ports: []uint16{80, 20001}}
	whole := Usage{CPU: 4000, MemoryMB: 8192, DiskMB: 100 << 10}
	left := Usage{CPU: 3900, MemoryMB: 7992, DiskMB: 100<<10 - 300}

	v.Occupy(7, u) // before its node is known
	v.PutNode(newNode(7))
	if diff := cmp.Diff(left, v.Free(7)); diff != "" {
		t.Errorf("free after the node is put (-want +got):\n%s", diff)
	}
	v.RemoveNode(7)
	if v.Node(7) != nil || v.Len() != 0 {
		t.Errorf("removed node is %v, %d nodes", v.Node(7), v.Len())
	}
	v.PutNode(newNode(7))
	if diff := cmp.Diff(left, v.Free(7)); diff != "" {
		t.Errorf("free after it comes back (-want +got):\n%s", diff)
	}
	if free := v.ports[v.slots[7]].free; free != api.MaxDynamicPort-api.MinDynamicPort {
		t.Errorf("%d dynamic ports are free, want all but one", free)
	}
	v.Release(7, u)
	if diff := cmp.Diff(whole, v.Free(7)); diff != "" {
		t.Errorf("free after the release (-want +got):\n%s", diff)
	}
}

func TestSlotsAndClassesOfGoneNodesAreUsedAgain(t *testing.T) {
	v := NewView()
	u := Usage{CPU: 1, Ports: []uint16{80}}
	for i := range uint32(1000) {
		v.PutNode(newNode(i, func(n *api.Node) { n.NodeClass = string(rune('a' + i%26)) }))
		v.Occupy(i, u)
		v.Occupy(i, u)
		v.RemoveNode(i)
		v.Release(i, u)
		if _, kept := v.slots[i]; !kept {
			t.Fatal("the slot of a node that still holds something is gone")
		}
		v.Release(i, u)
	}
	v.PutNode(newNode(4000)) // of which nothing is held
	v.RemoveNode(4000)
	if len(v.slots) != 0 || len(v.ordinals) != 1 || len(v.classes.names) != 1 || len(v.classes.index) != 0 {
		t.Errorf("%d slots (%d in use) and %d classes (%d in use) after nodes came and went, want 1 (0) and 1 (0)",
			len(v.ordinals), len(v.slots), len(v.classes.names), len(v.classes.index))
	}
	v.PutNode(newNode(5000))
	if got := v.Free(5000).CPU; got != 4000 {
		t.Errorf("a new node in a used slot has %d MHz free, want 4000", got)
	}
	if !v.ports[v.slots[5000]].open(80) {
		t.Error("a new node in a used slot has a port taken")
	}
}

func TestANodeChangesItsClass(t *testing.T) {
	v := NewView()
	v.PutNode(newNode(1))
	v.PutNode(newNode(2))
	v.PutNode(newNode(1, func(n *api.Node) { n.NodeClass = "big" }))
	if a, b := v.class[v.slots[1]], v.class[v.slots[2]]; a == b {
		t.Error("two nodes that differ have one class")
	}
	v.PutNode(newNode(1))
	if a, b := v.class[v.slots[1]], v.class[v.slots[2]]; a != b || len(v.classes.index) != 1 {
		t.Errorf("two nodes alike have classes %d and %d of %d", a, b, len(v.classes.index))
	}
}
