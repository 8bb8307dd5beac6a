package jobspec

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// locals evaluates the locals of a file, which may refer to each other in any order, and puts them into ctx.
func (p *parser) locals(ctx *hcl.EvalContext, blocks []*hclsyntax.Block) {
	l := &localSet{
		parser: p, ctx: ctx, defs: make(map[string]*hclsyntax.Attribute),
		needs: make(map[string][]hcl.Traversal), values: make(map[string]cty.Value),
	}
	for _, b := range blocks {
		if len(b.Labels) > 0 {
			p.fail(b.DefRange(), "Wrong labels", "A locals block has none.")
		}
		for _, c := range b.Body.Blocks {
			p.fail(c.TypeRange, "Unexpected block", "locals holds NAME = VALUE only.")
		}
		for _, a := range sortedAttributes(b.Body) {
			if first, dup := l.defs[a.Name]; dup {
				p.fail(a.NameRange, "Duplicate local", "%q is defined already, at line %d.", a.Name, first.NameRange.Start.Line)
				continue
			}
			l.defs[a.Name] = a
			p.names["local"] = append(p.names["local"], a.Name)
		}
	}
	for name, a := range l.defs {
		l.needs[name] = hclsyntax.Variables(a.Expr)
	}
	for _, b := range blocks {
		p.runtime(b.Body, rootScope())
	}
	for _, name := range slices.Sorted(maps.Keys(l.defs)) {
		l.resolve(name)
	}
	l.publish()
}

type localSet struct {
	*parser
	ctx    *hcl.EvalContext
	defs   map[string]*hclsyntax.Attribute
	needs  map[string][]hcl.Traversal
	values map[string]cty.Value // those resolved; NilVal while one is being resolved
}

func (l *localSet) publish() { l.ctx.Variables["local"] = cty.ObjectVal(l.values) }

// resolve evaluates a local after those it refers to.
func (l *localSet) resolve(name string) {
	a, defined := l.defs[name]
	if v, begun := l.values[name]; begun {
		if v == cty.NilVal {
			l.fail(a.NameRange, "Circular local", "%q refers to itself, directly or through others.", name)
			l.values[name] = cty.DynamicVal
		}
		return
	}
	if !defined {
		return // the evaluation says so
	}
	l.values[name] = cty.NilVal
	for _, t := range l.needs[name] {
		if t.RootName() != "local" || len(t) < 2 {
			continue
		}
		if step, ok := t[1].(hcl.TraverseAttr); ok {
			l.resolve(step.Name)
		}
	}
	if l.values[name] != cty.NilVal {
		return // part of a circle
	}
	known := maps.Clone(l.values)
	maps.DeleteFunc(known, func(_ string, v cty.Value) bool { return v == cty.NilVal })
	l.ctx.Variables["local"] = cty.ObjectVal(known)
	v, ok := l.value(a.Expr, l.ctx)
	if !ok {
		v = cty.DynamicVal
	}
	l.values[name] = v
}
