package jobspec_test

import (
	"errors"
	"testing"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/jobspec"
)

func TestFormat(t *testing.T) {
	for rule, row := range map[string]struct{ in, want string }{
		"indentation and alignment": {"job \"a\" {\ntype=\"batch\"\n  priority   = 5\n}\n", "job \"a\" {\n  type     = \"batch\"\n  priority = 5\n}\n"},
		"comments stay":             {"# one\njob \"a\" { # two\n    // three\n}", "# one\njob \"a\" { # two\n  // three\n}\n"},
		"text for the node stays":   {"a=\"${ NOMAD_DC }\"\n\n\n", "a = \"${NOMAD_DC}\"\n"},
		"heredocs stay":             {"a = <<EOT\n   x=1\nEOT\n", "a = <<EOT\n   x=1\nEOT\n"},
		"invalid job, valid text":   {"jab {}\n", "jab {}\n"},
		"nothing":                   {" \n", ""},
	} {
		t.Run(rule, func(t *testing.T) {
			got, err := jobspec.Format("f.hcl", []byte(row.in))
			if err != nil || string(got) != row.want {
				t.Errorf("Format(%q) = %q, %v; want %q", row.in, got, err, row.want)
			}
			again, err := jobspec.Format("f.hcl", got)
			if err != nil || string(again) != string(got) {
				t.Errorf("formatted twice: %q, %v; want %q", again, err, got)
			}
		})
	}
	if _, err := jobspec.Format("f.hcl", []byte("job {")); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("broken text: %v, want an error of kind ErrInvalid", err)
	}
}
