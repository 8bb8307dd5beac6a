package plugins

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/brumehq/brume/plugins/wire"
)

// Schema says which attributes and blocks a configuration has, of what types and with what defaults. The zero value
// allows nothing.
type Schema struct{ spec *wire.Spec }

// Fields is the schema of a configuration, or of a block, with these attributes and blocks by name.
func Fields(fields map[string]Schema) Schema {
	o := &wire.ObjectSpec{Attributes: make(map[string]*wire.Spec, len(fields))}
	for name, field := range fields {
		o.Attributes[name] = field.spec
	}
	return Schema{&wire.Spec{Block: &wire.Spec_Object{Object: o}}}
}

// Attr is an optional attribute; kind is an HCL type: string, number, bool, any, list(string), map(number), ...
func Attr(name, kind string) Schema { return attr(name, kind, false) }

// Required is an attribute that must be there.
func Required(name, kind string) Schema { return attr(name, kind, true) }

func attr(name, kind string, required bool) Schema {
	return Schema{&wire.Spec{Block: &wire.Spec_Attr{Attr: &wire.AttrSpec{Name: name, Type: kind, Required: required}}}}
}

// Default is primary with a value for when it is absent; value is an HCL expression: `"5m"`, `true`, `[]`.
func Default(primary Schema, value string) Schema {
	literal := &wire.Spec{Block: &wire.Spec_Literal{Literal: &wire.LiteralSpec{Value: value}}}
	return Schema{&wire.Spec{Block: &wire.Spec_Default{Default: &wire.DefaultSpec{Primary: primary.spec, Default: literal}}}}
}

// Block is at most one block of that name.
func Block(name string, nested Schema) Schema {
	return Schema{&wire.Spec{Block: &wire.Spec_BlockValue{BlockValue: &wire.BlockSpec{Name: name, Nested: nested.spec}}}}
}

// BlockList is any number of blocks of that name, in order.
func BlockList(name string, nested Schema) Schema {
	return Schema{&wire.Spec{Block: &wire.Spec_BlockList{BlockList: &wire.BlockListSpec{Name: name, Nested: nested.spec}}}}
}

// BlockAttrs is a block that holds attributes of any names, all of one type.
func BlockAttrs(name, kind string) Schema {
	return Schema{&wire.Spec{Block: &wire.Spec_BlockAttrs{BlockAttrs: &wire.BlockAttrsSpec{Name: name, Type: kind}}}}
}

func (s Schema) toWire() *wire.Spec {
	if s.spec == nil {
		return Fields(nil).spec
	}
	return s.spec
}

// A plugin's schema is walked by recursion, so its depth and size are bounded.
const (
	maxSchemaDepth = 32
	maxSchemaNodes = 4096
	maxExpression  = 4 << 10
)

var errTooLarge = errors.New("too large")

// decoder is a schema made ready for hcldec.
func (s Schema) decoder() (spec hcldec.Spec, err error) {
	defer func() {
		if r := recover(); r != nil { // hcldec and typeexpr panic on types that cannot be; plugins choose these types
			err = fmt.Errorf("schema: %v", r)
		}
	}()
	c := converter{left: maxSchemaNodes}
	if spec, err = c.spec(s.toWire(), "", 0); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if !hcldec.ImpliedType(spec).IsObjectType() {
		return nil, errors.New("schema: not an object")
	}
	return spec, nil
}

type converter struct{ left int }

// spec converts w; name is what a nameless attribute or block is called: the key under which it is found.
func (c *converter) spec(w *wire.Spec, name string, depth int) (hcldec.Spec, error) {
	if c.left--; depth > maxSchemaDepth || c.left < 0 {
		return nil, errTooLarge
	}
	switch b := w.GetBlock().(type) {
	case *wire.Spec_Object:
		return c.object(b.Object, depth)
	case *wire.Spec_Array:
		var tuple hcldec.TupleSpec
		for _, v := range b.Array.GetValues() {
			nested, err := c.spec(v, "", depth+1)
			if err != nil {
				return nil, err
			}
			tuple = append(tuple, nested)
		}
		return tuple, nil
	case *wire.Spec_Attr:
		t, err := typeOf(b.Attr.GetType())
		return &hcldec.AttrSpec{Name: or(b.Attr.GetName(), name), Type: t, Required: b.Attr.GetRequired()}, err
	case *wire.Spec_BlockAttrs:
		t, err := typeOf(b.BlockAttrs.GetType())
		return &hcldec.BlockAttrsSpec{
			TypeName: or(b.BlockAttrs.GetName(), name), ElementType: t, Required: b.BlockAttrs.GetRequired(),
		}, err
	case *wire.Spec_Default:
		primary, err := c.spec(b.Default.GetPrimary(), name, depth+1)
		if err != nil {
			return nil, err
		}
		value, err := c.spec(b.Default.GetDefault(), name, depth+1)
		return &hcldec.DefaultSpec{Primary: primary, Default: value}, err
	case *wire.Spec_Literal:
		value, err := literal(b.Literal.GetValue())
		return &hcldec.LiteralSpec{Value: value}, err
	}
	return c.block(w, name, depth)
}

