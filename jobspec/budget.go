package jobspec

import (
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// A job file of a few lines can ask for more than a hub has: texts that double in each local, loops in loops, a hash of
// a year. All that expressions make is counted against one budget; functions that can multiply in one call check their
// arguments first.
const (
	budget        = 16 << 20 // bytes, roughly: texts, and 16 for each other value
	maxBcryptCost = 14       // about a second
	maxWidth      = 4096     // of what format pads, of an indent
)

// spend counts a value and reports whether there was enough left for it.
func (p *parser) spend(v cty.Value) bool {
	v, _ = v.Unmark()
	p.spent += 16
	switch t := v.Type(); {
	case !v.IsKnown() || v.IsNull():
	case t == cty.String:
		p.spent += len(v.AsString())
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

// bounded returns functions with a check before those that can multiply their arguments.
func bounded(all map[string]function.Function) map[string]function.Function {
	all = maps.Clone(all)
	for name, check := range map[string]func([]cty.Value) error{
		"bcrypt":        checkBcrypt,
		"format":        checkFormat,
		"formatlist":    checkFormat,
		"indent":        checkIndent,
		"join":          checkJoin,
		"replace":       checkReplace,
		"regex_replace": checkReplace,
		"setproduct":    checkProduct,
	} {
		inner := all[name]
		all[name] = function.New(&function.Spec{
			Description: inner.Description(),
			Params:      inner.Params(),
			VarParam:    inner.VarParam(),
			Type: func(args []cty.Value) (cty.Type, error) {
				if err := check(args); err != nil {
					return cty.NilType, err
				}
				return inner.ReturnTypeForValues(args)
			},
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return inner.Call(args) },
		})
	}
	return all
}

var errTooMuch = errors.New("the result would be too large")

func checkBcrypt(args []cty.Value) error {
	if len(args) > 1 && args[1].IsKnown() && !args[1].IsNull() {
		if cost, _ := args[1].AsBigFloat().Float64(); cost > maxBcryptCost {
			return fmt.Errorf("a cost above %d takes too long", maxBcryptCost)
		}
	}
	return nil
}

// wide matches a width or precision of five digits or more.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*[0-9]{5}`)

func checkFormat(args []cty.Value) error {
	if s, ok := known(args[0]); ok && wide.MatchString(s) {
		return errTooMuch
	}
	return nil
}

func checkIndent(args []cty.Value) error {
	if args[0].IsKnown() && !args[0].IsNull() {
		if spaces, _ := args[0].AsBigFloat().Float64(); spaces > maxWidth {
			return errTooMuch
		}
	}
	return nil
}

func checkJoin(args []cty.Value) error {
	sep, ok := known(args[0])
	for _, l := range args[1:] {
		if ok && l.IsKnown() && !l.IsNull() && len(sep)*l.LengthInt() > budget {
			return errTooMuch
		}
	}
	return nil
}

func checkReplace(args []cty.Value) error {
	s, ok := known(args[0])
	with, okWith := known(args[2])
	if ok && okWith && (len(s)+1)*len(with) > budget {
		return errTooMuch
	}
	return nil
}

func checkProduct(args []cty.Value) error {
	n := 1
	for _, a := range args {
		if !a.IsKnown() || a.IsNull() || !a.CanIterateElements() {
			return nil
		}
		if n *= a.LengthInt(); n*len(args)*16 > budget {
			return errTooMuch
		}
	}
	return nil
}

// known returns the text of a string that is known.
func known(v cty.Value) (string, bool) {
	if v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
		return v.AsString(), true
	}
	return "", false
}
