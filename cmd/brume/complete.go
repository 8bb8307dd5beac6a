package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api/client"
)

// lister names what may stand for an argument that begins with prefix.
type lister func(ctx context.Context, cl *client.Client, prefix string) ([]string, error)

// completionTimeout bounds how long a shell waits for a hub, in all.
const completionTimeout = 2 * time.Second

// complete asks the hub for the first argument's completions; a hub that does not answer completes nothing.
func (c *cli) complete(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cl, err := c.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		ids, err := list(ctx, cl, prefix)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func jobIDs(ctx context.Context, cl *client.Client, prefix string) ([]string, error) {
	jobs, _, err := cl.Jobs(ctx, client.Query{Prefix: prefix})
	return names(jobs, func(i int) string { return jobs[i].ID }), err
}

func allocIDs(ctx context.Context, cl *client.Client, prefix string) ([]string, error) {
	allocs, _, err := cl.Allocations(ctx, client.Query{Prefix: prefix})
	return names(allocs, func(i int) string { return allocs[i].ID + "\t" + allocs[i].Name }), err
}

func nodeIDs(ctx context.Context, cl *client.Client, prefix string) ([]string, error) {
	nodes, _, err := cl.Nodes(ctx, client.Query{Prefix: prefix})
	return names(nodes, func(i int) string { return nodes[i].ID + "\t" + nodes[i].Name }), err
}

func evalIDs(ctx context.Context, cl *client.Client, prefix string) ([]string, error) {
	evals, _, err := cl.Evaluations(ctx, client.Query{Prefix: prefix})
	return names(evals, func(i int) string { return evals[i].ID + "\t" + evals[i].JobID }), err
}

func names[T any](list []T, name func(i int) string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = name(i)
	}
	return out
}
