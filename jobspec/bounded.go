package jobspec

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"regexp/syntax"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Bounds of what single calls do.
const (
	maxBcryptCost      = 14      // about a second
	priceRSA           = 1 << 17 // of the budget, for one decryption
	stepsPerByte       = 32      // of a regular expression's, for one byte of the budget
	maxWidth           = 4096    // of what format pads, of an indent; bytes of a number that is rounded
	maxDocumentNesting = 1000    // of what jsondecode and yamldecode read
)

// checks are what functions that can do much in one call ask of their arguments.
var checks = map[string]func([]cty.Value) error{
	"ceil":          checkWhole,
	"floor":         checkWhole,
	"format":        checkFormat,
	"formatlist":    checkFormat,
	"indent":        checkIndent,
	"join":          checkJoin,
	"jsondecode":    checkNested,
	"replace":       checkReplace,
	"regex_replace": checkReplace,
	"setproduct":    checkProduct,
	"yamldecode":    checkYAML,
}

// bounded returns functions whose calls are charged for their arguments, and checked before they begin.
func (p *parser) bounded(all map[string]function.Function) map[string]function.Function {
	all = maps.Clone(all)
	for name, inner := range all {
		check := checks[name]
		all[name] = function.New(&function.Spec{
			Description: inner.Description(),
			Params:      inner.Params(),
			VarParam:    inner.VarParam(),
			Type: func(args []cty.Value) (cty.Type, error) {
				if err := p.charge(name, args); err != nil {
					return cty.NilType, err
				}
				if check != nil {
					if err := check(args); err != nil {
						return cty.NilType, err
					}
				}
				return inner.ReturnTypeForValues(args)
			},
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return inner.Call(args) },
		})
	}
	return all
}

// charge counts the arguments of a call, and its time where that is much.
func (p *parser) charge(name string, args []cty.Value) error {
	for _, a := range args {
		if !p.spend(a) {
			return errBudget
		}
	}
	switch name {
	case "rsadecrypt":
		p.spent += priceRSA
	case "regex_replace":
		p.spent += matching(args[0], args[1]) / stepsPerByte
	case "bcrypt":
		cost := 10.0 // that of the function when none is given
		if len(args) > 1 && args[1].IsKnown() && !args[1].IsNull() {
			cost, _ = args[1].AsBigFloat().Float64()
		}
		if cost > maxBcryptCost {
			return fmt.Errorf("a cost above %d takes too long", maxBcryptCost)
		}
		p.spent += 256 << int(max(cost, 0)) // four of the highest cost, or as long a time of lower ones
	}
	if p.spent > budget {
		return errBudget
	}
	return nil
}

// matching is how many steps a regular expression takes at most on a text.
func matching(text, pattern cty.Value) int {
	s, ok := known(text)
	expr, okExpr := known(pattern)
	if !ok || !okExpr {
		return 0
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0 // for the function to say
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0
	}
	return len(s) * len(program.Inst)
}

var errBudget = fmt.Errorf("the expressions of the file make more than %d MiB", budget>>20)

var errTooMuch = errors.New("the result would be too large")

var (
	// wide matches a width or precision of five digits or more.
	wide = regexp.MustCompile(`%[^a-zA-Z%]*[0-9]{5}`)
	// numeric matches a verb that makes a number of its argument, vast a text that is one of very many digits.
	numeric = regexp.MustCompile(`%[^a-zA-Z%]*[bdeEfgGoxXt]`)
	vast    = regexp.MustCompile(`^\s*[-+]?[0-9.]+[eEpP][-+]?[0-9]{6}`)
)

func checkFormat(args []cty.Value) error {
	s, ok := known(args[0])
	if ok && wide.MatchString(s) {
		return errTooMuch
	}
	if !ok || !numeric.MatchString(s) {
		return nil
	}
	for _, a := range args[1:] {
		huge := false
		_ = cty.Walk(a, func(_ cty.Path, e cty.Value) (bool, error) {
			text, ok := known(e)
			huge = huge || ok && vast.MatchString(text)
			return !huge, nil
		})
		if huge {
			return errTooMuch
		}
	}
	return nil
}

// checkWhole guards functions that make an integer of all the digits of a number.
func checkWhole(args []cty.Value) error {
	if args[0].IsKnown() && !args[0].IsNull() && magnitude(args[0]) > maxWidth {
		return errTooMuch
	}
	return nil
}

// checkNested guards parsers that recurse with the text.
func checkNested(args []cty.Value) error {
	s, _ := known(args[0])
	depth, line := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case '\n':
			line = 0
		case ' ', '\t':
			if i > 0 && (s[i-1] == '-' || s[i-1] == '?') { // of YAML: "- - a" is a list in a list
				line++
			}
		}
		if depth > maxDocumentNesting || line > maxDocumentNesting {
			return errors.New("nested too deeply")
		}
	}
	return nil
}

// alias matches a reference of YAML to another part of the text, anchor what it refers to.
var (
	alias  = regexp.MustCompile(`(?:^|[\s,\[{:])\*[A-Za-z0-9_-]`)
	anchor = regexp.MustCompile(`(?:^|[\s,\[{:])&[A-Za-z0-9_-]`)
)

// checkYAML also bounds what aliases of aliases repeat: k of them make at most 3^(k/3) of what each stands for.
func checkYAML(args []cty.Value) error {
	s, _ := known(args[0])
	if anchor.MatchString(s) {
		k := len(alias.FindAllStringIndex(s, -1))
		if math.Pow(3, float64(k)/3)*float64(len(s)) > budget {
			return errTooMuch
		}
	}
	return checkNested(args)
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
