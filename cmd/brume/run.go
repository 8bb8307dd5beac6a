package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

func (c *cli) jobRunCmd() *cobra.Command {
	var file jobFile
	var detach bool
	var checkIndex uint64
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Submit a job file and follow it until its tasks are healthy or complete",
		Long: "Submit a job file (\"-\" is standard input) and follow it until its tasks are healthy or complete.\n" +
			"Exit code 0: done; 1: an error, or a task failed; 2: something fits on no node now.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.read(&file, args[0])
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			if ns := c.namespace; ns != "" && job.Namespace == api.DefaultNamespace {
				job.Namespace = ns
			}
			req := &api.JobRegisterRequest{Job: job}
			if cmd.Flags().Changed("check-index") {
				req.EnforceIndex, req.JobModifyIndex = true, checkIndex
			}
			err = c.runJob(cmd.Context(), cl, req, detach)
			if err != nil && cmd.Context().Err() != nil {
				fmt.Fprintf(c.err, "Stopped following; the job goes on if it was submitted. See \"brume job status %s\".\n", job.ID)
				return exitCode(exitError)
			}
			return err
		},
	}
	file.flags(cmd)
	cmd.Flags().BoolVar(&detach, "detach", false, "submit and return, do not follow")
	cmd.Flags().Uint64Var(&checkIndex, "check-index", 0, "submit only if the job's modify index is this; 0: only if there is no such job")
	return cmd
}

// runJob submits a job and follows it.
func (c *cli) runJob(ctx context.Context, cl *client.Client, req *api.JobRegisterRequest, detach bool) error {
	resp, err := cl.RegisterJob(ctx, req)
	if err != nil {
		return fmt.Errorf("job %q: %w", req.Job.ID, err)
	}
	if resp.Warnings != "" {
		fmt.Fprintln(c.err, "Warning:", resp.Warnings)
	}
	if detach {
		if c.output == outputJSON {
			return c.printJSON(resp)
		}
		c.printf("Job %q submitted, evaluation %s\n", req.Job.ID, short(resp.EvalID))
		return nil
	}
	f := &follower{cli: c, client: cl, query: client.Query{Namespace: req.Job.Namespace}, id: req.Job.ID, eval: resp.EvalID, show: newProgress(c)}
	return f.follow(ctx)
}

// follower watches one registration of a job until it is settled.
type follower struct {
	*cli
	client   *client.Client
	query    client.Query
	id, eval string
	job      *api.Job
	show     *progress
}

func (f *follower) follow(ctx context.Context) error {
	job, _, err := f.read(ctx)
	if err != nil {
		return fmt.Errorf("job %q: %w", f.id, err)
	}
	f.job = job
	f.show.line("Job %q version %d submitted, evaluation %s", f.id, job.Version, short(f.eval))
	eval, err := f.awaitEval(ctx)
	if err != nil {
		return err
	}
	blocked := len(eval.FailedTGAllocs) > 0
	if blocked {
		f.show.lines(failureLines(job, eval))
	}
	allocs, verdict, err := f.awaitAllocs(ctx, blocked)
	f.show.end()
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		if err := f.printJSON(allocs); err != nil {
			return err
		}
	}
	switch {
	case verdict == failed:
		f.explainFailures(allocs)
		return exitCode(exitError)
	case blocked:
		f.show.line("Job %q is not placed completely; it will be when something changes. \"brume job stop %s\" withdraws it.", f.id, f.id)
		return exitCode(exitNotPlaced)
	}
	f.summary(allocs)
	return nil
}

// awaitEval waits until the registration's evaluation is decided.
func (f *follower) awaitEval(ctx context.Context) (*api.Evaluation, error) {
	q := f.query
	for {
		e, meta, err := persist(ctx, f.show, func() (*api.Evaluation, client.Meta, error) { return f.client.Evaluation(ctx, f.eval, q) })
		if errors.Is(err, api.ErrNotFound) { // decided so long ago that it was removed
			return &api.Evaluation{ID: f.eval}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("evaluation %s: %w", short(f.eval), err)
		}
		switch e.Status {
		case api.EvalStatusPending:
			q.Index, q.Wait = meta.Index, time.Minute
			continue
		case api.EvalStatusFailed, api.EvalStatusCanceled:
			return nil, fmt.Errorf("evaluation %s: %s", short(e.ID), withReason(e.Status, e.StatusDescription))
		}
		return e, nil
	}
}

// verdict is what became of a job's allocations.
type verdict int

const (
	undecided verdict = iota
	settled           // all wanted allocations are healthy, or complete for a batch job
	failed
)

// awaitAllocs follows the job's allocations until they are settled; with part of the job blocked, until the rest is.
func (f *follower) awaitAllocs(ctx context.Context, blocked bool) ([]*api.AllocationListStub, verdict, error) {
	q := f.query
	q.Params = withResources
	for {
		all, meta, err := persist(ctx, f.show, func() ([]*api.AllocationListStub, client.Meta, error) {
			return f.client.JobAllocations(ctx, f.id, q)
		})
		if err != nil {
			return nil, failed, fmt.Errorf("job %q: allocations: %w", f.id, err)
		}
		mine, v := judge(f.job, all, blocked)
		f.show.update(f.job, mine)
		if v == failed {
			return mine, v, nil
		}
		if err := f.wanted(ctx); err != nil {
			return mine, v, err
		}
		if v == settled {
			return mine, v, nil
		}
		q.Index, q.Wait = meta.Index, time.Minute
	}
}

