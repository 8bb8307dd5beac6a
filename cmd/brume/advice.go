package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
)

// advice is the way out of the error that cmd ended with, "" if there is nothing to add.
func advice(cmd *cobra.Command, err error) string {
	switch {
	// The text, because gossip does not wrap its error.
	case strings.Contains(err.Error(), syscall.EADDRINUSE.Error()):
		return portAdvice(cmd)
	case !talksToHub(cmd):
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return `No hub answers there. Start one with "brume dev" or "brume hub", or name one with --address or BRUME_ADDR.`
	case errors.Is(err, api.ErrDenied):
		return `Give a token of this cluster in BRUME_TOKEN or with --token; the machine that made it keeps one in the hub's data directory.`
	case isUnknownAuthority(err):
		return `The context knows another address. Name the authority's certificate in BRUME_CACERT (ca.crt in the hub's data directory).`
	case strings.Contains(err.Error(), "HTTP request to an HTTPS server"):
		return `The hub speaks HTTPS: begin the address with https://.`
	}
	return ""
}

// portAdvice names the flags with which cmd listens elsewhere.
func portAdvice(cmd *cobra.Command) string {
	var flags []string
	for _, name := range []string{"http", "rpc", "gossip"} {
		if cmd.Flags().Lookup(name) != nil {
			flags = append(flags, "--"+name)
		}
	}
	if len(flags) == 0 {
		return ""
	}
	return fmt.Sprintf("Another program has that port, perhaps another hub or agent: name another with %s; a start remembers it.", strings.Join(flags, ", "))
}

func isUnknownAuthority(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

// talksToHub reports whether cmd is one that needs a hub, and not one that is a hub or an agent itself.
func talksToHub(cmd *cobra.Command) bool {
	for ; cmd.HasParent(); cmd = cmd.Parent() {
		if cmd.GroupID == groupUse || cmd.Name() == "join-token" {
			return true
		}
	}
	return false
}

// explainArgs makes every verb below root say how it is called when its arguments are wrong, and refuse a verb that there
// is not: a typing error must not look like success.
func explainArgs(root *cobra.Command) {
	if check := root.Args; check != nil && root.Runnable() {
		root.Args = func(cmd *cobra.Command, args []string) error {
			// An unset variable in a script is no prefix of everything.
			if i := slices.Index(args, ""); i >= 0 {
				return fmt.Errorf("argument %d is empty; it is called as: %s", i+1, cmd.UseLine())
			}
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w; it is called as: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	if !root.Runnable() && root.HasSubCommands() {
		root.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			err := fmt.Errorf("%q has no verb %q", cmd.CommandPath(), args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("%w; did you mean %q?", err, near[0])
			}
			return fmt.Errorf("%w; see \"%s --help\"", err, cmd.CommandPath())
		}
		root.Args = cobra.ArbitraryArgs
		root.SuggestionsMinimumDistance = 2
	}
	for _, cmd := range root.Commands() {
		explainArgs(cmd)
	}
}
