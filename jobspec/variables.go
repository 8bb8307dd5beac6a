package jobspec

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/brumehq/brume/api"
)

// envPrefix begins environment variables that set a job file's variables; it goes before api.EnvVarPrefix.
const envPrefix = "BRUME_VAR_"

// variable is a variable that a file declares.
type variable struct {
	name        string
	at          hcl.Range
	kind        cty.Type
	optional    *typeexpr.Defaults
	value       cty.Value // cty.NilVal until it has one
	broken      bool      // reported already
	sensitive   bool
	validations []validation
}

type validation struct {
	condition hclsyntax.Expression
	message   hclsyntax.Expression
}

// variables decodes the declarations, gives each variable its value and puts them into ctx as "var".
func (p *parser) variables(ctx *hcl.EvalContext, blocks, short []*hclsyntax.Block) {
	declared := make(map[string]*variable)
	for _, b := range blocks {
		if v := p.declaration(ctx, b); v != nil {
			p.declare(declared, v)
		}
	}
	for _, b := range short {
		for _, v := range p.shortDeclarations(ctx, b) {
			p.declare(declared, v)
		}
	}
	p.names["var"] = slices.Sorted(maps.Keys(declared))
	p.fromEnv(ctx, declared)
	p.fromFiles(ctx, declared)
	p.fromFlags(ctx, declared)

	values := make(map[string]cty.Value, len(declared))
	for _, name := range p.names["var"] {
		v := declared[name]
		switch {
		case v.broken:
			v.value = cty.DynamicVal
		case v.value == cty.NilVal:
			p.fail(v.at, "Variable without a value", "%q has no default: set it with --var %s=VALUE, in a --var-file, or in %s%s.",
				name, name, api.EnvVarPrefix, name)
			v.value = cty.DynamicVal
		}
		values[name] = v.value
		p.hide(v)
		p.check(ctx, v)
	}
	if ctx.Variables == nil {
		ctx.Variables = make(map[string]cty.Value)
	}
	ctx.Variables["var"] = cty.ObjectVal(values)
}

func (p *parser) declare(declared map[string]*variable, v *variable) {
	if first, dup := declared[v.name]; dup {
		p.fail(v.at, "Duplicate variable", "%q is declared already, at line %d.", v.name, first.at.Start.Line)
		return
	}
	declared[v.name] = v
}

// declaration decodes a variable block.
func (p *parser) declaration(ctx *hcl.EvalContext, b *hclsyntax.Block) *variable {
	if len(b.Labels) != 1 {
		p.fail(b.DefRange(), "Wrong labels", "A variable block has one label, its name.")
		return nil
	}
	v := &variable{name: b.Labels[0], at: b.DefRange(), kind: cty.DynamicPseudoType}
	if !hclsyntax.ValidIdentifier(v.name) {
		p.fail(b.DefRange(), "Wrong name", "%q cannot be the name of a variable.", v.name)
		return nil
	}
	if a := b.Body.Attributes["type"]; a != nil {
		v.kind, v.optional = p.typeOf(a.Expr)
	}
	for _, a := range sortedAttributes(b.Body) {
		switch a.Name {
		case "type":
		case "default":
			p.give(v, a.Expr, ctx)
		case "description":
			p.constantString(a.Expr)
		case "sensitive":
			if val, ok := p.value(a.Expr, nil); ok {
				if val, err := convert.Convert(val, cty.Bool); err != nil || val.IsNull() {
					p.fail(a.Expr.Range(), "Wrong value", "sensitive is true or false.")
				} else {
					v.sensitive = val.True()
				}
			}
		default:
			p.fail(a.NameRange, "Unknown argument", "%s",
				unknown(a.Name, []string{"type", "default", "description", "sensitive", "validation"}))
		}
	}
	for _, c := range b.Body.Blocks {
		if c.Type != "validation" {
			p.fail(c.TypeRange, "Unknown block", "%s", unknown(c.Type, []string{"validation"}))
			continue
		}
		if val, ok := p.validation(c); ok {
			v.validations = append(v.validations, val)
		}
	}
	return v
}