// wanted is an error if the version of the job that is followed is no longer the one that is wanted.
func (f *follower) wanted(ctx context.Context) error {
	switch job, _, err := f.read(ctx); {
	case errors.Is(err, api.ErrNotFound):
		return fmt.Errorf("job %q was removed meanwhile", f.id)
	case err != nil:
		return fmt.Errorf("job %q: %w", f.id, err)
	case job.Stop:
		return fmt.Errorf("job %q was stopped meanwhile", f.id)
	case job.Version > f.job.Version:
		return fmt.Errorf("job %q: a newer version was submitted meanwhile; \"brume job status %s\" shows it", f.id, f.id)
	}
	return nil
}

func (f *follower) read(ctx context.Context) (*api.Job, client.Meta, error) {
	return persist(ctx, f.show, func() (*api.Job, client.Meta, error) { return f.client.Job(ctx, f.id, f.query) })
}

const (
	hubPatience = 2 * time.Minute // with a hub that does not answer while a job is followed
	hubPause    = 500 * time.Millisecond
)

// persist asks until there is an answer: a hub that is started again, or has no leader for a moment, is no reason to stop
// following.
func persist[T any](ctx context.Context, show *progress, ask func() (T, client.Meta, error)) (T, client.Meta, error) {
	var limit time.Time
	for {
		v, meta, err := ask()
		if err == nil || ctx.Err() != nil || !passing(err) || !limit.IsZero() && time.Now().After(limit) {
			return v, meta, err
		}
		if limit.IsZero() {
			limit = time.Now().Add(hubPatience)
			show.line("The hub does not answer, asking again: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(hubPause):
		}
	}
}

// passing reports whether the same request may succeed later.
func passing(err error) bool {
	if e, ok := errors.AsType[*client.StatusError](err); ok {
		return e.Status >= http.StatusInternalServerError
	}
	return !slices.ContainsFunc([]error{api.ErrNotFound, api.ErrInvalid, api.ErrConflict, api.ErrDenied}, func(kind error) bool {
		return errors.Is(err, kind)
	})
}

// judge picks the allocations that stand for this version of the job, and says what became of it. With blocked, the
// allocations that could not be placed are not waited for.
func judge(job *api.Job, all []*api.AllocationListStub, blocked bool) ([]*api.AllocationListStub, verdict) {
	var mine []*api.AllocationListStub
	good, want, bad := 0, 0, false
	for _, g := range job.TaskGroups {
		want += g.Count
	}
	for _, a := range all {
		if a.JobVersion != job.Version || a.NextAllocation != "" {
			continue
		}
		mine = append(mine, a)
		switch {
		case a.ClientStatus == api.AllocClientComplete && job.Type == api.JobTypeBatch:
			good++
		case a.ClientStatus == api.AllocClientFailed:
			bad = true
		case a.ClientStatus == api.AllocClientRunning && a.DeploymentStatus != nil && a.DeploymentStatus.Healthy != nil:
			if *a.DeploymentStatus.Healthy {
				good++
			}
		}
	}
	switch {
	case bad:
		return mine, failed
	case good >= want, blocked && good == len(mine):
		return mine, settled
	}
	return mine, undecided
}

// explainFailures says what happened to each failed task, and where to read on.
func (f *follower) explainFailures(allocs []*api.AllocationListStub) {
	for _, a := range allocs {
		if a.ClientStatus != api.AllocClientFailed {
			continue
		}
		f.show.line("%s on %s failed%s", a.Name, a.NodeName, colon(a.ClientDescription))
		for _, name := range sortedTasks(a) {
			s := a.TaskStates[name]
			if !s.Failed {
				continue
			}
			for _, e := range s.Events {
				if e.DisplayMessage != "" && e.Type != api.TaskReceived && e.Type != api.TaskSetup {
					f.show.line("  task %q: %s: %s", name, e.Type, plain(e.DisplayMessage))
				}
			}
		}
		f.show.line("  To see more: brume alloc logs --stderr %s; brume alloc status %s", short(a.ID), short(a.ID))
		if a.FollowupEvalID != "" {
			f.show.line("  It will be tried again on another node (evaluation %s).", short(a.FollowupEvalID))
		}
	}
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// summary says that the job is there, and where its ports are.
func (f *follower) summary(allocs []*api.AllocationListStub) {
	if f.job.Type == api.JobTypeBatch {
		f.show.line("Job %q is complete.", f.id)
		return
	}
	f.show.line("Job %q runs and is healthy.", f.id)
	for _, a := range allocs {
		if ports := portsOf(a.AllocatedResources); ports != "" && a.DesiredStatus == api.AllocDesiredRun {
			f.show.line("  %s on %s: %s", a.Name, a.NodeName, ports)
		}
	}
}
