package scheduler

import (
	"github.com/brumehq/brume/api"
)

// View is the nodes as they will be when all plans made so far are committed: what each has, and what is taken of it. It
// has one owner; it is not safe for concurrent use.
//
// Whoever owns it keeps these rules: every allocation that is not terminal on its node is occupied exactly once (Schedule
// occupies what it places; after a rebuild the owner occupies what the snapshot holds), and is released exactly once,
// when it becomes terminal or its placement is not committed.
type View struct {
	slots map[uint32]int32 // ordinal -> index into the arrays below
	spare []int32          // indexes that are free

	// Flat arrays, one element per slot.
	ordinals []uint32
	nodes    []*api.Node // nil: the slot is free, or only remembers what is occupied on a node that is gone
	total    []amounts
	used     []amounts
	ports    []nodePorts
	holders  []int32 // allocations that occupy it
	class    []int32

	classes classTable
	known   int // nodes that are not nil

	scratch scratch
}

// amounts are the countable resources: CPU in MHz, memory and disk in MiB.
type amounts struct{ cpu, memory, disk int64 }

func (a amounts) plus(b amounts) amounts {
	return amounts{a.cpu + b.cpu, a.memory + b.memory, a.disk + b.disk}
}

func (a amounts) minus(b amounts) amounts {
	return amounts{a.cpu - b.cpu, a.memory - b.memory, a.disk - b.disk}
}

func (u Usage) amounts() amounts { return amounts{u.CPU, u.MemoryMB, u.DiskMB} }

// NewView returns a view without nodes.
func NewView() *View {
	return &View{slots: map[uint32]int32{}, classes: classTable{index: map[string]int32{}}}
}

// Len is the number of nodes.
func (v *View) Len() int { return v.known }

// PutNode adds a node or replaces what is known of it; n.Ordinal names it and n must not change afterwards. What is
// occupied on it stays.
func (v *View) PutNode(n *api.Node) {
	i := v.slot(n.Ordinal)
	if v.nodes[i] == nil {
		v.known++
	} else {
		v.classes.drop(v.class[i])
	}
	v.nodes[i] = n
	class := n.ComputedClass
	if class == "" {
		class = n.Class()
	}
	v.class[i] = v.classes.take(class)
	res, kept := &n.NodeResources, &n.ReservedResources
	v.total[i] = amounts{
		cpu:    res.Cpu.CpuShares - int64(kept.Cpu.CpuShares),
		memory: res.Memory.MemoryMB - kept.Memory.MemoryMB,
		disk:   res.Disk.DiskMB - kept.Disk.DiskMB,
	}
	v.ports[i].configure(n)
}

// RemoveNode forgets a node. What is occupied on it is kept until released, in case the node comes back.
func (v *View) RemoveNode(ordinal uint32) {
	i, ok := v.slots[ordinal]
	if !ok || v.nodes[i] == nil {
		return
	}
	v.nodes[i] = nil
	v.known--
	v.classes.drop(v.class[i])
	v.total[i] = amounts{}
	v.recycle(i)
}

// Node returns what was put, or nil.
func (v *View) Node(ordinal uint32) *api.Node {
	if i, ok := v.slots[ordinal]; ok {
		return v.nodes[i]
	}
	return nil
}

// Free is what is left on a node: negative where more is occupied than the node now has. Ports are not listed.
func (v *View) Free(ordinal uint32) Usage {
	i, ok := v.slots[ordinal]
	if !ok {
		return Usage{}
	}
	left := v.total[i].minus(v.used[i])
	return Usage{CPU: left.cpu, MemoryMB: left.memory, DiskMB: left.disk}
}

// Occupy takes u on a node. A node that is not known is remembered by its ordinal.
func (v *View) Occupy(ordinal uint32, u Usage) { v.occupy(v.slot(ordinal), u.amounts(), u.Ports) }

// Release gives u back.
func (v *View) Release(ordinal uint32, u Usage) {
	if i, ok := v.slots[ordinal]; ok {
		v.release(i, u.amounts(), u.Ports)
	}
}

func (v *View) occupy(i int32, a amounts, ports []uint16) {
	v.used[i] = v.used[i].plus(a)
	for _, port := range ports {
		v.ports[i].take(int(port))
	}
	v.holders[i]++
}

func (v *View) release(i int32, a amounts, ports []uint16) {
	v.used[i] = v.used[i].minus(a)
	for _, port := range ports {
		v.ports[i].give(int(port))
	}
	v.holders[i]--
	v.recycle(i)
}

// slot returns the index of an ordinal, making one if there is none.
func (v *View) slot(ordinal uint32) int32 {
	if i, ok := v.slots[ordinal]; ok {
		return i
	}
	var i int32
	if n := len(v.spare); n > 0 {
		i, v.spare = v.spare[n-1], v.spare[:n-1]
	} else {
		i = int32(len(v.ordinals))
		v.ordinals = append(v.ordinals, 0)
		v.nodes = append(v.nodes, nil)
		v.total = append(v.total, amounts{})
		v.used = append(v.used, amounts{})
		v.ports = append(v.ports, nodePorts{})
		v.holders = append(v.holders, 0)
		v.class = append(v.class, 0)
	}
	v.slots[ordinal] = i
	v.ordinals[i] = ordinal
	return i
}

// recycle frees the slot of a node that is gone and holds nothing.
func (v *View) recycle(i int32) {
	if v.nodes[i] != nil || v.holders[i] > 0 {
		return
	}
	delete(v.slots, v.ordinals[i])
	v.used[i], v.ports[i], v.holders[i] = amounts{}, nodePorts{}, 0
	v.spare = append(v.spare, i)
}

// classTable numbers the classes of the nodes in a view; numbers are used again when their last node is gone.
type classTable struct {
	index map[string]int32
	names []string
	count []int32
	spare []int32
}

func (t *classTable) take(name string) int32 {
	c, ok := t.index[name]
	if !ok {
		if n := len(t.spare); n > 0 {
			c, t.spare = t.spare[n-1], t.spare[:n-1]
		} else {
			c = int32(len(t.names))
			t.names, t.count = append(t.names, ""), append(t.count, 0)
		}
		t.index[name] = c
		t.names[c] = name
	}
	t.count[c]++
	return c
}

func (t *classTable) drop(c int32) {
	if t.count[c]--; t.count[c] == 0 {
		delete(t.index, t.names[c])
		t.names[c] = ""
		t.spare = append(t.spare, c)
	}
}
