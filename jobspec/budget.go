package jobspec

import (
	"fmt"
	"math"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// budget bounds what the expressions of a file make, in bytes, roughly: texts, and 16 for each other value. A job file of
// a few lines can ask for more than a hub has: texts that double in each local, loops in loops, a hash of a year. All
// values that are made or passed to a function are counted; functions that can do much in one call check their arguments
// first.
const budget = 16 << 20

// spend counts a value and reports whether there was enough left for it.
func (p *parser) spend(v cty.Value) bool {
	v, _ = v.Unmark()
	p.spent += 16
	switch t := v.Type(); {
	case !v.IsKnown() || v.IsNull():
	case t == cty.String:
		p.spent += len(v.AsString())
	case t == cty.Number:
		p.spent += magnitude(v) // a number that is written out has as many digits
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next() && p.spent <= budget; {
			k, e := it.Element()
			if k.Type() == cty.String {
				p.spent += len(k.AsString())
			}
			p.spend(e)
		}
	}
	return p.spent <= budget
}

// magnitude is how many bytes a number with all its zeros has, before or after the point.
func magnitude(v cty.Value) int {
	f := v.AsBigFloat()
	if f.IsInf() {
		return math.MaxInt32
	}
	exp := f.MantExp(nil)
	return max(exp, -exp) / 8
}

// charged is an expression whose value is counted whenever it is evaluated.
type charged struct {
	hclsyntax.Expression
	p *parser
}

// Value evaluates the expression.
func (c charged) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if c.p.spent > budget {
		return cty.DynamicVal, hcl.Diagnostics{c.tooMuch()}
	}
	v, diags := c.Expression.Value(ctx)
	if !diags.HasErrors() && !c.p.spend(v) {
		return cty.DynamicVal, append(diags, c.tooMuch())
	}
	return v, diags
}

func (c charged) tooMuch() *hcl.Diagnostic {
	at := c.Range()
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: "Too much to evaluate", Subject: &at,
		Detail: fmt.Sprintf("The expressions of the file make more than %d MiB.", budget>>20),
	}
}

// whole is an operand of a remainder, which is computed with all digits of the number.
type whole struct{ hclsyntax.Expression }

// Value evaluates the operand.
func (w whole) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := w.Expression.Value(ctx)
	if n, err := convert.Convert(v, cty.Number); err == nil && !diags.HasErrors() {
		if n, _ = n.Unmark(); n.IsKnown() && !n.IsNull() && magnitude(n) > maxWidth {
			at := w.Range()
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Number too long", Subject: &at,
				Detail: "The remainder of a number with so many digits takes too long.",
			})
			return cty.DynamicVal, diags
		}
	}
	return v, diags
}
