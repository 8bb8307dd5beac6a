package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/brumehq/brume/api"
)

// A typing error is an error, never a help text that exits with 0, and says how to go on.
func TestWrongUseIsRefusedWithTheWayOut(t *testing.T) {
	tests := []struct {
		rule string
		args []string
		want string
	}{
		{"unknown verb", []string{"frobnicate"}, "brume --help"},
		{"mistyped noun", []string{"jbo", "status"}, `did you mean "job"?`},
		{"mistyped verb", []string{"job", "rum", "x.hcl"}, `did you mean "run"?`},
		{"unknown shell", []string{"completion", "nosuch"}, "brume completion --help"},
		{"missing argument", []string{"job", "run"}, "brume job run FILE"},
		{"too many arguments", []string{"alloc", "stop", "a", "b"}, "brume alloc stop ALLOCATION"},
		{"empty argument", []string{"alloc", "stop", ""}, "argument 1 is empty"},
		{"empty job", []string{"job", "stop", "--purge", ""}, "argument 1 is empty"},
		{"no line to show", []string{"alloc", "logs", "--tail", "0", "a"}, "--tail 0"},
		{"less than no line", []string{"alloc", "logs", "--tail", "-5", "a"}, "--tail -5"},
		{"token for nobody", []string{"join-token", "create", "--uses", "0"}, "--uses 0"},
		{"address without a scheme", []string{"--address", "127.0.0.1:1", "job", "status"}, "want http://HOST:PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			c := newCLI(strings.NewReader(""), t.Output(), t.Output())
			root := c.root()
			root.SetArgs(tt.args)
			err := root.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("brume %s: error %v, want one with %q", strings.Join(tt.args, " "), err, tt.want)
			}
		})
	}
}

// What stands between a user and the hub has a way out; what the hub says of the user's own request stands for itself, and
// advice for users of a cluster is not given to those that are one.
func TestAdvice(t *testing.T) {
	busy := errors.New("gossip: listen tcp 0.0.0.0:4648: bind: address already in use")
	tests := []struct {
		rule string
		args string
		err  error
		want string
	}{
		{"no hub there", "job status", fmt.Errorf("hub h: %w", syscall.ECONNREFUSED), "BRUME_ADDR"},
		{"no token", "join-token create", fmt.Errorf("job: %w", api.ErrDenied), "BRUME_TOKEN"},
		{"plain HTTP to a hub", "node status", errors.New("Client sent an HTTP request to an HTTPS server. (status 400)"), "https://"},
		{"the job is wrong", "job run", fmt.Errorf("job: %w", api.ErrInvalid), ""},
		{"an agent's denial is not for a token of the API", "agent", api.ErrDenied, ""},
		{"a hub's port is taken", "hub", busy, "--http, --rpc, --gossip"},
		{"an agent's port is taken", "agent", busy, "with --gossip;"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			cmd, _, err := newCLI(strings.NewReader(""), t.Output(), t.Output()).root().Find(strings.Fields(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			if got := advice(cmd, tt.err); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("advice = %q, want one with %q", got, tt.want)
			}
		})
	}
}