func (p *parser) validation(b *hclsyntax.Block) (validation, bool) {
	var val validation
	ok := true
	for _, a := range sortedAttributes(b.Body) {
		switch a.Name {
		case "condition":
			val.condition = a.Expr
		case "error_message":
			val.message = a.Expr
		default:
			p.fail(a.NameRange, "Unknown argument", "%s", unknown(a.Name, []string{"condition", "error_message"}))
			ok = false
		}
	}
	for _, c := range b.Body.Blocks {
		p.fail(c.TypeRange, "Unexpected block", "validation holds condition and error_message only.")
		ok = false
	}
	if val.condition == nil || val.message == nil {
		p.fail(b.DefRange(), "Missing argument", "A validation needs condition and error_message.")
		ok = false
	}
	return val, ok
}

// shortDeclarations decodes a variables block: names and their defaults.
func (p *parser) shortDeclarations(ctx *hcl.EvalContext, b *hclsyntax.Block) []*variable {
	if len(b.Labels) > 0 {
		p.fail(b.DefRange(), "Wrong labels", "A variables block has none.")
	}
	for _, c := range b.Body.Blocks {
		p.fail(c.TypeRange, "Unexpected block", "variables holds names and defaults only.")
	}
	var list []*variable
	for _, a := range sortedAttributes(b.Body) {
		v := &variable{name: a.Name, at: a.NameRange, kind: cty.DynamicPseudoType}
		p.give(v, a.Expr, ctx)
		list = append(list, v)
	}
	return list
}

// typeOf decodes a type constraint; older files have it in quotes.
func (p *parser) typeOf(expr hclsyntax.Expression) (cty.Type, *typeexpr.Defaults) {
	var e hcl.Expression = expr
	if t, ok := expr.(*hclsyntax.TemplateExpr); ok && t.IsStringLiteral() {
		val, _ := t.Value(nil)
		inner, diags := hclsyntax.ParseExpression([]byte(val.AsString()), expr.Range().Filename, expr.Range().Start)
		if !diags.HasErrors() {
			e = inner
		}
	}
	kind, defaults, diags := typeexpr.TypeConstraintWithDefaults(e)
	p.diags = append(p.diags, diags...)
	if diags.HasErrors() {
		return cty.DynamicPseudoType, nil
	}
	return kind, defaults
}

func (p *parser) constantString(expr hclsyntax.Expression) {
	if val, ok := p.value(expr, nil); ok && (val.IsNull() || val.Type() != cty.String) {
		p.fail(expr.Range(), "Wrong value", "want a string, not %s.", describe(val))
	}
}

// give evaluates an expression as the value of a variable. Functions may be called, other variables not.
func (p *parser) give(v *variable, expr hclsyntax.Expression, ctx *hcl.EvalContext) {
	for _, t := range hclsyntax.Variables(expr) {
		if rootScope()[t.RootName()] {
			p.fail(t.SourceRange(), "Unexpected reference", "The value of a variable cannot refer to variables and locals.")
			v.broken = true
			return
		}
	}
	val, ok := p.value(p.literal(expr, rootScope()), &hcl.EvalContext{Functions: ctx.Functions})
	if !ok {
		v.broken = true
		return
	}
	if v.optional != nil && !val.IsNull() {
		val = v.optional.Apply(val)
	}
	converted, err := convert.Convert(val, v.kind)
	if err != nil {
		p.fail(expr.Range(), "Wrong value", "variable %q is %s: %v.", v.name, typeexpr.TypeString(v.kind), err)
		v.broken = true
		return
	}
	if !p.spend(converted) { // a number may have been given as a text
		p.diags = append(p.diags, charged{expr, p}.tooMuch())
		v.broken = true
		return
	}
	v.value, v.broken = converted, false
}

// fromEnv takes values from the environment, which may hold names that are meant for other files.
func (p *parser) fromEnv(ctx *hcl.EvalContext, declared map[string]*variable) {
	for _, prefix := range []string{api.EnvVarPrefix, envPrefix} { // the later one wins
		for _, entry := range p.opts.Env {
			key, value, _ := strings.Cut(entry, "=")
			name, ok := strings.CutPrefix(key, prefix)
			if v := declared[name]; ok && v != nil {
				p.giveText(ctx, v, value, "environment "+key)
			}
		}
	}
}

