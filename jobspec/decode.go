package jobspec

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/brumehq/brume/api"
)

// decoder fills the model from blocks. job and group are those being decoded: they give their children's defaults.
type decoder struct {
	*parser
	job    *api.Job
	group  *api.Group
	places map[place]hcl.Range // where the parts of the job stand in the text, named as api.FieldError does
	bad    map[place]bool      // arguments that could not be decoded
}

// place names a part of a job as api.FieldError does.
type place struct{ where, field string }

// custom is what a kind of block takes beside the fields of its struct.
type custom struct {
	names     []string
	attribute func(a *hclsyntax.Attribute) bool // false: not its own
	block     func(b block) bool
}

// fill decodes a block into the struct v: first what its groups or tasks inherit, then those.
func (d *decoder) fill(b block, v reflect.Value, where string, own custom) {
	s := schemas()[v.Type()]
	d.places[place{where, ""}] = b.at
	if !d.label(b, s, v) {
		d.bad[place{where, "name"}] = true
	}
	seen := make(map[string]hcl.Range)
	for _, a := range sortedAttributes(b.body) {
		seen[a.Name] = a.NameRange
		d.attribute(a, b.ctx, v, where, own)
	}
	blocks := d.expand(b.body, b.ctx)
	byKind := make(map[string]int)
	for _, child := range blocks {
		byKind[child.kind]++
	}
	for _, children := range []bool{false, true} {
		nth := make(map[string]int)
		for _, child := range blocks {
			i := nth[child.kind]
			nth[child.kind]++
			if (child.kind == "group" || child.kind == "task") != children {
				continue
			}
			if own.block != nil && own.block(child) {
				continue
			}
			f, known := s.fields[child.kind]
			switch {
			case known && (f.block || f.both):
				d.child(child, f, v, position{where, i, byKind[child.kind]}, seen)
			case known || slices.Contains(own.names, child.kind):
				d.fail(child.at, "Argument written as a block", "%s is an argument: %s = …", child.kind, child.kind)
			default:
				d.refuse(child.at, child.kind, s, own)
			}
		}
	}
}

// position is which of its kind a block is inside the block at where.
type position struct {
	where string
	i, n  int
}

// label stores a block's label and reports whether it has the labels that it should.
func (d *decoder) label(b block, s *schema, v reflect.Value) bool {
	switch {
	case s.label < 0 && len(b.labels) > 0:
		d.fail(b.at, "Wrong labels", "A %s block has none.", b.kind)
		return false
	case s.label >= 0 && len(b.labels) != 1:
		d.fail(b.at, "Wrong labels", "A %s block has one label, its name.", b.kind)
		return false
	case s.label >= 0:
		v.Field(s.label).SetString(b.labels[0])
	}
	return true
}

// refuse reports a block or argument that is not built, or unknown.
func (d *decoder) refuse(at hcl.Range, name string, s *schema, own custom) {
	if _, ok := s.unbuilt[name]; ok {
		d.fail(at, "Not supported yet", "%s is not supported yet.", name)
		return
	}
	d.fail(at, "Unknown name", "%s", unknown(name, s.names(own.names...)))
}

func (d *decoder) attribute(a *hclsyntax.Attribute, ctx *hcl.EvalContext, v reflect.Value, where string, own custom) {
	s := schemas()[v.Type()]
	d.places[place{where, a.Name}] = a.SrcRange
	if own.attribute != nil && own.attribute(a) {
		return
	}
	f, known := s.fields[a.Name]
	u, isUnbuilt := s.unbuilt[a.Name]
	switch {
	case isUnbuilt && !u.Block:
		val, ok := d.value(a.Expr, ctx)
		if ok && !changesNothing(u, val) {
			d.fail(a.SrcRange, "Not supported yet", "%s is not supported yet.", a.Name)
		}
	case f.block && !f.both || !known && slices.Contains(own.names, a.Name):
		d.fail(a.NameRange, "Block written as an argument", "%s is a block: %s { … }", a.Name, a.Name)
	case !known:
		d.refuse(a.NameRange, a.Name, s, own)
	default:
		d.set(a, ctx, v.Field(f.index), place{where, a.Name})
	}
}

// changesNothing reports whether a value of an argument that is not built says what holds anyway.
func changesNothing(u api.Unbuilt, val cty.Value) bool {
	if d, err := duration(val); !val.IsNull() && err == nil {
		val = cty.NumberIntVal(int64(d))
	}
	p, err := plain(val)
	if err != nil {
		return false
	}
	raw, err := json.Marshal(p)
	return err == nil && u.Accepts(raw)
}

