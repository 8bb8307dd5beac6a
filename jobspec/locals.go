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
		}
	}
	p.names["local"] = slices.Sorted(maps.Keys(l.defs))
	for name, a := range l.defs {
		l.needs[name] = hclsyntax.Variables(a.Expr)
	}
	for _, b := range blocks {
		p.runtime(b.Body, rootScope())
	}
	for _, name := range p.names["local"] {
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
	names, all := l.localsIn(name)
	for _, n := range names {
		l.resolve(n)
	}
	if l.values[name] != cty.NilVal {
		return // part of a circle
	}
	if all && l.spent <= budget {
		names = slices.Collect(maps.Keys(l.values))
	}
	known := make(map[string]cty.Value, len(names))
	for _, n := range names {
		if v := l.values[n]; v != cty.NilVal {
			known[n] = v
		}
	}
	l.ctx.Variables["local"] = cty.ObjectVal(known)
	v, ok := l.value(a.Expr, l.ctx)
	if !ok {
		v = cty.DynamicVal
	}
	l.values[name] = v
}

// localsIn returns the locals that one refers to by name, and whether it refers to all of them together. It is given no
// others to evaluate with: a file may have very many.
func (l *localSet) localsIn(name string) (names []string, all bool) {
	for _, t := range l.needs[name] {
		if t.RootName() != "local" {
			continue
		}
		switch step := t[min(1, len(t)-1)].(type) {
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		case hcl.TraverseIndex:
			if key, ok := known(step.Key); ok {
				names = append(names, key)
			}
		default:
			all = true
		}
	}
	return names, all
}
