package server

import (
	"cmp"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strconv"

	"github.com/hashicorp/go-bexpr"

	"github.com/brumehq/brume/api"
)

const (
	maxPage        = 10_000
	maxFilterExprs = 1 << 14 // parsing steps of a filter, some hundred a term
)

// page is the part of a list that a client asks for.
type page struct {
	size    int    // 0: all
	token   string // the key of its first row
	reverse bool
}

func parsePage(v url.Values) (page, error) {
	p := page{token: v.Get("next_token"), reverse: v.Get("reverse") == "true"}
	if s := v.Get("per_page"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return p, api.E(api.ErrInvalid, "failed to create result paginator: per_page must be a positive number")
		}
		p.size = min(n, maxPage)
	}
	return p, nil
}

// listing turns objects into the rows of a list: filtered, ordered, one page of them.
type listing[T, R any] struct {
	objects iter.Seq[T]
	key     func(T) string // what pages begin at: unique, ascending in the order of objects
	created func(T) uint64 // not nil: pages are in this order, and reversed if asked; other lists are never reversed
	full    func(T) any    // the object that filters are about
	row     func(T) R
}

// list returns the page that q asks for and the token of the next.
func list[T, R any](q *read, l listing[T, R]) (rows []R, next string, err error) {
	match, err := filter(q.filter)
	if err != nil {
		return nil, "", err
	}
	rows = []R{} // a list is never null
	q.page.reverse = q.page.reverse && l.created != nil
	objects, key := l.ordered(q.page)
	for o := range objects {
		k := ""
		if q.page != (page{}) {
			if k = key(o); before(q.page, k) {
				continue
			}
		}
		if match != nil {
			if ok, err := match(l.full(o)); err != nil {
				return nil, "", err
			} else if !ok {
				continue
			}
		}
		if q.page.size > 0 && len(rows) == q.page.size {
			return rows, k, nil
		}
		rows = append(rows, l.row(o))
	}
	return rows, "", nil
}

// ordered returns the objects in the order that a page asks for, and what tells their places.
func (l listing[T, R]) ordered(p page) (iter.Seq[T], func(T) string) {
	if p == (page{}) {
		return l.objects, l.key
	}
	key := l.key
	all := slices.Collect(l.objects)
	if l.created != nil {
		key = func(o T) string { return fmt.Sprintf("%020d.%s", l.created(o), l.key(o)) }
		slices.SortFunc(all, func(a, b T) int {
			return cmp.Or(cmp.Compare(l.created(a), l.created(b)), cmp.Compare(l.key(a), l.key(b)))
		})
	}
	if p.reverse {
		slices.Reverse(all)
	}
	return slices.Values(all), key
}

// before reports whether a row comes before the page's first: by comparison, since that row may be gone by now.
func before(p page, key string) bool {
	switch {
	case p.token == "":
		return false
	case p.reverse:
		return key > p.token
	}
	return key < p.token
}

// filter compiles a filter over full objects, by the names of their fields; nil matches all.
func filter(expr string) (func(any) (bool, error), error) {
	if expr == "" {
		return nil, nil
	}
	eval, err := bexpr.CreateEvaluator(expr, bexpr.WithMaxExpressions(maxFilterExprs))
	if err != nil {
		return nil, badFilter(err)
	}
	return func(o any) (bool, error) {
		ok, err := eval.Evaluate(o)
		if err != nil {
			return false, badFilter(err)
		}
		return ok, nil
	}, nil
}

func badFilter(err error) error {
	return api.E(api.ErrInvalid, fmt.Sprintf("failed to create result paginator: failed to read filter expression: %v", err))
}
