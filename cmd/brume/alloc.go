package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

func (c *cli) allocCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "alloc", Aliases: []string{"allocation"}, Short: "Look at allocations: state, events, logs; stop one"}
	cmd.AddCommand(c.allocStatusCmd(), c.allocLogsCmd(), c.allocStopCmd())
	return cmd
}

// columns of an allocation table: what the reader knows already is left out.
type columns int

const (
	columnsOfJob columns = iota
	columnsOfNode
)

// allocTable lists allocations with the ports they hold.
func (c *cli) allocTable(allocs []*api.AllocationListStub, cols columns) *table {
	head := []string{"ID", "NAME", "VERSION", "WANTED", "STATUS", "PORTS", "MODIFIED"}
	if cols == columnsOfJob {
		head = slices.Insert(head, 2, "NODE")
	}
	if c.output == outputWide {
		head = append(head, "CREATED", "EVAL", "FULL ID")
	}
	t := newTable(head...)
	for _, a := range allocs {
		row := []string{short(a.ID), a.Name, fmt.Sprint(a.JobVersion), a.DesiredStatus, allocStatus(a),
			orDash(portsOf(a.AllocatedResources)), c.age(time.Unix(0, a.ModifyTime))}
		if cols == columnsOfJob {
			row = slices.Insert(row, 2, orDash(a.NodeName))
		}
		if c.output == outputWide {
			row = append(row, c.age(time.Unix(0, a.CreateTime)), short(a.EvalID), a.ID)
		}
		t.add(row...)
	}
	return t
}

func allocStatus(a *api.AllocationListStub) string {
	if h := a.DeploymentStatus; a.ClientStatus == api.AllocClientRunning && h != nil && h.Healthy != nil {
		if *h.Healthy {
			return "running, healthy"
		}
		return "running, unhealthy"
	}
	return a.ClientStatus
}

// portsOf is "http=192.0.2.7:23456 admin=…".
func portsOf(r *api.AllocatedResources) string {
	if r == nil {
		return ""
	}
	parts := make([]string, len(r.Shared.Ports))
	for i, p := range r.Shared.Ports {
		parts[i] = fmt.Sprintf("%s=%s", p.Label, hostPort(p))
	}
	return strings.Join(parts, " ")
}

func (c *cli) allocStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "status ALLOCATION",
		Short:             "Show an allocation: where it is, its ports, each task with its history",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(allocIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			a, err := findAlloc(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if c.output == outputJSON {
				return c.printJSON(a)
			}
			c.showAlloc(a)
			return nil
		},
	}
}

func (c *cli) showAlloc(a *api.Allocation) {
	var f facts
	f.add("Allocation", a.ID)
	f.add("Name", a.Name)
	f.add("Job", a.JobID)
	if a.Job != nil {
		f.add("Version", fmt.Sprint(a.Job.Version))
	}
	f.add("Node", fmt.Sprintf("%s (%s)", a.NodeName, short(a.NodeID)))
	f.add("Wanted", withReason(a.DesiredStatus, a.DesiredDescription))
	f.add("Status", withReason(a.ClientStatus, a.ClientDescription))
	if h := a.DeploymentStatus; h != nil && h.Healthy != nil {
		f.add("Healthy", fmt.Sprint(*h.Healthy))
	}
	f.add("Evaluation", short(a.EvalID))
	f.add("Replaces", short(a.PreviousAllocation))
	f.add("Replaced by", short(a.NextAllocation))
	f.add("Created", c.age(time.Unix(0, a.CreateTime)))
	f.add("Modified", c.age(time.Unix(0, a.ModifyTime)))
	c.printFacts(f)
	if r := a.AllocatedResources; r != nil && len(r.Shared.Ports) > 0 {
		c.section("Ports")
		t := newTable("LABEL", "ADDRESS", "TO")
		for _, p := range r.Shared.Ports {
			to := "-"
			if p.To > 0 {
				to = fmt.Sprint(p.To)
			}
			t.add(p.Label, hostPort(p), to)
		}
		c.printTable(t)
	}
	for _, name := range taskNames(a) {
		c.showTask(a, name)
	}
}

