package jobspec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/brumehq/brume/api"
)

// MaxSource is the largest job file, in bytes.
const MaxSource = 1 << 20

// Options says where the values of a file's variables come from and what its functions may read. A later source wins:
// default in the file, Env, VarFiles in their order, Vars.
type Options struct {
	Vars     []string // NAME=VALUE
	VarFiles []File
	Env      []string // NAME=VALUE as in os.Environ; NOMAD_VAR_x and, before it, BRUME_VAR_x set the variable x
	Lenient  bool     // a variable that the file does not declare is a warning in Vars and VarFiles, not an error

	AllowFS bool   // functions may read files
	Dir     string // relative paths in functions start here; "" is the working directory
}

// File is a file that a caller has read.
type File struct {
	Name   string
	Source []byte
}

// Parse reads a job file. Warnings are about its text only: (*api.Job).Warnings has those about what it asks for.
// The error is an *Error, which is of kind api.ErrInvalid and lists all that is wrong.
func Parse(filename string, src []byte, opts Options) (job *api.Job, warnings []string, err error) {
	p := &parser{filename: filename, opts: opts, sources: map[string][]byte{filename: src}, names: make(map[string][]string)}
	body, ok := p.syntax(filename, src)
	if ok {
		job = p.file(body)
	}
	warnings = p.warnings()
	if err := p.err(); err != nil {
		return nil, warnings, err
	}
	return job, warnings, nil
}

// parser holds what the steps of one Parse share.
type parser struct {
	filename string
	opts     Options
	sources  map[string][]byte   // by file name, for excerpts
	secrets  []string            // values of sensitive variables, never to be shown
	names    map[string][]string // of what is declared, sorted, under "var" and "local"
	spent    int                 // of the budget
	diags    hcl.Diagnostics
}

// source keeps a text for excerpts and returns the name that positions in it have: its own, or one like it if another text
// has that already.
func (p *parser) source(name string, src []byte) string {
	unique := name
	for n := 2; p.sources[unique] != nil; n++ {
		unique = fmt.Sprintf("%s (%d)", name, n)
	}
	p.sources[unique] = src
	return unique
}

// syntax parses HCL text; it refuses what would need too deep a stack to read.
func (p *parser) syntax(filename string, src []byte) (*hclsyntax.Body, bool) {
	start := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	switch trimmed := bytes.TrimSpace(src); {
	case len(src) > MaxSource:
		p.fail(start, "File too large", "A job file has at most %d bytes.", MaxSource)
		return nil, false
	case len(trimmed) > 0 && trimmed[0] == '{':
		p.fail(start, "JSON instead of HCL", "Job files in JSON are read with --json, in the form of the API.")
		return nil, false
	}
	if !p.withinLimits(src, filename) {
		return nil, false
	}
	f, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	p.diags = append(p.diags, diags...)
	if f == nil || diags.HasErrors() {
		return nil, false
	}
	return f.Body.(*hclsyntax.Body), true
}

// file decodes the top level of a job file.
func (p *parser) file(body *hclsyntax.Body) *api.Job {
	kinds := make(map[string][]*hclsyntax.Block)
	for _, b := range body.Blocks {
		switch b.Type {
		case "job", "variable", "variables", "locals":
			kinds[b.Type] = append(kinds[b.Type], b)
		default:
			p.fail(b.TypeRange, "Unknown block", "%s", unknown(b.Type, []string{"job", "variable", "variables", "locals"}))
		}
	}
	for _, a := range sortedAttributes(body) {
		p.fail(a.NameRange, "Unexpected argument", "A job file has blocks only: job, variable, variables and locals.")
	}
	ctx := &hcl.EvalContext{Functions: p.functions()}
	p.variables(ctx, kinds["variable"], kinds["variables"])
	p.locals(ctx, kinds["locals"])
	jobs := kinds["job"]
	switch len(jobs) {
	case 0:
		p.fail(body.EndRange, "No job", "A job file has one job block.")
		return nil
	case 1:
	default:
		for _, b := range jobs[1:] {
			p.fail(b.DefRange(), "Second job", "A job file has one job block; the first is at line %d.", jobs[0].TypeRange.Start.Line)
		}
	}
	p.runtime(jobs[0].Body, rootScope())
	return p.job(jobs[0], ctx)
}

// job decodes the job block, and checks the job once all of it is known.
func (p *parser) job(b *hclsyntax.Block, ctx *hcl.EvalContext) *api.Job {
	d := &decoder{parser: p, places: make(map[place]hcl.Range), bad: make(map[place]bool)}
	d.jobBlock(block{kind: "job", labels: b.Labels, body: b.Body, ctx: ctx, at: b.DefRange(), close: b.CloseBraceRange})
	d.job.Complete()
	if p.spent <= budget || !p.diags.HasErrors() { // else parts of the job are missing, which is no fault of theirs
		d.validate(b.DefRange())
	}
	return d.job
}

// ParseJSON reads a job in the form of the API's body, {"Job": {…}} or the job alone. Errors are of kind
// api.ErrInvalid.
func ParseJSON(src []byte) (*api.Job, error) {
	if len(src) > MaxSource {
		return nil, invalid("a job file has at most %d bytes", MaxSource)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(src, &top); err != nil {
		return nil, invalid("not a JSON object: %v", err)
	}
	raw := src
	if inner, ok := top["Job"]; ok {
		raw = inner
	} else if inner, ok := top["job"]; ok {
		if !describesJob(inner) {
			return nil, invalid("HCL's own JSON syntax is not supported: write the form of the API, {\"Job\": {\"ID\": …}}")
		}
		raw = inner
	}
	job, err := api.DecodeJob(raw)
	if err != nil {
		return nil, err
	}
	return job, job.Validate()
}

// describesJob tells an API job from HCL's JSON, where the keys of the object are job names.
func describesJob(raw []byte) bool {
	var job map[string]json.RawMessage
	if json.Unmarshal(raw, &job) != nil {
		return false
	}
	for k := range job {
		if strings.EqualFold(k, "ID") || strings.EqualFold(k, "TaskGroups") {
			return true
		}
	}
	return false
}

func invalid(format string, args ...any) error {
	return &api.Error{Kind: api.ErrInvalid, Text: fmt.Sprintf(format, args...)}
}

// fail records an error at a position.
func (p *parser) fail(at hcl.Range, summary, format string, args ...any) {
	p.diags = append(p.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at,
	})
}

// warn records a warning at a position.
func (p *parser) warn(at hcl.Range, summary, format string, args ...any) {
	p.diags = append(p.diags, &hcl.Diagnostic{
		Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at,
	})
}

// sortedAttributes returns a body's attributes in the order of the text.
func sortedAttributes(b *hclsyntax.Body) []*hclsyntax.Attribute {
	list := make([]*hclsyntax.Attribute, 0, len(b.Attributes))
	for _, a := range b.Attributes {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.NameRange.Start.Byte, b.NameRange.Start.Byte)
	})
	return list
}

// fieldErrors lists the problems that (*api.Job).Validate joined.
func fieldErrors(err error) []*api.FieldError {
	var list []*api.FieldError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if fe, ok := errors.AsType[*api.FieldError](e); ok {
				list = append(list, fe)
			}
		}
	}
	return list
}
