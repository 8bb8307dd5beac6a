package jobspec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// block is one block to decode, after dynamic blocks are expanded: its body is evaluated in ctx.
type block struct {
	kind   string
	labels []string
	body   *hclsyntax.Body
	ctx    *hcl.EvalContext
	at     hcl.Range // its header
	close  hcl.Range
}

// maxExpanded bounds what the dynamic blocks of one body make, priceBlock what those of the whole file do: it is charged to
// the budget for each.
const (
	maxExpanded = 10_000
	priceBlock  = 1 << 10
)

// expand returns the blocks of a body, dynamic ones replaced by what they make.
func (p *parser) expand(b *hclsyntax.Body, ctx *hcl.EvalContext) []block {
	var list []block
	for _, child := range b.Blocks {
		if child.Type == "dynamic" {
			list = append(list, p.dynamic(child, ctx)...)
			continue
		}
		list = append(list, block{
			kind: child.Type, labels: child.Labels, body: child.Body, ctx: ctx,
			at: child.DefRange(), close: child.CloseBraceRange,
		})
	}
	if len(list) > maxExpanded {
		p.fail(b.SrcRange, "Too many blocks", "More than %d blocks in one.", maxExpanded)
		return nil
	}
	return list
}

// dynamic makes one block for each element of for_each.
func (p *parser) dynamic(b *hclsyntax.Block, ctx *hcl.EvalContext) []block {
	name, content, ok := p.dynamicParts(b)
	if !ok {
		return nil
	}
	each := b.Body.Attributes["for_each"].Expr
	coll, ok := p.value(each, ctx)
	if !ok {
		return nil
	}
	if coll.IsNull() || !coll.CanIterateElements() {
		p.fail(each.Range(), "Nothing to repeat", "for_each wants a list, set, map or object, not %s.", describe(coll))
		return nil
	}
	var list []block
	for it := coll.ElementIterator(); it.Next(); {
		if p.spent += priceBlock; p.spent > budget {
			p.diags = append(p.diags, charged{each, p}.tooMuch())
			return nil
		}
		key, val := it.Element()
		if coll.Type().IsSetType() {
			key = val
		}
		inner := ctx.NewChild()
		inner.Variables = map[string]cty.Value{name: cty.ObjectVal(map[string]cty.Value{"key": key, "value": val})}
		labels, ok := p.dynamicLabels(b, inner)
		if !ok {
			return nil
		}
		list = append(list, block{
			kind: b.Labels[0], labels: labels, body: content.Body, ctx: inner,
			at: b.DefRange(), close: content.CloseBraceRange,
		})
	}
	return list
}

// dynamicParts checks the form of a dynamic block and returns its iterator's name and its content.
func (p *parser) dynamicParts(b *hclsyntax.Block) (name string, content *hclsyntax.Block, ok bool) {
	if len(b.Labels) != 1 {
		p.fail(b.DefRange(), "Wrong labels", "A dynamic block has one label: the kind of block that it makes.")
		return "", nil, false
	}
	if b.Labels[0] == "dynamic" {
		p.fail(b.DefRange(), "Wrong label", "A dynamic block cannot make dynamic blocks.")
		return "", nil, false
	}
	before := len(p.diags)
	for _, a := range sortedAttributes(b.Body) {
		switch a.Name {
		case "for_each", "iterator", "labels":
		default:
			p.fail(a.NameRange, "Unknown argument", "%s", unknown(a.Name, []string{"for_each", "iterator", "labels"}))
		}
	}
	if b.Body.Attributes["for_each"] == nil {
		p.fail(b.DefRange(), "Missing argument", "A dynamic block needs for_each.")
	}
	name, named := iteratorName(b)
	if !named {
		p.fail(b.Body.Attributes["iterator"].Expr.Range(), "Wrong iterator", "An iterator is a name without quotes.")
	}
	for _, c := range b.Body.Blocks {
		switch {
		case c.Type != "content":
			p.fail(c.TypeRange, "Unknown block", "%s", unknown(c.Type, []string{"content"}))
		case content != nil:
			p.fail(c.TypeRange, "Duplicate block", "A dynamic block has one content; the first is at line %d.", content.TypeRange.Start.Line)
		case len(c.Labels) > 0:
			p.fail(c.DefRange(), "Wrong labels", "content has none: labels of what is made go into the argument labels.")
		default:
			content = c
		}
	}
	if content == nil {
		p.fail(b.DefRange(), "Missing block", "A dynamic block needs content.")
	}
	return name, content, len(p.diags) == before
}

func (p *parser) dynamicLabels(b *hclsyntax.Block, ctx *hcl.EvalContext) ([]string, bool) {
	a := b.Body.Attributes["labels"]
	if a == nil {
		return nil, true
	}
	v, ok := p.value(a.Expr, ctx)
	if !ok {
		return nil, false
	}
	labels, err := stringList(v)
	if err != nil {
		p.fail(a.Expr.Range(), "Wrong labels", "%v.", err)
		return nil, false
	}
	return labels, true
}

// value evaluates an expression. It returns false if that failed, or if the value depends on something that failed,
// which has been reported already.
func (p *parser) value(expr hcl.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	if e, ok := expr.(hclsyntax.Expression); ok {
		expr = charged{e, p}
	}
	v, diags := expr.Value(ctx)
	p.diags = append(p.diags, diags...)
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return cty.DynamicVal, false
	}
	v, _ = v.UnmarkDeep()
	return v, true
}
