package jobspec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"

	"github.com/brumehq/brume/api"
)

// Error lists all that is wrong with a job file.
type Error struct {
	Diags   hcl.Diagnostics // errors only, in the order of the text
	sources map[string][]byte
	secrets []string
}

// maxShown is how many problems Error spells out.
const maxShown = 20

// Error gives each problem its position and the line of the file:
//
//	web.hcl:7,5: Unknown argument: there is no "coount" here; did you mean "count"?
//	    7 |     coount = 3
//	      |     ^^^^^^
func (e *Error) Error() string {
	var b strings.Builder
	for i, d := range e.Diags {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more", len(e.Diags)-maxShown)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(headline(d))
		if d.Subject != nil {
			excerpt(&b, e.sources[d.Subject.Filename], *d.Subject)
		}
	}
	return redact(b.String(), e.secrets)
}

// Is reports that a bad job file is of kind api.ErrInvalid.
func (e *Error) Is(target error) bool { return target == api.ErrInvalid }

// err returns what is wrong so far, nil if nothing is.
func (p *parser) err() error {
	var list hcl.Diagnostics
	for _, d := range p.diags {
		if d.Severity == hcl.DiagError {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b *hcl.Diagnostic) int {
		x, y := subject(a), subject(b)
		return cmp.Or(cmp.Compare(x.Filename, y.Filename), cmp.Compare(x.Start.Byte, y.Start.Byte))
	})
	return &Error{Diags: list, sources: p.sources, secrets: p.secrets}
}

func (p *parser) warnings() []string {
	var list []string
	for _, d := range p.diags {
		if d.Severity == hcl.DiagWarning {
			list = append(list, redact(headline(d), p.secrets))
		}
	}
	return list
}

func subject(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

func headline(d *hcl.Diagnostic) string {
	text := d.Summary
	if d.Detail != "" {
		text += ": " + d.Detail
	}
	if d.Subject == nil {
		return text
	}
	return fmt.Sprintf("%s:%d,%d: %s", d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column, text)
}

// maxExcerpt is how much of a line an excerpt shows, in bytes.
const maxExcerpt = 160

// excerpt writes the line at which a range starts, and marks the range in it.
func excerpt(b *strings.Builder, src []byte, at hcl.Range) {
	if at.Start.Byte > len(src) {
		return
	}
	begin := bytes.LastIndexByte(src[:at.Start.Byte], '\n') + 1
	end := len(src)
	if n := bytes.IndexByte(src[begin:], '\n'); n >= 0 {
		end = begin + n
	}
	line := bytes.TrimRight(src[begin:end], "\r")
	from := min(at.Start.Byte-begin, len(line))
	to := min(max(at.End.Byte-begin, from), len(line))
	if len(line) > maxExcerpt { // show what is around the range only
		cut := max(from-maxExcerpt/2, 0)
		line = line[cut:min(cut+maxExcerpt, len(line))]
		from, to = from-cut, min(to-cut, len(line))
	}
	// The mark repeats the line's tabs, so that it stands under the text whatever a tab's width is.
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(line[:from]))
	fmt.Fprintf(b, "\n%5d | %s\n      | %s%s", at.Start.Line, line, indent,
		strings.Repeat("^", max(utf8.RuneCount(line[from:to]), 1)))
}

// redact hides the values of sensitive variables.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "(sensitive)")
	}
	return text
}

// unknown says that a name is not one of those known, and which is nearest.
func unknown(name string, known []string) string {
	text := fmt.Sprintf("there is no %q here", name)
	if n, ok := nearest(name, known); ok {
		return fmt.Sprintf("%s; did you mean %q?", text, n)
	}
	slices.Sort(known)
	return fmt.Sprintf("%s; known are %s.", text, strings.Join(slices.Compact(known), ", "))
}

// What nearest looks at: a file with thousands of wrong names gets its answer all the same, without hints.
const (
	maxCompared       = 300 // names
	maxComparedLength = 64  // bytes of each
)

// nearest returns the known name that is most like a name, if any is like it at all.
func nearest(name string, known []string) (string, bool) {
	if len(name) > maxComparedLength || len(known) > maxCompared {
		return "", false
	}
	best, least := "", 2+len(name)/4
	for _, k := range known {
		if n := levenshtein.Distance(name, k, nil); n < least || n == least && best != "" && k < best {
			best, least = k, n
		}
	}
	return best, best != ""
}
