package scheduler

import (
	"strings"
	"testing"

	"github.com/brumehq/brume/api"
)

func TestOperators(t *testing.T) {
	for _, tt := range []struct {
		left, operand, right string
		want                 bool
	}{
		{"linux", "=", "linux", true},
		{"linux", "==", "linux", true},
		{"linux", "is", "linux", true},
		{"linux", "", "linux", true},
		{"linux", "=", "Linux", false},
		{"linux", "!=", "windows", true},
		{"linux", "not", "linux", false},
		{"9", "<", "10", true},
		{"9", "<=", "9.0", true},
		{"10", ">", "9.5", true},
		{"9007199254740993", ">", "9007199254740992", true}, // beyond what a float tells apart
		{"9", ">=", "10", false},
		{"b9", ">", "b10", true}, // not both are numbers: as texts
		{"abc", "<", "abd", true},
		{"nan", "<", "1", false},
		{"nan", ">=", "inf", true}, // neither is a number
		{"web-12", "regexp", "^web-[0-9]+$", true},
		{"db-1", "regexp", "^web", false},
		{"x", "regexp", "(", false},
		{strings.Repeat("a", maxText+1), "regexp", "a", false},
		{"a", "regexp", "a" + strings.Repeat("?", api.MaxPattern), false},
		{"a", "regexp", strings.Repeat("(a|b{900}|c{900})?", 10), false}, // short, but a long program
		{"5.15.0", "version", ">= 4.0, < 6", true},
		{"5.15.0", "version", "~> 5.14", true},
		{"5.15.0", "version", "> 5.15.0", false},
		{"1.3.0-beta1", "version", ">= 1.2.0", false},
		{"1.3.0-beta1", "semver", ">= 1.2.0", true},
		{"1.3.0", "semver", ">= 1.2.0, < 1.3.0", false},
		{"1.3.0", "semver", "= 1.3.0", true},
		{"1.3.0", "semver", "1.3.0", true},
		{"1.3.0", "semver", "!= 1.3.0", false},
		{"1.3.0-beta1", "semver", "< 1.3.0", true},
		{"1.3.0", "semver", "~> 1.3.0", false}, // no operator of semantic versions
		{"not a version", "version", ">= 1", false},
		{"not a version", "semver", ">= 1.0.0", false},
		{"1.0.0", "version", "not a version", false},
		{"a,b, c", "set_contains", "c,a", true},
		{"a,b,c", "set_contains_all", "a, d", false},
		{"a,b,c", "set_contains_any", "x, b", true},
		{"a,b,c", "set_contains_any", "x,y", false},
		{"a", "likes", "a", false},
	} {
		c := api.Constraint{LTarget: "${meta.left}", Operand: tt.operand, RTarget: "${meta.right}"}
		n := &api.Node{Meta: map[string]string{"left": tt.left, "right": tt.right}}
		if got := satisfies(c, n); got != tt.want {
			t.Errorf("%.40q %s %.40q is %t, want %t", tt.left, tt.operand, tt.right, got, tt.want)
		}
	}
}

func satisfies(c api.Constraint, n *api.Node) bool {
	var rs ruleset
	rs.addConstraint(c, "eu", false)
	return rs.feasible(n)
}

func TestWhatIsNotSet(t *testing.T) {
	n := &api.Node{Attributes: map[string]string{"a": "1", "empty": ""}}
	for _, tt := range []struct {
		left, operand, right string
		want                 bool
	}{
		{"${attr.a}", "is_set", "", true},
		{"${attr.a}", "is_not_set", "", false},
		{"${attr.empty}", "is_set", "", true},
		{"${attr.b}", "is_set", "", false},
		{"${attr.b}", "is_not_set", "", true},
		{"${attr.b}", "=", "1", false},
		{"${attr.b}", "!=", "1", true},
		{"${attr.b}", "!=", "${attr.c}", false}, // two things that are not there do not differ
		{"${attr.b}", "<", "1", false},
		{"${attr.b}", "regexp", ".*", false},
		{"${attr.a}", "=", "${attr.b}", false},
		{"${env.HOME}", "is_set", "", false},
		{"${attr.a", "=", "1", false}, // no reference, as it is not closed
	} {
		if got := satisfies(api.Constraint{LTarget: tt.left, Operand: tt.operand, RTarget: tt.right}, n); got != tt.want {
			t.Errorf("%s %s %s is %t, want %t", tt.left, tt.operand, tt.right, got, tt.want)
		}
	}
}

func TestTargets(t *testing.T) {
	n := newNode(7, func(n *api.Node) { n.NodeClass, n.Meta["rack"] = "big", "r1" })
	for _, tt := range []struct {
		text, want string
		unique     bool
	}{
		{"linux", "linux", false},
		{"", "", false},
		{"${attr.kernel.name}", "linux", false},
		{"${ attr.kernel.name }", "linux", false},
		{"${attr.unique.hostname}", "host7", true},
		{"${node.unique.id}", n.ID, true},
		{"${node.unique.name}", "n7", true},
		{"${node.class}", "big", false},
		{"${node.pool}", "default", false},
		{"${node.datacenter}", "dc1", false},
		{"${node.region}", "eu", false},
		{"${meta.rack}", "r1", false},
		{"${node.datacenter}-${meta.rack}!", "dc1-r1!", false},
	} {
		target := parseTarget(tt.text, "eu")
		got, ok := target.resolve(n)
		if got != tt.want || !ok || target.unique != tt.unique {
			t.Errorf("%s is %q (set %t, unique %t), want %q (unique %t)", tt.text, got, ok, target.unique, tt.want, tt.unique)
		}
	}
}

func FuzzConstraint(f *testing.F) {
	for _, op := range []string{"=", "<", "regexp", "version", "semver", "set_contains", "is_set", "distinct_property", "x"} {
		f.Add("${attr.a}", op, "1.2.3", "1.2.4-rc.1")
	}
	f.Add("${meta.b}${", "regexp", "(a*)*$", strings.Repeat("a", 100))
	f.Add("${}", "version", ">= 1, ~> 2, != 3-x+y", "99999999999999999999.1")
	f.Fuzz(func(t *testing.T, left, operand, right, value string) {
		n := &api.Node{Attributes: map[string]string{"a": value}, Meta: map[string]string{"b": value}}
		c := api.Constraint{LTarget: left, Operand: operand, RTarget: right}
		var rs ruleset
		rs.addConstraint(c, "", true)
		ok := rs.feasible(n)
		if again := rs.feasible(n); again != ok {
			t.Fatalf("%+v is %t, then %t", c, ok, again)
		}
		for _, r := range append(rs.class, rs.node...) {
			if !r.ok(n) && r.miss(n) == "" {
				t.Fatalf("%+v is broken without a reason", c)
			}
		}
	})
}
