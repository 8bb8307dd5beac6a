package jobspec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// scope is the set of names that expressions can be evaluated with. References to any other name are for the node.
type scope map[string]bool

func rootScope() scope { return scope{"var": true, "local": true} }

func (s scope) with(names ...string) scope {
	child := maps.Clone(s)
	for _, n := range names {
		if n != "" {
			child[n] = true
		}
	}
	return child
}

// runtime replaces, in all expressions of a body, references that only a node can resolve by their own text:
// "${attr.kernel.name}" stays that string. It knows the iterators of dynamic blocks and of for-expressions.
func (p *parser) runtime(b *hclsyntax.Body, known scope) {
	for _, a := range b.Attributes {
		a.Expr = p.literal(a.Expr, known)
	}
	for _, child := range b.Blocks {
		if child.Type == "dynamic" {
			p.runtimeDynamic(child, known)
			continue
		}
		p.runtime(child.Body, known)
	}
}

func (p *parser) runtimeDynamic(b *hclsyntax.Block, known scope) {
	inner := known
	if name, ok := iteratorName(b); ok {
		inner = known.with(name)
	}
	for name, a := range b.Body.Attributes {
		switch name {
		case "iterator": // a name, not an expression
		case "labels":
			a.Expr = p.literal(a.Expr, inner)
		default:
			a.Expr = p.literal(a.Expr, known)
		}
	}
	for _, content := range b.Body.Blocks {
		p.runtime(content.Body, inner)
	}
}

// iteratorName returns the name under which a dynamic block's content sees the current element.
func iteratorName(b *hclsyntax.Block) (string, bool) {
	if a := b.Body.Attributes["iterator"]; a != nil {
		t, diags := hcl.AbsTraversalForExpr(a.Expr)
		if diags.HasErrors() || len(t) != 1 {
			return "", false
		}
		return t.RootName(), true
	}
	if len(b.Labels) != 1 {
		return "", false
	}
	return b.Labels[0], true
}

// literal returns an expression with its references to unknown names replaced by their text, and what can grow charged
// to the budget.
func (p *parser) literal(expr hclsyntax.Expression, known scope) hclsyntax.Expression {
	sub := func(es ...*hclsyntax.Expression) {
		for _, e := range es {
			if *e != nil {
				*e = p.literal(*e, known)
			}
		}
	}
	switch e := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		return p.traversal(e, known)
	case *hclsyntax.TemplateExpr:
		subAll(sub, e.Parts)
		for i, part := range e.Parts {
			if _, fixed := part.(*hclsyntax.LiteralValueExpr); !fixed {
				e.Parts[i] = charged{part, p}
			}
		}
	case *hclsyntax.TemplateWrapExpr:
		sub(&e.Wrapped)
	case *hclsyntax.TemplateJoinExpr:
		sub(&e.Tuple)
	case *hclsyntax.ParenthesesExpr:
		sub(&e.Expression)
	case *hclsyntax.FunctionCallExpr:
		args := e.Args
		if e.Name == "convert" && len(args) > 1 {
			args = args[:1] // the other is a type, which looks like a reference
		}
		subAll(sub, args)
		return charged{e, p}
	case *hclsyntax.ConditionalExpr:
		sub(&e.Condition, &e.TrueResult, &e.FalseResult)
	case *hclsyntax.IndexExpr:
		sub(&e.Collection, &e.Key)
	case *hclsyntax.SplatExpr:
		sub(&e.Source, &e.Each)
	case *hclsyntax.RelativeTraversalExpr:
		sub(&e.Source)
	case *hclsyntax.BinaryOpExpr:
		sub(&e.LHS, &e.RHS)
		if e.Op == hclsyntax.OpModulo {
			e.LHS, e.RHS = whole{e.LHS}, whole{e.RHS}
		}
		return charged{e, p} // a product of numbers may have very many digits
	case *hclsyntax.UnaryOpExpr:
		sub(&e.Val)
	case *hclsyntax.TupleConsExpr:
		subAll(sub, e.Exprs)
	case *hclsyntax.ObjectConsExpr:
		for i := range e.Items {
			sub(&e.Items[i].KeyExpr, &e.Items[i].ValueExpr)
		}
	case *hclsyntax.ObjectConsKeyExpr:
		if e.ForceNonLiteral || hcl.ExprAsKeyword(e.Wrapped) == "" {
			sub(&e.Wrapped)
		}
	case *hclsyntax.ForExpr:
		e.CollExpr = charged{p.literal(e.CollExpr, known), p}
		inner := known.with(e.KeyVar, e.ValVar)
		for _, part := range []*hclsyntax.Expression{&e.KeyExpr, &e.ValExpr, &e.CondExpr} {
			if *part != nil {
				*part = p.literal(*part, inner)
			}
		}
	}
	return expr
}

func subAll(sub func(...*hclsyntax.Expression), list []hclsyntax.Expression) {
	for i := range list {
		sub(&list[i])
	}
}

// onNode matches the first names of what nodes resolve: attributes and the environment of the task.
var onNode = regexp.MustCompile(`^(attr|node|meta|env|device|secret|[A-Z][A-Z0-9_].*)$`)

func (p *parser) traversal(e *hclsyntax.ScopeTraversalExpr, known scope) hclsyntax.Expression {
	root := e.Traversal.RootName()
	at := e.SrcRange
	if known[root] {
		if p.declared(e) {
			return e
		}
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: at}
	}
	text := strings.TrimSpace(string(p.sources[at.Filename][at.Start.Byte:at.End.Byte]))
	if !onNode.MatchString(root) {
		names := make([]string, 0, len(known))
		for n := range known {
			names = append(names, n)
		}
		hint := ""
		if n, ok := nearest(root, names); ok {
			hint = "; did you mean \"" + n + "\"?"
		}
		p.warn(at, "Left for the node", "%q is no name of this file, so ${%s} stays as text%s", root, text, hint)
	}
	return &hclsyntax.LiteralValueExpr{Val: cty.StringVal("${" + text + "}"), SrcRange: at}
}

// declared reports whether a variable or local that is referred to exists, and records an error if not.
func (p *parser) declared(e *hclsyntax.ScopeTraversalExpr) bool {
	root := e.Traversal.RootName()
	if root != "var" && root != "local" || len(e.Traversal) < 2 {
		return true
	}
	step, ok := e.Traversal[1].(hcl.TraverseAttr)
	if !ok {
		return true
	}
	if _, declared := slices.BinarySearch(p.names[root], step.Name); declared {
		return true
	}
	kind := map[string]string{"var": "variable", "local": "local"}[root]
	hint := ""
	if n, ok := nearest(step.Name, p.names[root]); ok {
		hint = fmt.Sprintf("; did you mean %s.%s?", root, n)
	}
	p.fail(e.SrcRange, "Undeclared "+kind, "there is no %s %q%s", kind, step.Name, hint)
	return false
}
