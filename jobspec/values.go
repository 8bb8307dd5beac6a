package jobspec

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// assign stores a value in a field of the model. A null value leaves the field as it is: at its default.
func assign(field reflect.Value, v cty.Value) error {
	if v.IsNull() {
		return nil
	}
	switch p := field.Addr().Interface().(type) {
	case *time.Duration:
		d, err := duration(v)
		if err == nil {
			*p = d
		}
		return err
	case *string:
		s, err := text(v)
		if err == nil {
			*p = s
		}
		return err
	case *int:
		n, err := wholeNumber(v)
		if err == nil {
			*p = n
		}
		return err
	case *bool:
		b, err := convert.Convert(v, cty.Bool)
		if err != nil {
			return fmt.Errorf("want true or false, not %s", describe(v))
		}
		*p = b.True()
		return nil
	case *[]string:
		list, err := stringList(v)
		if err == nil {
			*p = list
		}
		return err
	case *map[string]string:
		return assignMap(p, v, text)
	case *map[string][]string:
		return assignMap(p, v, stringList)
	case *map[string]any:
		return assignMap(p, v, plain)
	}
	return fmt.Errorf("cannot hold %s", describe(v)) // no such field in the model
}

func assignMap[T any](m *map[string]T, v cty.Value, convertElem func(cty.Value) (T, error)) error {
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return fmt.Errorf("want a map, not %s", describe(v))
	}
	if *m == nil {
		*m = make(map[string]T, v.LengthInt())
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		elem, err := convertElem(e)
		if err != nil {
			return fmt.Errorf("%q: %w", k.AsString(), err)
		}
		(*m)[k.AsString()] = elem
	}
	return nil
}

func duration(v cty.Value) (time.Duration, error) {
	if v.Type() != cty.String {
		return 0, fmt.Errorf("want a duration with its unit, such as \"30s\" or \"1h30m\", not %s", describe(v))
	}
	d, err := time.ParseDuration(v.AsString())
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write it as \"30s\" or \"1h30m\"", v.AsString())
	}
	return d, nil
}

func text(v cty.Value) (string, error) {
	if v.IsNull() {
		return "", errors.New("want a string, not null")
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", fmt.Errorf("want a string, not %s", describe(v))
	}
	return s.AsString(), nil
}

func wholeNumber(v cty.Value) (int, error) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, not %s", describe(v))
	}
	i, accuracy := n.AsBigFloat().Int64()
	if magnitude(n) > maxWidth {
		return 0, errors.New("want a whole number, not one of so many digits")
	}
	if accuracy != big.Exact || i > math.MaxInt32 || i < math.MinInt32 {
		return 0, fmt.Errorf("want a whole number, not %s", n.AsBigFloat().Text('g', 10))
	}
	return int(i), nil
}

func stringList(v cty.Value) ([]string, error) {
	if v.IsNull() || !v.CanIterateElements() || v.Type().IsObjectType() || v.Type().IsMapType() {
		return nil, fmt.Errorf("want a list of strings, not %s", describe(v))
	}
	list := make([]string, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		s, err := text(e)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// plain turns a value into what driver configurations hold, the same types that JSON decodes to: string, bool, int64,
// float64, []any, map[string]any and nil.
func plain(v cty.Value) (any, error) {
	t := v.Type()
	switch {
	case v.IsNull():
		return nil, nil
	case t == cty.String:
		return v.AsString(), nil
	case t == cty.Bool:
		return v.True(), nil
	case t == cty.Number:
		return number(v.AsBigFloat())
	case t.IsObjectType() || t.IsMapType():
		m := make(map[string]any, v.LengthInt())
		return m, assignMap(&m, v, plain)
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		list := make([]any, 0, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			elem, err := plain(e)
			if err != nil {
				return nil, err
			}
			list = append(list, elem)
		}
		return list, nil
	}
	return nil, fmt.Errorf("cannot hold %s", describe(v))
}

func number(f *big.Float) (any, error) {
	if n, accuracy := f.Int64(); accuracy == big.Exact {
		return n, nil
	}
	x, _ := f.Float64()
	if math.IsInf(x, 0) {
		return nil, errors.New("the number is too large")
	}
	if x == math.Trunc(x) && x >= math.MinInt64 && x < math.MaxInt64 {
		return int64(x), nil // as package api reads the same number from JSON
	}
	return x, nil
}

// describe names the type of a value, for messages; never the value, which may be secret.
func describe(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	switch t := v.Type(); {
	case t.IsObjectType():
		return "an object"
	case t.IsTupleType():
		return "a list"
	default:
		return "a " + t.FriendlyName()
	}
}
