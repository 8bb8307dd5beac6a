package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

func (c *cli) jobCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "job", Short: "Run, look at and stop jobs"}
	cmd.AddCommand(c.jobRunCmd(), c.jobStatusCmd(), c.jobStopCmd(), c.jobValidateCmd(), c.jobInitCmd(), c.jobFmtCmd())
	return cmd
}

func (c *cli) jobStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "status [JOB]",
		Short:             "List jobs, or show one with its allocations, ports and what could not be placed",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.complete(jobIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.listJobs(cmd.Context(), cl)
			}
			id, err := findJob(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			return c.showJob(cmd.Context(), cl, id)
		},
	}
}

func (c *cli) listJobs(ctx context.Context, cl *client.Client) error {
	jobs, _, err := cl.Jobs(ctx, client.Query{})
	if err != nil {
		return err
	}
	if c.output == outputJSON {
		return c.printJSON(jobs)
	}
	if len(jobs) == 0 {
		c.printf("No jobs. Write a job file with \"brume job init\", then run it with \"brume job run FILE\".\n")
		return nil
	}
	head := []string{"ID", "TYPE", "PRIORITY", "STATUS", "RUNNING", "SUBMITTED"}
	if c.output == outputWide {
		head = append(head, "NAMESPACE", "VERSION", "DATACENTERS")
	}
	t := newTable(head...)
	for _, j := range jobs {
		row := []string{j.ID, j.Type, fmt.Sprint(j.Priority), jobStatus(j.Status, j.Stop), runningOf(j.JobSummary),
			c.age(time.Unix(0, j.SubmitTime))}
		if c.output == outputWide {
			row = append(row, j.Namespace, fmt.Sprint(j.Version), strings.Join(j.Datacenters, ","))
		}
		t.add(row...)
	}
	c.printTable(t)
	return nil
}

func jobStatus(status string, stopped bool) string {
	if stopped && status == api.JobStatusDead {
		return status + " (stopped)"
	}
	return status
}

// runningOf is "2/3": allocations that run, of those that should run or wait to.
func runningOf(s *api.JobSummary) string {
	if s == nil {
		return "-"
	}
	running, all := 0, 0
	for _, g := range s.Summary {
		running += g.Running
		all += g.Running + g.Queued + g.Starting
	}
	return fmt.Sprintf("%d/%d", running, all)
}

// jobView is what `job status JOB` shows.
type jobView struct {
	Job         *api.Job
	Summary     *api.JobSummary
	Evaluation  *api.Evaluation `json:",omitempty"` // the newest that could not place everything
	Allocations []*api.AllocationListStub
}

func loadJobView(ctx context.Context, cl *client.Client, id string) (*jobView, error) {
	job, _, err := cl.Job(ctx, id, client.Query{})
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", id, err)
	}
	v := &jobView{Job: job}
	if v.Summary, _, err = cl.JobSummary(ctx, id, client.Query{}); err != nil {
		return nil, fmt.Errorf("job %q: summary: %w", id, err)
	}
	if v.Allocations, err = jobAllocations(ctx, cl, id); err != nil {
		return nil, err
	}
	evals, _, err := cl.JobEvaluations(ctx, id, client.Query{})
	if err != nil {
		return nil, fmt.Errorf("job %q: evaluations: %w", id, err)
	}
	for _, e := range evals {
		if e.Status == api.EvalStatusBlocked && len(e.FailedTGAllocs) > 0 &&
			(v.Evaluation == nil || e.CreateIndex > v.Evaluation.CreateIndex) {
			v.Evaluation = e
		}
	}
	return v, nil
}

// jobAllocations reads a job's allocations with their ports, by group and index, newest first within one.
func jobAllocations(ctx context.Context, cl *client.Client, id string) ([]*api.AllocationListStub, error) {
	allocs, _, err := cl.JobAllocations(ctx, id, client.Query{Params: withResources})
	if err != nil {
		return nil, fmt.Errorf("job %q: allocations: %w", id, err)
	}
	slices.SortFunc(allocs, func(a, b *api.AllocationListStub) int {
		if a.Name != b.Name {
			return compareNames(a.Name, b.Name)
		}
		return int(int64(b.CreateIndex) - int64(a.CreateIndex))
	})
	return allocs, nil
}

var withResources = map[string]string{"resources": "true"}