func (c *converter) object(o *wire.ObjectSpec, depth int) (hcldec.Spec, error) {
	object := hcldec.ObjectSpec{}
	for _, key := range slices.Sorted(maps.Keys(o.GetAttributes())) {
		nested, err := c.spec(o.GetAttributes()[key], key, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", clip(key, 64), err)
		}
		object[key] = nested
	}
	return object, nil
}

func (c *converter) block(w *wire.Spec, name string, depth int) (hcldec.Spec, error) {
	var nested *wire.Spec
	switch b := w.GetBlock().(type) {
	case *wire.Spec_BlockValue:
		nested = b.BlockValue.GetNested()
	case *wire.Spec_BlockList:
		nested = b.BlockList.GetNested()
	case *wire.Spec_BlockSet:
		nested = b.BlockSet.GetNested()
	case *wire.Spec_BlockMap:
		nested = b.BlockMap.GetNested()
	default:
		return nil, errors.New("a part of no known kind")
	}
	inner, err := c.spec(nested, "", depth+1)
	if err != nil {
		return nil, err
	}
	switch b := w.GetBlock().(type) {
	case *wire.Spec_BlockValue:
		return &hcldec.BlockSpec{
			TypeName: or(b.BlockValue.GetName(), name), Nested: inner, Required: b.BlockValue.GetRequired(),
		}, nil
	case *wire.Spec_BlockList:
		l := b.BlockList
		return &hcldec.BlockListSpec{
			TypeName: or(l.GetName(), name), Nested: inner, MinItems: items(l.GetMinItems()), MaxItems: items(l.GetMaxItems()),
		}, nil
	case *wire.Spec_BlockSet:
		l := b.BlockSet
		return &hcldec.BlockSetSpec{
			TypeName: or(l.GetName(), name), Nested: inner, MinItems: items(l.GetMinItems()), MaxItems: items(l.GetMaxItems()),
		}, nil
	}
	m := w.GetBlockMap()
	if len(m.GetLabels()) == 0 {
		return nil, errors.New("a block map without labels")
	}
	return &hcldec.BlockMapSpec{TypeName: or(m.GetName(), name), LabelNames: m.GetLabels(), Nested: inner}, nil
}

func or(name, implied string) string {
	if name == "" {
		return implied
	}
	return name
}

func items(n uint64) int { return int(min(n, 1<<30)) }

// typeOf parses an HCL type.
func typeOf(text string) (cty.Type, error) {
	if len(text) > maxExpression {
		return cty.DynamicPseudoType, errTooLarge
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "type", hcl.InitialPos)
	if diags.HasErrors() {
		return cty.DynamicPseudoType, fmt.Errorf("type %q: %w", clip(text, 64), problems(diags))
	}
	t, diags := typeexpr.TypeConstraint(expr)
	if diags.HasErrors() {
		return cty.DynamicPseudoType, fmt.Errorf("type %q: %w", clip(text, 64), problems(diags))
	}
	return t, nil
}

// literal evaluates the HCL expression of a default.
func literal(text string) (cty.Value, error) {
	if len(text) > maxExpression {
		return cty.NilVal, errTooLarge
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "literal", hcl.InitialPos)
	if diags.HasErrors() {
		return cty.NilVal, fmt.Errorf("literal %q: %w", clip(text, 64), problems(diags))
	}
	value, diags := expr.Value(&hcl.EvalContext{Functions: functions()})
	if diags.HasErrors() {
		return cty.NilVal, fmt.Errorf("literal %q: %w", clip(text, 64), problems(diags))
	}
	return value, nil
}

// functions are those that the protocol allows in schemas and in configuration.
func functions() map[string]function.Function {
	return map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "coalesce": stdlib.CoalesceFunc, "concat": stdlib.ConcatFunc,
		"hasindex": stdlib.HasIndexFunc, "int": stdlib.IntFunc, "jsondecode": stdlib.JSONDecodeFunc,
		"jsonencode": stdlib.JSONEncodeFunc, "length": stdlib.LengthFunc, "lower": stdlib.LowerFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "reverse": stdlib.ReverseFunc, "strlen": stdlib.StrlenFunc,
		"substr": stdlib.SubstrFunc, "upper": stdlib.UpperFunc,
	}
}

// problems is diagnostics as one error without positions: these would be in text that no person wrote.
func problems(diags hcl.Diagnostics) error {
	var all []error
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		text := d.Summary
		if d.Detail != "" {
			text += ": " + d.Detail
		}
		all = append(all, errors.New(clip(text, maxErrorText)))
	}
	return errors.Join(all...)
}
