package jobspec

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The parser and the evaluation recurse with the text, and Go cannot recover from an exhausted stack. These bounds are
// far beyond any job file and far below what a stack holds.
const (
	maxNesting   = 250
	maxOperators = 20_000
	// maxExponent is how many digits the exponent of a number may have: a few letters, 1e999999999, would otherwise make
	// a text of gigabytes.
	maxExponent = 5
)

// withinLimits records where a text nests brackets, strings operators together, or writes a number beyond the limits, and
// reports whether it does not. Blocks, lists, calls, templates all open a bracket of some kind; indexes and directives of
// templates nest without leaving one open, so they count as operators.
func (p *parser) withinLimits(src []byte, filename string) bool {
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	depth, operators := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
			if t.Type == hclsyntax.TokenOBrack || t.Type == hclsyntax.TokenTemplateControl {
				operators++
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash,
			hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenQuestion,
			hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
			hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			operators++
		case hclsyntax.TokenNumberLit:
			if e := bytes.IndexAny(t.Bytes, "eE"); e >= 0 && len(bytes.TrimLeft(t.Bytes[e+1:], "+-0")) > maxExponent {
				p.fail(t.Range, "Number too long", "An exponent has at most %d digits.", maxExponent)
				return false
			}
		}
		if depth > maxNesting || operators > maxOperators {
			p.fail(t.Range, "Nested too deeply", "No job file needs that.")
			return false
		}
	}
	return true
}
