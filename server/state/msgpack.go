package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tinylib/msgp/msgp"
)

// maxDepth is how deep values may nest: far more than a task's configuration does, far less than the stack holds.
const maxDepth = 64

var errDepth = errors.New("values nest too deep")

// checkSizes makes sure that every array and map of one encoded value is really there before anything is allocated for it.
func checkSizes(b []byte) error {
	rest, err := walk(b, 0, nil)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(rest))
	}
	return err
}

// sortMaps appends one encoded value to dst with the keys of every map in order.
func sortMaps(dst, b []byte) ([]byte, error) {
	rest, err := walk(b, 0, &dst)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(rest))
	}
	return dst, err
}

// walk passes over the first value of b, appending its sorted form to out unless that is nil.
func walk(b []byte, depth int, out *[]byte) (rest []byte, err error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	switch msgp.NextType(b) {
	case msgp.MapType:
		return walkMap(b, depth, out)
	case msgp.ArrayType:
		n, rest, err := msgp.ReadArrayHeaderBytes(b)
		if err != nil {
			return nil, err
		}
		if out != nil {
			*out = append(*out, b[:len(b)-len(rest)]...)
		}
		for range n {
			if rest, err = walk(rest, depth+1, out); err != nil {
				return nil, err
			}
		}
		return rest, nil
	}
	rest, err = msgp.Skip(b)
	if err == nil && out != nil {
		*out = append(*out, b[:len(b)-len(rest)]...)
	}
	return rest, err
}

func walkMap(b []byte, depth int, out *[]byte) (rest []byte, err error) {
	n, rest, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	if out != nil {
		*out = append(*out, b[:len(b)-len(rest)]...)
	}
	var pairs []pair
	for range n {
		at := rest
		if _, rest, err = msgp.ReadStringZC(at); err != nil {
			return nil, err
		}
		if out == nil {
			if rest, err = walk(rest, depth+1, nil); err != nil {
				return nil, err
			}
			continue
		}
		p := pair{key: at[:len(at)-len(rest)], from: len(*out)}
		*out = append(*out, p.key...)
		if rest, err = walk(rest, depth+1, out); err != nil {
			return nil, err
		}
		p.to = len(*out)
		pairs = append(pairs, p)
	}
	if out != nil {
		sortPairs(*out, pairs)
	}
	return rest, nil
}

// pair is where a map's key and value are in the output.
type pair struct {
	key      []byte
	from, to int
}

// sortPairs puts the pairs that end the output in the order of their keys.
func sortPairs(out []byte, pairs []pair) {
	order := func(a, b pair) int { return bytes.Compare(a.key, b.key) }
	if len(pairs) == 0 || slices.IsSortedFunc(pairs, order) {
		return
	}
	first := pairs[0].from
	was := bytes.Clone(out[first:])
	slices.SortStableFunc(pairs, order)
	at := first
	for _, p := range pairs {
		at += copy(out[at:], was[p.from-first:p.to-first])
	}
}
