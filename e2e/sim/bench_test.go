package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
	"github.com/brumehq/brume/api/client"
)

// BenchmarkSim10000 is one job of 10,000 on 1,000 agents, all in this process and in real time: from its registration over
// HTTPS until every agent has started its ten tasks and the hub has heard of it. The agents are leaves, and their disks are
// in memory if this machine has a gigabyte there: it is one disk, theirs would be a thousand.
func BenchmarkSim10000(b *testing.B) {
	const nodes, tasks = 1000, 10_000
	var shm unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &shm); err == nil && shm.Bavail*uint64(shm.Bsize) > 1<<30 {
		b.Setenv("TMPDIR", "/dev/shm")
	}
	c := New(b, 0)
	for range nodes {
		a := c.NewAgent()
		a.Config.Leaf = true
		a.Start()
	}
	for _, a := range c.agents {
		a.Await()
	}
	var placed, stopped time.Duration
	i := 0
	for b.Loop() {
		i++
		j := apitest.Job(b, forever, apitest.ID(fmt.Sprint("job-", i)), apitest.Count(tasks), apitest.Ask(10, 10))
		began := time.Now()
		eval := c.Register(j)
		c.awaitEval(eval)
		placed += time.Since(began)
		c.awaitSummary(j.ID, func(s api.GroupSummary) bool { return s.Running == tasks })

		b.StopTimer()
		if n := len(c.Ledger.Running()); n != tasks {
			b.Errorf("%d tasks run, want %d", n, tasks)
		}
		began = time.Now()
		c.StopJob(j.ID)
		c.awaitSummary(j.ID, func(s api.GroupSummary) bool { return s.Complete == tasks })
		stopped += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(float64(placed.Milliseconds())/float64(b.N), "ms/placed")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/running")
	b.ReportMetric(float64(stopped.Milliseconds())/float64(b.N), "ms/stopped")
}

// awaitEval waits until an evaluation is done.
func (c *Cluster) awaitEval(id string) {
	for q := (client.Query{}); ; {
		e, meta, err := c.API.Evaluation(context.Background(), id, q)
		if err != nil {
			c.t.Fatal(err)
		}
		if q.Index = meta.Index; e.Status == api.EvalStatusComplete {
			return
		}
	}
}

// awaitSummary waits until the summary of the job's group is as told.
func (c *Cluster) awaitSummary(job string, ok func(api.GroupSummary) bool) {
	for q := (client.Query{}); ; {
		s, meta, err := c.API.JobSummary(context.Background(), job, q)
		if err != nil {
			c.t.Fatal(err)
		}
		if q.Index = meta.Index; ok(s.Summary[apitest.GroupName]) {
			return
		}
	}
}