func (c *cli) showJob(ctx context.Context, cl *client.Client, id string) error {
	v, err := loadJobView(ctx, cl, id)
	if err != nil {
		return err
	}
	if c.output == outputJSON {
		return c.printJSON(v)
	}
	j := v.Job
	var f facts
	f.add("Job", j.ID)
	if j.Name != j.ID {
		f.add("Name", j.Name)
	}
	f.add("Namespace", j.Namespace)
	f.add("Type", j.Type)
	f.add("Status", jobStatus(j.Status, j.Stop))
	f.add("Version", fmt.Sprint(j.Version))
	f.add("Priority", fmt.Sprint(j.Priority))
	f.add("Datacenters", strings.Join(j.Datacenters, ", "))
	f.add("Submitted", c.age(time.Unix(0, j.SubmitTime)))
	c.printFacts(f)

	c.section("Groups")
	t := newTable("GROUP", "COUNT", "QUEUED", "STARTING", "RUNNING", "COMPLETE", "FAILED", "LOST")
	for _, g := range j.TaskGroups {
		s := v.Summary.Summary[g.Name]
		t.add(g.Name, fmt.Sprint(g.Count), fmt.Sprint(s.Queued), fmt.Sprint(s.Starting), fmt.Sprint(s.Running),
			fmt.Sprint(s.Complete), fmt.Sprint(s.Failed), fmt.Sprint(s.Lost))
	}
	c.printTable(t)
	if v.Evaluation != nil && !j.Stop {
		c.section("Not placed")
		c.printFailures(j, v.Evaluation)
	}
	c.section("Allocations")
	if len(v.Allocations) == 0 {
		c.printf("None.\n")
		return nil
	}
	c.printTable(c.allocTable(v.Allocations, columnsOfJob))
	return nil
}

func (c *cli) jobStopCmd() *cobra.Command {
	var purge, detach bool
	cmd := &cobra.Command{
		Use:               "stop JOB",
		Short:             "Stop a job and wait until its tasks have ended",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(jobIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			id, err := findJob(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if purge && id != args[0] {
				return fmt.Errorf("name the job in full to purge it: %q", id)
			}
			resp, err := cl.StopJob(cmd.Context(), id, purge, client.Query{})
			if err != nil {
				return fmt.Errorf("job %q: %w", id, err)
			}
			if c.output == outputJSON {
				return c.printJSON(resp)
			}
			if detach {
				c.printf("Job %q is stopping, evaluation %s\n", id, short(resp.EvalID))
				return nil
			}
			return c.awaitStop(cmd.Context(), cl, id)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "forget the job too")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait")
	return cmd
}

// awaitStop follows a job's allocations until none is left running.
func (c *cli) awaitStop(ctx context.Context, cl *client.Client, id string) error {
	q := client.Query{Wait: 30 * time.Second}
	for last := -1; ; {
		allocs, meta, err := cl.JobAllocations(ctx, id, q)
		if err != nil && !errors.Is(err, api.ErrNotFound) {
			return fmt.Errorf("job %q: %w", id, err)
		}
		left := 0
		for _, a := range allocs {
			if !api.ClientTerminal(a.ClientStatus) {
				left++
			}
		}
		if left == 0 {
			c.printf("Job %q stopped.\n", id)
			return nil
		}
		if left != last {
			c.printf("Job %q: %s still to end\n", id, plural(left, "allocation"))
		}
		last, q.Index = left, meta.Index
	}
}

// findJob turns what the user typed into the id of one job: exact, or the only one that begins so.
func findJob(ctx context.Context, cl *client.Client, arg string) (string, error) {
	if _, _, err := cl.Job(ctx, arg, client.Query{}); err == nil {
		return arg, nil
	} else if !errors.Is(err, api.ErrNotFound) {
		return "", err
	}
	jobs, _, err := cl.Jobs(ctx, client.Query{Prefix: arg})
	if err != nil {
		return "", err
	}
	ids := make([]string, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	return oneOf("job", arg, ids)
}

// oneOf picks the only candidate, or says what there is to pick from.
func oneOf(noun, arg string, ids []string) (string, error) {
	switch len(ids) {
	case 0:
		return "", fmt.Errorf("no %s begins with %q: %w; \"brume %s status\" lists what there is", noun, arg, api.ErrNotFound, verbOf(noun))
	case 1:
		return ids[0], nil
	}
	shown := ids[:min(len(ids), 5)]
	for i, id := range shown {
		if noun != "job" {
			shown[i] = id[:min(len(id), 13)]
		}
	}
	return "", fmt.Errorf("%q begins more than one %s: %s", arg, noun, strings.Join(shown, ", "))
}

func verbOf(noun string) string {
	switch noun {
	case "allocation":
		return "job"
	case "evaluation":
		return "eval"
	}
	return noun
}

// compareNames orders "web.api[2]" before "web.api[10]".
func compareNames(a, b string) int {
	if d := len(a) - len(b); d != 0 && strings.HasSuffix(a, "]") && strings.HasSuffix(b, "]") {
		pa, pb := a[:strings.LastIndexByte(a, '[')], b[:strings.LastIndexByte(b, '[')]
		if pa == pb {
			return d
		}
	}
	return strings.Compare(a, b)
}
