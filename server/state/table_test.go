package state

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type pairRow struct{ key, group, value int }

func newPairs() *table[pairRow] {
	return newTable(
		order[pairRow]{hint: func(r *pairRow) uint64 { return uint64(r.key / 4) }, less: func(a, b *pairRow) bool { return a.key < b.key }},
		order[pairRow]{less: func(a, b *pairRow) bool { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.key, b.key)) < 0 }},
	)
}

// TestTableIsAMap compares a table and frozen copies of it with plain maps.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tab, model := newPairs(), map[int]pairRow{}
		type frozenPair struct {
			tab   *table[pairRow]
			model map[int]pairRow
		}
		var copies []frozenPair
		for i := range rapid.IntRange(1, 200).Draw(rt, "steps") {
			row := pairRow{rapid.IntRange(0, 40).Draw(rt, "key"), rapid.IntRange(0, 3).Draw(rt, "group"), i}
			old, known := model[row.key]
			switch rapid.IntRange(0, 3).Draw(rt, "do") {
			case 0:
				if got := tab.put(uint64(i), &row); (got != nil) != known || known && *got != old {
					rt.Fatalf("put replaced %v, want %v", got, old)
				}
				model[row.key] = row
			case 1:
				if got := tab.add(uint64(i), &row); got == known {
					rt.Fatalf("add(%v) = %t with %v there", row, got, old)
				}
				if !known {
					model[row.key] = row
				}
			case 2:
				if got := tab.remove(uint64(i), &row); (got != nil) != known {
					rt.Fatalf("remove took %v, want %v", got, old)
				}
				delete(model, row.key)
			case 3:
				copies = append(copies, frozenPair{tab.freeze(), maps.Clone(model)})
			}
		}
		for _, c := range append(copies, frozenPair{tab, model}) {
			checkPairs(rt, c.tab, c.model)
		}
	})
}

func checkPairs(rt *rapid.T, tab *table[pairRow], model map[int]pairRow) {
	want := slices.SortedFunc(maps.Values(model), func(a, b pairRow) int { return cmp.Compare(a.key, b.key) })
	var got []pairRow
	for r := range tab.from(0, nil) {
		got = append(got, *r)
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("by key %v, want %v", got, want)
	}
	if tab.len() != len(want) {
		rt.Fatalf("len is %d, want %d", tab.len(), len(want))
	}
	for pivot := range 4 {
		var got, want []pairRow
		for r := range tab.from(1, &pairRow{group: pivot, key: -1}) {
			got = append(got, *r)
		}
		for _, r := range model {
			if r.group >= pivot {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b pairRow) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.key, b.key)) })
		if !slices.Equal(got, want) {
			rt.Fatalf("from group %d %v, want %v", pivot, got, want)
		}
	}
	for key := range 42 {
		r := tab.get(&pairRow{key: key})
		if want, ok := model[key]; (r != nil) != ok || ok && *r != want {
			rt.Fatalf("get(%d) = %v, want %v", key, r, want)
		}
	}
}

func TestTableLoadRefusesEqualKeys(t *testing.T) {
	rows := []*pairRow{{key: 3}, {key: 1}, {key: 3}}
	if err := newPairs().loadSorted(0, rows); err == nil {
		t.Error("two rows with one key were loaded")
	}
	tab := newPairs()
	for n := range tab.orders {
		if err := tab.loadSorted(n, rows[:2]); err != nil {
			t.Fatal(err)
		}
	}
	if got := tab.get(&pairRow{key: 3}); got != rows[0] {
		t.Errorf("get(3) = %v after loading", got)
	}
}
