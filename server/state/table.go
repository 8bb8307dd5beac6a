package state

import (
	"iter"

	"github.com/tidwall/btree"
)

// item is an entry of an index. hint orders items as far as it can, so that most comparisons touch no row.
type item[R any] struct {
	hint uint64
	row  *R
}

// order is the key of an index: hint first, then less. hint must never contradict less; a nil hint is always 0.
type order[R any] struct {
	hint func(*R) uint64
	less func(a, b *R) bool
}

func (o order[R]) item(r *R) item[R] {
	if o.hint == nil {
		return item[R]{row: r}
	}
	return item[R]{o.hint(r), r}
}

func (o order[R]) itemLess(a, b item[R]) bool {
	if a.hint != b.hint {
		return a.hint < b.hint
	}
	return o.less(a.row, b.row)
}

func (o order[R]) tree() *btree.BTreeG[item[R]] {
	return btree.NewBTreeGOptions(o.itemLess, btree.Options{NoLocks: true})
}

// table holds the rows of one kind under several keys, the first of which is the primary one. Every key names one row. A
// row that is in a table is never changed; put replaces it.
type table[R any] struct {
	orders  []order[R]
	trees   []*btree.BTreeG[item[R]]
	at      uint64 // index of the last entry that changed the table
	changed bool   // since the last freeze
}

func newTable[R any](orders ...order[R]) *table[R] {
	t := &table[R]{orders: orders, trees: make([]*btree.BTreeG[item[R]], len(orders))}
	for i, o := range orders {
		t.trees[i] = o.tree()
	}
	return t
}

// freeze returns an immutable copy in constant time. Only the writer calls it.
func (t *table[R]) freeze() *table[R] {
	t.changed = false
	c := &table[R]{orders: t.orders, trees: make([]*btree.BTreeG[item[R]], len(t.trees)), at: t.at}
	for i, tree := range t.trees {
		c.trees[i] = tree.Copy()
	}
	return c
}

func (t *table[R]) len() int { return t.trees[0].Len() }

// get returns the row with the primary key of pivot, or nil.
func (t *table[R]) get(pivot *R) *R { return t.getBy(0, pivot) }

func (t *table[R]) getBy(n int, pivot *R) *R {
	it, _ := t.trees[n].Get(t.orders[n].item(pivot))
	return it.row
}

// put adds a row in place of the one with the same primary key, which it returns.
func (t *table[R]) put(index uint64, row *R) (old *R) {
	prev, _ := t.trees[0].Set(t.orders[0].item(row))
	t.follow(index, prev.row, row)
	return prev.row
}

// add adds a row unless there is one with the same primary key.
func (t *table[R]) add(index uint64, row *R) bool {
	if prev, taken := t.trees[0].Set(t.orders[0].item(row)); taken {
		t.trees[0].Set(prev)
		return false
	}
	t.follow(index, nil, row)
	return true
}

// follow makes the secondary keys agree with the primary one, which had old (or nil) and has row now.
func (t *table[R]) follow(index uint64, old, row *R) {
	for n := 1; n < len(t.trees); n++ {
		it := t.orders[n].item(row)
		if old != nil {
			if was := t.orders[n].item(old); t.orders[n].itemLess(was, it) || t.orders[n].itemLess(it, was) {
				t.trees[n].Delete(was)
			}
		}
		t.trees[n].Set(it)
	}
	t.at, t.changed = index, true
}

// remove deletes the row with the primary key of pivot and returns it, or nil.
func (t *table[R]) remove(index uint64, pivot *R) (old *R) {
	prev, ok := t.trees[0].Delete(t.orders[0].item(pivot))
	if !ok {
		return nil
	}
	for n := 1; n < len(t.trees); n++ {
		t.trees[n].Delete(t.orders[n].item(prev.row))
	}
	t.at, t.changed = index, true
	return prev.row
}

// from yields the rows in the order of key n, beginning with the first that is not below pivot; a nil pivot begins at the
// start. The table must not change meanwhile.
func (t *table[R]) from(n int, pivot *R) iter.Seq[*R] {
	return func(yield func(*R) bool) {
		each := func(it item[R]) bool { return yield(it.row) }
		if pivot == nil {
			t.trees[n].Scan(each)
		} else {
			t.trees[n].Ascend(t.orders[n].item(pivot), each)
		}
	}
}

// prefixHint is the first eight bytes of a text key, as a hint.
func prefixHint(s string) uint64 {
	var h uint64
	for i := range 8 {
		h <<= 8
		if i < len(s) {
			h |= uint64(s[i])
		}
	}
	return h
}
