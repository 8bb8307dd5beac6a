package scheduler

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/brumehq/brume/api"
)

// rule is one demand of a job on a node, whatever runs there.
type rule struct {
	text string                 // how it is named in an explanation
	ok   func(*api.Node) bool   // whether a node satisfies it
	miss func(*api.Node) string // what is wrong with a node that does not
}

// Rules that every group has, by their place in ruleset.class.
const (
	poolRule = iota
	datacenterRule
)

// ruleset is all that a group demands of a node: what all nodes of a class answer alike, what each node must be asked, and
// what depends on where the job's other allocations are. The last binds placements; what runs already is not moved for it.
type ruleset struct {
	class []rule
	node  []rule

	jobHosts   bool // no two allocations of the job on one node
	groupHosts bool // no two of the group
	properties []property

	escaped bool // feasibility is not known from the class alone
}

// property is a distinct_property rule: at most limit allocations for each value.
type property struct {
	target  target
	limit   int
	jobWide bool
}

func (p *property) text() string { return "distinct_property " + p.target.text }

func rulesOf(job *api.Job, g *api.Group) *ruleset {
	rs := &ruleset{class: []rule{poolRuleOf(job), datacenterRuleOf(job)}}
	for _, c := range job.Constraints {
		rs.addConstraint(c, job.Region, true)
	}
	for _, c := range g.Constraints {
		rs.addConstraint(c, job.Region, false)
	}
	var drivers []string
	for _, t := range g.Tasks {
		for _, c := range t.Constraints {
			rs.addConstraint(c, job.Region, false)
		}
		if !slices.Contains(drivers, t.Driver) {
			drivers = append(drivers, t.Driver)
		}
	}
	for _, d := range drivers {
		rs.class = append(rs.class, driverRule(d))
	}
	for _, n := range g.Networks {
		if n.Mode != "" && n.Mode != "host" {
			rs.class = append(rs.class, networkRule(n.Mode))
		}
	}
	return rs
}

// feasible reports whether a node satisfies all that does not depend on what runs there.
func (rs *ruleset) feasible(n *api.Node) bool {
	return firstBroken(rs.class, n) < 0 && firstBroken(rs.node, n) < 0
}

// firstBroken returns the index of the first rule that a node does not satisfy, -1 if it satisfies all.
func firstBroken(rules []rule, n *api.Node) int {
	return slices.IndexFunc(rules, func(r rule) bool { return !r.ok(n) })
}

func (rs *ruleset) addConstraint(c api.Constraint, region string, jobWide bool) {
	switch c.Operand {
	case api.OperandDistinctHosts:
		if on, err := strconv.ParseBool(c.RTarget); c.RTarget == "" || err != nil || on {
			rs.jobHosts = rs.jobHosts || jobWide
			rs.groupHosts = rs.groupHosts || !jobWide
		}
		return
	case api.OperandDistinctProperty:
		rs.addProperty(c, region, jobWide)
		return
	}
	left, right := parseTarget(c.LTarget, region), parseTarget(c.RTarget, region)
	r := constraintRule(c, left, right)
	if left.unique || right.unique {
		rs.node = append(rs.node, r)
		rs.escaped = true
		return
	}
	rs.class = append(rs.class, r)
}

// addProperty adds the rule and, before it, that a node has the property at all.
func (rs *ruleset) addProperty(c api.Constraint, region string, jobWide bool) {
	limit, err := strconv.Atoi(c.RTarget)
	if err != nil || limit < 1 {
		limit = 1
	}
	p := property{target: parseTarget(c.LTarget, region), limit: limit, jobWide: jobWide}
	rs.properties = append(rs.properties, p)
	r := rule{
		text: p.text(),
		ok:   func(n *api.Node) bool { _, ok := p.target.resolve(n); return ok },
		miss: func(n *api.Node) string { return p.target.unset(n) + " is not set" },
	}
	if p.target.unique {
		rs.node = append(rs.node, r)
		rs.escaped = true
		return
	}
	rs.class = append(rs.class, r)
}