func (c *cli) showTask(a *api.Allocation, name string) {
	s := a.TaskStates[name]
	if s == nil {
		s = &api.TaskState{State: api.TaskStatePending}
	}
	c.section(fmt.Sprintf("Task %q: %s", name, taskState(s)))
	var f facts
	if r := a.AllocatedResources; r != nil && r.Tasks[name] != nil {
		f.add("CPU", fmt.Sprintf("%d MHz", r.Tasks[name].Cpu.CpuShares))
		f.add("Memory", mib(r.Tasks[name].Memory.MemoryMB))
	}
	if s.Restarts > 0 {
		f.add("Restarts", fmt.Sprintf("%d, last %s", s.Restarts, c.age(s.LastRestart)))
	}
	if !s.StartedAt.IsZero() {
		f.add("Started", c.age(s.StartedAt))
	}
	if !s.FinishedAt.IsZero() {
		f.add("Finished", c.age(s.FinishedAt))
	}
	c.printFacts(f)
	if len(s.Events) == 0 {
		return
	}
	t := newTable("TIME", "EVENT", "WHAT HAPPENED")
	for _, e := range s.Events {
		t.add(time.Unix(0, e.Time).Format(time.RFC3339), e.Type, e.DisplayMessage)
	}
	c.printTable(t)
}

func taskState(s *api.TaskState) string {
	if s.State == api.TaskStateDead && s.Failed {
		return "dead, failed"
	}
	return s.State
}

func withReason(status, reason string) string {
	if reason == "" {
		return status
	}
	return status + " (" + reason + ")"
}

// taskNames are an allocation's tasks in the job's order.
func taskNames(a *api.Allocation) []string {
	var names []string
	if a.Job != nil {
		for _, g := range a.Job.TaskGroups {
			if g.Name != a.TaskGroup {
				continue
			}
			for _, t := range g.Tasks {
				names = append(names, t.Name)
			}
		}
	}
	return names
}

func (c *cli) allocStopCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "stop ALLOCATION",
		Short:             "Stop an allocation; its job gets a new one in its place",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(allocIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			a, err := findAlloc(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			resp, err := cl.StopAllocation(cmd.Context(), a.ID, client.Query{Namespace: a.Namespace})
			if err != nil {
				return fmt.Errorf("allocation %s: %w", short(a.ID), err)
			}
			if c.output == outputJSON {
				return c.printJSON(resp)
			}
			c.printf("Allocation %s (%s) is stopping, evaluation %s\n", short(a.ID), a.Name, short(resp.EvalID))
			return nil
		},
	}
}

func (c *cli) allocLogsCmd() *cobra.Command {
	var q client.LogQuery
	var stderr bool
	cmd := &cobra.Command{
		Use:               "logs ALLOCATION [TASK]",
		Short:             "Print a task's output; TASK may be left out when there is one",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.complete(allocIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tail") && q.Tail < 1 {
				return fmt.Errorf("--tail %d: want 1 line or more", q.Tail)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			a, err := findAlloc(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if q.Task, err = taskOf(a, args[1:]); err != nil {
				return err
			}
			q.Alloc, q.Type = a.ID, "stdout"
			if stderr {
				q.Type = "stderr"
			}
			body, err := cl.Logs(cmd.Context(), q)
			if err != nil {
				return fmt.Errorf("allocation %s: %w", short(a.ID), err)
			}
			defer body.Close()
			if _, err = io.Copy(c.out, body); errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on as more is written, until the task ends")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "the error stream instead of standard output")
	cmd.Flags().IntVar(&q.Tail, "tail", 0, "only the last N lines")
	return cmd
}

// taskOf picks the task that the user named, or the only one.
func taskOf(a *api.Allocation, args []string) (string, error) {
	names := taskNames(a)
	if len(args) == 1 {
		if !slices.Contains(names, args[0]) {
			return "", fmt.Errorf("allocation %s has no task %q; it has %s", short(a.ID), args[0], strings.Join(names, ", "))
		}
		return args[0], nil
	}
	if len(names) != 1 {
		return "", fmt.Errorf("allocation %s has several tasks, name one of %s", short(a.ID), strings.Join(names, ", "))
	}
	return names[0], nil
}

// findAlloc reads the allocation whose id begins with arg.
func findAlloc(ctx context.Context, cl *client.Client, arg string) (*api.Allocation, error) {
	list, _, err := cl.Allocations(ctx, client.Query{Prefix: arg})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, a := range list {
		ids[i] = a.ID
	}
	id, err := oneOf("allocation", arg, ids)
	if err != nil {
		return nil, err
	}
	a, _, err := cl.Allocation(ctx, id, client.Query{})
	return a, err
}
