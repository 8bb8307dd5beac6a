package scheduler

import (
	"cmp"
	"math"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"

	"github.com/brumehq/brume/api"
)

// What is beyond these bounds, and beyond api.MaxPattern and api.MaxVersions, matches nothing: neither a job nor a node can keep the scheduler busy. Regular expressions are
// RE2: matching one takes time in proportion to the text's length times the program's.
const (
	maxProgram = 4 << 10 // instructions
	maxText    = 4 << 10
)

// operandText is the one spelling of an operand that has several.
func operandText(op string) string {
	switch op {
	case "", "==", "is":
		return api.OperandEqual
	case "not":
		return api.OperandNotEqual
	case api.OperandSetContains:
		return api.OperandSetContainsAll
	}
	return op
}

// comparison decides an operand on two texts that are both set.
type comparison func(left, right string) bool

// comparisonOf returns how an operand compares; nil for an operand that compares no two texts, or that nobody knows.
func comparisonOf(operand string) comparison {
	switch operandText(operand) {
	case api.OperandEqual:
		return func(l, r string) bool { return l == r }
	case api.OperandNotEqual:
		return func(l, r string) bool { return l != r }
	case api.OperandLess:
		return func(l, r string) bool { return order(l, r) < 0 }
	case api.OperandLessEqual:
		return func(l, r string) bool { return order(l, r) <= 0 }
	case api.OperandGreater:
		return func(l, r string) bool { return order(l, r) > 0 }
	case api.OperandGreaterEqual:
		return func(l, r string) bool { return order(l, r) >= 0 }
	case api.OperandRegexp:
		return onceParsed(parsePattern, func(l string, re *regexp.Regexp) bool {
			return len(l) <= maxText && re.MatchString(l)
		})
	case api.OperandVersion:
		return onceParsed(parseVersions, func(l string, c version.Constraints) bool {
			if len(l) > api.MaxVersions {
				return false
			}
			v, err := version.NewVersion(l)
			return err == nil && c.Check(v)
		})
	case api.OperandSemver:
		return onceParsed(parseSemvers, matchSemver)
	case api.OperandSetContainsAll:
		return containsAll
	case api.OperandSetContainsAny:
		return containsAny
	}
	return nil
}

// order compares as numbers where both are numbers, else as texts.
func order(l, r string) int {
	a, errA := strconv.ParseInt(l, 10, 64)
	b, errB := strconv.ParseInt(r, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Compare(a, b)
	}
	x, okX := parseFloat(l)
	y, okY := parseFloat(r)
	if okX && okY {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(l, r)
}

func parseFloat(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// onceParsed makes a comparison whose right side is parsed when it changes, not for every node. A right side that cannot
// be parsed matches nothing.
func onceParsed[T any](parse func(string) (T, bool), match func(string, T) bool) comparison {
	var (
		parsed T
		from   string
		valid  bool
		seen   bool
	)
	return func(l, r string) bool {
		if !seen || from != r {
			parsed, valid = parse(r)
			from, seen = r, true
		}
		return valid && match(l, parsed)
	}
}

func parsePattern(s string) (*regexp.Regexp, bool) {
	if len(s) > api.MaxPattern {
		return nil, false
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, false
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil || len(program.Inst) > maxProgram {
		return nil, false
	}
	re, err := regexp.Compile(s)
	return re, err == nil
}

func parseVersions(s string) (version.Constraints, bool) {
	if len(s) > api.MaxVersions {
		return nil, false
	}
	c, err := version.NewConstraint(s)
	return c, err == nil
}

// semverRule is one part of ">= 1.2.0, < 2.0.0". Unlike the version operator's parts, it orders pre-releases as semantic
// versioning does: 1.3.0-beta1 satisfies >= 1.2.0.
type semverRule struct {
	holds func(order int) bool
	than  *version.Version
}

func parseSemvers(s string) ([]semverRule, bool) {
	if len(s) > api.MaxVersions {
		return nil, false
	}
	var rules []semverRule
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		bare := strings.TrimLeft(part, "<>=!")
		than, err := version.NewSemver(strings.TrimSpace(bare))
		if err != nil {
			return nil, false
		}
		rule := semverRule{than: than}
		switch part[:len(part)-len(bare)] {
		case "", "=", "==":
			rule.holds = func(o int) bool { return o == 0 }
		case "!=":
			rule.holds = func(o int) bool { return o != 0 }
		case "<":
			rule.holds = func(o int) bool { return o < 0 }
		case "<=":
			rule.holds = func(o int) bool { return o <= 0 }
		case ">":
			rule.holds = func(o int) bool { return o > 0 }
		case ">=":
			rule.holds = func(o int) bool { return o >= 0 }
		default:
			return nil, false
		}
		rules = append(rules, rule)
	}
	return rules, true
}

func matchSemver(l string, rules []semverRule) bool {
	if len(l) > api.MaxVersions {
		return false
	}
	v, err := version.NewSemver(l)
	if err != nil {
		return false
	}
	for _, r := range rules {
		if !r.holds(v.Compare(r.than)) {
			return false
		}
	}
	return true
}

// containsAll reports whether the list l has every element of the list r; lists are separated by commas.
func containsAll(l, r string) bool {
	have := parseList(l)
	for want := range strings.SplitSeq(r, ",") {
		if !have[strings.TrimSpace(want)] {
			return false
		}
	}
	return true
}

func containsAny(l, r string) bool {
	have := parseList(l)
	for want := range strings.SplitSeq(r, ",") {
		if have[strings.TrimSpace(want)] {
			return true
		}
	}
	return false
}

func parseList(s string) map[string]bool {
	set := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		set[strings.TrimSpace(part)] = true
	}
	return set
}