// set evaluates an argument and stores it.
func (d *decoder) set(a *hclsyntax.Attribute, ctx *hcl.EvalContext, field reflect.Value, at place) {
	val, ok := d.value(a.Expr, ctx)
	if !ok {
		d.bad[at] = true
		return
	}
	if err := assign(field, val); err != nil {
		d.bad[at] = true
		d.fail(a.Expr.Range(), "Wrong value", "%s: %v.", a.Name, err)
	}
}

// child decodes one block into the field that holds its kind.
func (d *decoder) child(b block, f field, parent reflect.Value, at position, seen map[string]hcl.Range) {
	v := parent.Field(f.index)
	if v.Kind() == reflect.Slice {
		elem := d.newElem(v.Type().Elem())
		d.fill(b, reflect.Indirect(elem), d.path(b, at), d.custom(b, elem, d.path(b, at)))
		v.Set(reflect.Append(v, elem))
		return
	}
	if first, dup := seen[b.kind]; dup {
		d.fail(b.at, "Duplicate block", "There is one %s already, at line %d.", b.kind, first.Start.Line)
		return
	}
	seen[b.kind] = b.at
	d.places[place{at.where, f.name}] = b.at
	switch p := v.Addr().Interface().(type) {
	case *map[string]any:
		d.noLabels(b)
		if m := d.opaque(b.body, b.ctx); len(m) > 0 {
			*p = m
		}
		return
	case **api.Update:
		if *p == nil {
			*p = api.NewUpdate()
		}
	case **api.Reschedule:
		if *p == nil {
			*p = api.NewReschedule(d.job.Type)
		}
	}
	switch v.Kind() {
	case reflect.Map:
		d.noLabels(b)
		d.mapBlock(b, v, at.where)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.fill(b, v.Elem(), d.path(b, position{at.where, 0, 1}), custom{})
	default:
		d.fill(b, v, d.path(b, position{at.where, 0, 1}), custom{})
	}
}

// newElem returns a new element of a list of blocks, with its defaults.
func (d *decoder) newElem(t reflect.Type) reflect.Value {
	elem := reflect.New(t).Elem()
	switch p := elem.Addr().Interface().(type) {
	case **api.Group:
		*p = d.job.NewGroup()
		d.group = *p
	case **api.Task:
		*p = d.group.NewTask()
	default:
		if t.Kind() == reflect.Pointer {
			elem.Set(reflect.New(t.Elem()))
		}
	}
	return elem
}

// path names a block as api.FieldError does.
func (d *decoder) path(b block, at position) string {
	part := api.Nth(b.kind, at.i, at.n)
	if len(b.labels) > 0 && b.labels[0] != "" {
		part = b.kind + " " + quote(b.labels[0])
	}
	return strings.TrimSpace(at.where + " " + part)
}

// mapBlock decodes a block of free names, such as env, into a map.
func (d *decoder) mapBlock(b block, v reflect.Value, where string) {
	for _, child := range b.body.Blocks {
		d.fail(child.DefRange(), "Unexpected block", "%s holds arguments only.", b.kind)
	}
	for _, a := range sortedAttributes(b.body) {
		val, ok := d.value(a.Expr, b.ctx)
		if !ok {
			continue
		}
		if err := assign(v, cty.ObjectVal(map[string]cty.Value{a.Name: val})); err != nil {
			d.fail(a.Expr.Range(), "Wrong value", "%s: %v.", b.kind, err)
		}
	}
	d.places[place{where, b.kind}] = b.at
}

func (d *decoder) noLabels(b block) {
	if len(b.labels) > 0 {
		d.fail(b.at, "Wrong labels", "A %s block has none.", b.kind)
	}
}

// opaque decodes a body whose names only a driver knows: a block is a map, a repeated one a list of maps, and each label
// a map around it.
func (d *decoder) opaque(body *hclsyntax.Body, ctx *hcl.EvalContext) map[string]any {
	m := make(map[string]any)
	for _, a := range sortedAttributes(body) {
		val, ok := d.value(a.Expr, ctx)
		if !ok {
			continue
		}
		p, err := plain(val)
		if err != nil {
			d.fail(a.Expr.Range(), "Wrong value", "%s: %v.", a.Name, err)
			continue
		}
		m[a.Name] = p
	}
	for _, b := range d.expand(body, ctx) {
		if body.Attributes[b.kind] != nil {
			d.fail(b.at, "Duplicate name", "%s is an argument already, at line %d.",
				b.kind, body.Attributes[b.kind].NameRange.Start.Line)
			continue
		}
		var value any = d.opaque(b.body, b.ctx)
		for _, label := range slices.Backward(b.labels) {
			value = map[string]any{label: value}
		}
		switch before := m[b.kind].(type) {
		case nil:
			m[b.kind] = value
		case []any:
			m[b.kind] = append(before, value)
		default:
			m[b.kind] = []any{before, value}
		}
	}
	return m
}
