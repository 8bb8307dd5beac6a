package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

func (c *cli) evalCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "eval", Short: "Look at scheduling decisions"}
	cmd.AddCommand(&cobra.Command{
		Use:               "status [EVALUATION]",
		Short:             "List evaluations, or explain one: what it placed, and why the rest fits nowhere",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.complete(evalIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.listEvals(cmd.Context(), cl)
			}
			return c.showEval(cmd.Context(), cl, args[0])
		},
	})
	return cmd
}

func (c *cli) listEvals(ctx context.Context, cl *client.Client) error {
	evals, _, err := cl.Evaluations(ctx, client.Query{})
	if err != nil {
		return err
	}
	if c.output == outputJSON {
		return c.printJSON(evals)
	}
	slices.SortFunc(evals, func(a, b *api.Evaluation) int { return int(int64(b.CreateIndex) - int64(a.CreateIndex)) })
	head := []string{"ID", "JOB", "TRIGGERED BY", "STATUS", "PLACED ALL", "CREATED"}
	if c.output == outputWide {
		head = append(head, "PRIORITY", "NAMESPACE", "FULL ID")
	}
	t := newTable(head...)
	for _, e := range evals {
		row := []string{short(e.ID), e.JobID, e.TriggeredBy, e.Status, yesNo(len(e.FailedTGAllocs) == 0), c.age(time.Unix(0, e.CreateTime))}
		if c.output == outputWide {
			row = append(row, fmt.Sprint(e.Priority), e.Namespace, e.ID)
		}
		t.add(row...)
	}
	c.printTable(t)
	return nil
}

func (c *cli) showEval(ctx context.Context, cl *client.Client, arg string) error {
	list, _, err := cl.Evaluations(ctx, client.Query{Prefix: arg})
	if err != nil {
		return err
	}
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	id, err := oneOf("evaluation", arg, ids)
	if err != nil {
		return err
	}
	e, _, err := cl.Evaluation(ctx, id, client.Query{})
	if err != nil {
		return fmt.Errorf("evaluation %s: %w", short(id), err)
	}
	if c.output == outputJSON {
		return c.printJSON(e)
	}
	var f facts
	f.add("Evaluation", e.ID)
	f.add("Job", e.JobID)
	f.add("Triggered by", e.TriggeredBy)
	f.add("Status", withReason(e.Status, e.StatusDescription))
	f.add("Priority", fmt.Sprint(e.Priority))
	if !e.WaitUntil.IsZero() {
		f.add("Waits until", e.WaitUntil.Format(time.RFC3339))
	}
	f.add("Node", short(e.NodeID))
	f.add("Follows", short(e.PreviousEval))
	f.add("Next", short(e.NextEval))
	f.add("Blocked as", short(e.BlockedEval))
	f.add("Created", c.age(time.Unix(0, e.CreateTime)))
	c.printFacts(f)
	if len(e.FailedTGAllocs) > 0 {
		c.section("Not placed")
		job, _, _ := cl.Job(ctx, e.JobID, client.Query{Namespace: e.Namespace}) // only for hints: it may be gone
		c.printFailures(job, e)
	}
	allocs, _, err := cl.EvaluationAllocations(ctx, id, client.Query{Params: withResources})
	if err != nil {
		return fmt.Errorf("evaluation %s: allocations: %w", short(id), err)
	}
	if len(allocs) > 0 {
		c.section("Allocations")
		c.printTable(c.allocTable(allocs, columnsOfJob))
	}
	return nil
}

// printFailures says, group by group, how many nodes each rule removed, what came nearest and what would help.
func (c *cli) printFailures(job *api.Job, e *api.Evaluation) {
	for _, line := range failureLines(job, e) {
		c.printf("%s\n", line)
	}
}

func failureLines(_ *api.Job, e *api.Evaluation) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(e.FailedTGAllocs)) {
		m := e.FailedTGAllocs[name]
		missing := max(e.QueuedAllocations[name], m.CoalescedFailures+1)
		out = append(out, fmt.Sprintf("Group %q: %s not placed", name, plural(missing, "allocation")))
		if m.NodesEvaluated == 0 {
			out = append(out, "  no node is ready and eligible"+availability(m),
				"  To make it fit: start an agent, or see \"brume node status\" for nodes that are down")
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(m.ConstraintFiltered)) {
			out = append(out, fmt.Sprintf("  %s: %s", plural(m.ConstraintFiltered[k], "node")+" ruled out", k))
		}
		for _, k := range slices.Sorted(maps.Keys(m.DimensionExhausted)) {
			out = append(out, fmt.Sprintf("  %s: %s", plural(m.DimensionExhausted[k], "node")+" too full", k))
		}
		if m.NearestMiss != "" {
			out = append(out, "  Nearest: "+m.NearestMiss)
		}
		out = append(out, "  To make it fit: "+remedy(m))
	}
	return out
}

func availability(m *api.AllocMetric) string {
	if len(m.NodesAvailable) == 0 {
		return ""
	}
	return " in the job's datacenters and node pool"
}

// remedy names the way out that the larger part of the nodes would need.
func remedy(m *api.AllocMetric) string {
	if m.NodesExhausted > 0 {
		return "ask for less, stop something, or add a node; the job is placed as soon as there is room"
	}
	return "change the job's constraints or driver, or add a node that meets them; the job is placed as soon as one does"
}