// constraintRule compares left with right. A side that is not set on the node satisfies != and is_not_set only.
func constraintRule(c api.Constraint, left, right target) rule {
	op := operandText(c.Operand)
	r := rule{
		text: strings.TrimSpace(c.LTarget + " " + op + " " + c.RTarget),
		miss: func(n *api.Node) string { return constraintMiss(c, &left, &right, n) },
	}
	compare := comparisonOf(op)
	switch {
	case op == api.OperandIsSet:
		r.ok = func(n *api.Node) bool { _, set := left.resolve(n); return set }
	case op == api.OperandIsNotSet:
		r.ok = func(n *api.Node) bool { _, set := left.resolve(n); return !set }
	case compare == nil:
		r.ok = func(*api.Node) bool { return false }
	default:
		r.ok = func(n *api.Node) bool {
			l, lset := left.resolve(n)
			r, rset := right.resolve(n)
			if !lset || !rset {
				return op == api.OperandNotEqual && lset != rset
			}
			return compare(l, r)
		}
	}
	return r
}

func constraintMiss(c api.Constraint, left, right *target, n *api.Node) string {
	for _, t := range []*target{left, right} {
		if name := t.unset(n); name != "" {
			return name + " is not set"
		}
	}
	if left.literal() {
		left, c.LTarget = right, c.RTarget
	}
	if left.literal() {
		return "the constraint never holds"
	}
	value, _ := left.resolve(n)
	if value == "" {
		return c.LTarget + " is empty"
	}
	return c.LTarget + " is " + shortened(value)
}

func shortened(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func poolRuleOf(job *api.Job) rule {
	pool := poolOf(job.NodePool)
	return rule{
		text: "node pool " + pool,
		ok:   func(n *api.Node) bool { return pool == allPools || pool == poolOf(n.NodePool) },
		miss: func(n *api.Node) string {
			return fmt.Sprintf("node pool is %s, not %s", poolOf(n.NodePool), pool)
		},
	}
}

// allPools is the built-in node pool that every node belongs to.
const allPools = "all"

func datacenterRuleOf(job *api.Job) rule {
	globs := job.Datacenters
	if len(globs) == 0 {
		globs = []string{"*"}
	}
	names := strings.Join(globs, ", ")
	return rule{
		text: "datacenter in " + names,
		ok: func(n *api.Node) bool {
			return slices.ContainsFunc(globs, func(glob string) bool {
				match, err := path.Match(glob, n.Datacenter)
				return match || err != nil && glob == n.Datacenter
			})
		},
		miss: func(n *api.Node) string {
			return fmt.Sprintf("datacenter is %s, not in %s", n.Datacenter, names)
		},
	}
}

// driverRule asks for a driver that the node detected and finds healthy. A node that lists no such driver may still name it
// among its attributes.
func driverRule(name string) rule {
	return rule{
		text: fmt.Sprintf("missing drivers %q", name),
		ok: func(n *api.Node) bool {
			if d := n.Drivers[name]; d != nil {
				return d.Detected && d.Healthy
			}
			on, err := strconv.ParseBool(n.Attributes["driver."+name])
			return err == nil && on
		},
		miss: func(n *api.Node) string {
			switch d := n.Drivers[name]; {
			case d == nil || !d.Detected && d.HealthDescription == "":
				return fmt.Sprintf("driver %q is missing", name)
			case !d.Detected:
				return fmt.Sprintf("driver %q is missing: %s", name, d.HealthDescription)
			case d.HealthDescription == "":
				return fmt.Sprintf("driver %q is unhealthy", name)
			default:
				return fmt.Sprintf("driver %q is unhealthy: %s", name, d.HealthDescription)
			}
		},
	}
}

// networkRule refuses every node: tasks share their node's network, and no other mode is offered yet.
func networkRule(mode string) rule {
	return rule{
		text: fmt.Sprintf("network mode %q", mode),
		ok:   func(*api.Node) bool { return false },
		miss: func(*api.Node) string { return fmt.Sprintf("network mode %q is not offered", mode) },
	}
}