// fromFiles takes values from --var-file files: arguments only.
func (p *parser) fromFiles(ctx *hcl.EvalContext, declared map[string]*variable) {
	for _, f := range p.opts.VarFiles {
		name := p.source(f.Name, f.Source)
		body, ok := p.syntax(name, f.Source)
		if !ok {
			continue
		}
		for _, b := range body.Blocks {
			p.fail(b.TypeRange, "Unexpected block", "A file of variables holds NAME = VALUE only.")
		}
		for _, a := range sortedAttributes(body) {
			if v := declared[a.Name]; v != nil {
				p.give(v, a.Expr, ctx)
				continue
			}
			p.undeclared(a.NameRange, a.Name)
		}
	}
}

// fromFlags takes values from --var flags.
func (p *parser) fromFlags(ctx *hcl.EvalContext, declared map[string]*variable) {
	for _, flag := range p.opts.Vars {
		name, value, ok := strings.Cut(flag, "=")
		at := hcl.Range{Filename: "--var " + name, Start: hcl.InitialPos, End: hcl.InitialPos}
		v := declared[name]
		switch {
		case !ok:
			p.fail(at, "Wrong flag", "--var wants NAME=VALUE.")
		case v == nil:
			p.undeclared(at, name)
		default:
			p.giveText(ctx, v, value, "--var "+name)
		}
	}
}

func (p *parser) undeclared(at hcl.Range, name string) {
	report := p.fail
	if p.opts.Lenient {
		report = p.warn
	}
	hint := ""
	if n, ok := nearest(name, p.names["var"]); ok {
		hint = "; did you mean \"" + n + "\"?"
	}
	report(at, "Undeclared variable", "the job file declares no variable %q%s", name, hint)
}

// giveText gives a variable a value that was written outside a file: the text itself for a string, else an expression.
func (p *parser) giveText(ctx *hcl.EvalContext, v *variable, value, source string) {
	if v.kind == cty.String || v.kind == cty.DynamicPseudoType && (v.value == cty.NilVal || v.value.Type() == cty.String) {
		v.value, v.broken = cty.StringVal(value), false
		return
	}
	source = p.source(source, []byte(value))
	v.broken = true
	if !p.withinLimits([]byte(value), source) {
		return
	}
	expr, diags := hclsyntax.ParseExpression([]byte(value), source, hcl.InitialPos)
	p.diags = append(p.diags, diags...)
	if diags.HasErrors() {
		return
	}
	p.give(v, expr, ctx)
}

// hide notes the texts of a sensitive variable, so that no message shows them.
func (p *parser) hide(v *variable) {
	if !v.sensitive || !v.value.IsWhollyKnown() {
		return
	}
	_ = cty.Walk(v.value, func(_ cty.Path, e cty.Value) (bool, error) {
		if !e.IsNull() && e.Type() == cty.String && e.AsString() != "" {
			p.secrets = append(p.secrets, e.AsString())
		}
		return true, nil
	})
	slices.SortFunc(p.secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

// check evaluates the validations of a variable, which may refer to the variable itself only.
func (p *parser) check(ctx *hcl.EvalContext, v *variable) {
	if !v.value.IsWhollyKnown() {
		return
	}
	self := &hcl.EvalContext{
		Functions: ctx.Functions,
		Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.name: v.value})},
	}
	for _, val := range v.validations {
		ok, good := p.value(p.literal(val.condition, scope{"var": true}), self)
		if !good {
			continue
		}
		ok, err := convert.Convert(ok, cty.Bool)
		if err != nil || ok.IsNull() {
			p.fail(val.condition.Range(), "Wrong condition", "A condition is true or false.")
			continue
		}
		if ok.True() {
			continue
		}
		message, good := p.value(p.literal(val.message, scope{"var": true}), self)
		if !good {
			continue
		}
		text, err := text(message)
		if err != nil {
			p.fail(val.message.Range(), "Wrong value", "error_message: %v.", err)
			continue
		}
		p.fail(v.at, "Invalid value", "variable %q: %s", v.name, text)
	}
}
