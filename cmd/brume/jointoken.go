package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
)

func (c *cli) joinTokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "join-token", Short: "Admit machines to the cluster"}
	cmd.AddCommand(c.joinTokenCreateCmd(), c.joinTokenListCmd())
	return cmd
}

func (c *cli) joinTokenCreateCmd() *cobra.Command {
	req := api.JoinTokenRequest{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, once: give it to machines as BRUME_JOIN_TOKEN or in a file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Uses < 1 {
				return fmt.Errorf("--uses %d: a token admits at least one machine", req.Uses)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			req.TTL = int64(ttl)
			reply, err := cl.CreateJoinToken(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("join token: %w", err)
			}
			if c.output == outputJSON {
				return c.printJSON(reply)
			}
			// The token alone on standard output, so that TOKEN=$(brume join-token create) works.
			fmt.Fprintf(c.err, "Admits %s until %s:\n", plural(req.Uses, req.Role), time.Unix(0, reply.Expires).Format(time.RFC3339))
			c.printf("%s\n", reply.Token)
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Role, "role", "agent", "what it admits: agent")
	cmd.Flags().IntVar(&req.Uses, "uses", 1, "how many machines it admits")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good for")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"agent"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) joinTokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens that still admit somebody; their secrets are not kept",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			tokens, err := cl.JoinTokens(cmd.Context())
			if err != nil {
				return fmt.Errorf("join tokens: %w", err)
			}
			if c.output == outputJSON {
				return c.printJSON(tokens)
			}
			t := newTable("ID", "ROLE", "USES LEFT", "EXPIRES")
			for _, tok := range tokens {
				t.add(tok.ID, tok.Role, fmt.Sprint(tok.Uses), time.Unix(0, tok.Expires).Format(time.RFC3339))
			}
			c.printTable(t)
			return nil
		},
	}
}
