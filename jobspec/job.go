package jobspec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/brumehq/brume/api"
)

func quote(s string) string { return strconv.Quote(s) }

// jobBlock decodes the job: its type first, since the defaults depend on it.
func (d *decoder) jobBlock(b block) {
	jobType := ""
	if a := b.body.Attributes["type"]; a != nil {
		if v, diags := a.Expr.Value(b.ctx); !diags.HasErrors() && v.IsWhollyKnown() {
			v, _ = v.UnmarkDeep()
			_ = assign(reflect.ValueOf(&jobType).Elem(), v) // reported when the argument is decoded
		}
	}
	d.job = api.NewJob(jobType)
	if len(b.labels) == 1 {
		d.job.ID, d.job.Name = b.labels[0], b.labels[0]
	} else {
		d.fail(b.at, "Wrong labels", "A job block has one label, its id.")
		d.bad[place{"", "id"}] = true
	}
	b.labels = nil
	d.fill(b, reflect.ValueOf(d.job).Elem(), "", custom{
		names: []string{"task"},
		block: func(child block) bool {
			if child.kind == "task" {
				d.taskInJob(child)
			}
			return child.kind == "task"
		},
	})
}

// taskInJob decodes a task that stands in the job itself: it is alone in a group of its name.
func (d *decoder) taskInJob(b block) {
	g := d.job.NewGroup()
	d.group = g
	if len(b.labels) == 1 {
		g.Name = b.labels[0]
	}
	t := g.NewTask()
	where := "group " + quote(g.Name)
	d.places[place{where, ""}] = b.at
	d.fill(b, reflect.ValueOf(t).Elem(), d.path(b, position{where, 0, 1}), custom{})
	g.Tasks = []*api.Task{t}
	d.job.TaskGroups = append(d.job.TaskGroups, g)
}

// custom returns what a block takes beside the fields of its struct.
func (d *decoder) custom(b block, elem reflect.Value, where string) custom {
	switch p := elem.Interface().(type) {
	case api.Constraint:
		return d.operatorNames(b, elem.Addr().Interface().(*api.Constraint), where)
	case *api.Network:
		return custom{names: []string{"port"}, block: func(child block) bool {
			if child.kind == "port" {
				d.port(child, p, where)
			}
			return child.kind == "port"
		}}
	}
	return custom{}
}

// port adds a port to its network: a reserved one if it is static.
func (d *decoder) port(b block, n *api.Network, where string) {
	var p api.Port
	d.fill(b, reflect.ValueOf(&p).Elem(), d.path(b, position{where, 0, 1}), custom{})
	switch {
	case len(b.labels) != 1:
		// reported
	case p.Value != 0:
		n.ReservedPorts = append(n.ReservedPorts, p)
	default:
		n.DynamicPorts = append(n.DynamicPorts, p)
	}
}

// operators are those that a constraint may name as an argument: version = ">= 1.2" says operator and value at once.
var operators = []string{
	api.OperandVersion, api.OperandSemver, api.OperandRegexp, api.OperandSetContains, api.OperandSetContainsAll,
	api.OperandSetContainsAny, api.OperandIsSet, api.OperandIsNotSet, api.OperandDistinctHosts, api.OperandDistinctProperty,
}

func (d *decoder) operatorNames(b block, c *api.Constraint, where string) custom {
	var first *hclsyntax.Attribute
	return custom{names: operators, attribute: func(a *hclsyntax.Attribute) bool {
		if a.Name == "operator" && first == nil {
			first = a
			return false
		}
		if a.Name != "operator" && !slices.Contains(operators, a.Name) {
			return false
		}
		if first != nil {
			d.fail(a.SrcRange, "Two operators", "The constraint has %s already, at line %d.", first.Name, first.NameRange.Start.Line)
			return true
		}
		first = a
		c.Operand = a.Name
		d.places[place{where, "operator"}] = a.SrcRange
		d.operand(a, b, c, where)
		return true
	}}
}

// operand stores the value of an operator that is written as an argument.
func (d *decoder) operand(a *hclsyntax.Attribute, b block, c *api.Constraint, where string) {
	at := place{where, "value"}
	target := &c.RTarget
	v, ok := d.value(a.Expr, b.ctx)
	switch a.Name {
	case api.OperandDistinctProperty:
		at.field, target = "attribute", &c.LTarget
	case api.OperandIsSet, api.OperandIsNotSet:
		if ok && !v.IsNull() && v.Type() == cty.Bool {
			if v.False() {
				d.fail(a.Expr.Range(), "Wrong value", "%s is true, or the attribute itself.", a.Name)
			}
			return
		}
		at.field, target = "attribute", &c.LTarget
	}
	d.places[at] = a.SrcRange
	if !ok {
		d.bad[at] = true
		return
	}
	if err := assign(reflect.ValueOf(target).Elem(), v); err != nil {
		d.bad[at] = true
		d.fail(a.Expr.Range(), "Wrong value", "%s: %v.", a.Name, err)
	}
}

// validate checks the whole job and gives each problem its place in the text. What could not be decoded is not
// reported twice.
func (d *decoder) validate(job hcl.Range) {
	for _, fe := range fieldErrors(d.job.Validate()) {
		if d.bad[place{fe.Where, fe.Field}] {
			continue
		}
		at, ok := d.find(fe)
		if !ok {
			at = job
		}
		d.fail(at, "Invalid job", "%v.", fe)
	}
}

// find returns where a field stands: the argument, the block of that name, or the nearest block around it.
func (d *decoder) find(fe *api.FieldError) (hcl.Range, bool) {
	inner := strings.TrimSpace(fe.Where + " " + fe.Field)
	for _, p := range []place{{fe.Where, fe.Field}, {inner, ""}, {inner + " 1", ""}, {fe.Where, ""}} {
		if at, ok := d.places[p]; ok {
			return at, true
		}
	}
	where := fe.Where
	for where != "" {
		where = where[:max(strings.LastIndexByte(where, ' '), 0)]
		if at, ok := d.places[place{where, ""}]; ok && where != "" {
			return at, true
		}
	}
	return hcl.Range{}, false
}
