package jobspec

import (
	"bytes"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns a job file, or a file of variables, in the one format: indentation, alignment and spaces; what it
// says, comments included, stays as it is. A file that is formatted comes back equal. The error is an *Error: text that
// cannot be parsed is not touched.
func Format(filename string, src []byte) ([]byte, error) {
	p := &parser{filename: filename, sources: map[string][]byte{filename: src}}
	if _, ok := p.syntax(filename, src); !ok {
		return nil, p.err()
	}
	out := bytes.TrimRight(hclwrite.Format(src), " \t\r\n")
	if len(out) == 0 {
		return nil, nil
	}
	return append(out, '\n'), nil
}
