package plugins

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// fitted is config as JSON, with the two ways of writing a map made the one that the schema has: job files say both
// labels = { a = "b" } and labels { a = "b" }, which is a list of one map, whichever of them a driver declares.
func fitted(spec hcldec.Spec, config map[string]any) ([]byte, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	fields := map[string]any{}
	if err := decoder.Decode(&fields); err != nil {
		return nil, err
	}
	if fields == nil { // config was nil
		fields = map[string]any{}
	}
	fit(spec, fields)
	return json.Marshal(fields)
}

// fit changes fields in place.
func fit(spec hcldec.Spec, fields map[string]any) {
	switch s := spec.(type) {
	case hcldec.ObjectSpec:
		for _, nested := range s {
			fit(nested, fields)
		}
	case hcldec.TupleSpec:
		for _, nested := range s {
			fit(nested, fields)
		}
	case *hcldec.DefaultSpec:
		fit(s.Primary, fields)
	case *hcldec.AttrSpec:
		if v, ok := fields[s.Name]; ok {
			fields[s.Name] = fitValue(s.Type, v)
		}
	case *hcldec.BlockSpec:
		fitBlocks(s.Nested, fields[s.TypeName])
	case *hcldec.BlockListSpec:
		fitBlocks(s.Nested, fields[s.TypeName])
	case *hcldec.BlockSetSpec:
		fitBlocks(s.Nested, fields[s.TypeName])
	}
}

// fitBlocks does the same in one block, or in each of a list.
func fitBlocks(nested hcldec.Spec, v any) {
	switch v := v.(type) {
	case map[string]any:
		fit(nested, v)
	case []any:
		for _, one := range v {
			if fields, ok := one.(map[string]any); ok {
				fit(nested, fields)
			}
		}
	}
}

func fitValue(t cty.Type, v any) any {
	isMap := func(t cty.Type) bool { return t.IsMapType() || t.IsObjectType() }
	switch v := v.(type) {
	case map[string]any:
		if t.IsListType() && isMap(t.ElementType()) {
			return []any{v}
		}
	case []any:
		if !isMap(t) || len(v) == 0 {
			return v
		}
		all := map[string]any{}
		for _, one := range v {
			fields, ok := one.(map[string]any)
			if !ok {
				return v
			}
			maps.Copy(all, fields)
		}
		return all
	}
	return v
}
