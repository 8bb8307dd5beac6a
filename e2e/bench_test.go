package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

// The budgets of docs/benchmarks.md that need the built binary. Each reports the median of its runs in the metric's own
// unit; "make bench" runs each once.

func median[T int64 | float64 | time.Duration](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkColdStart is the time from starting `brume dev` to the line that says that a node is ready.
func BenchmarkColdStart(b *testing.B) {
	for b.Loop() {
		var took []time.Duration
		for range 11 {
			cmd := exec.Command(brumeBin, "dev", "--http", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), "TMPDIR="+b.TempDir())
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.Contains(lines.Text(), "is ready") {
			}
			took = append(took, time.Since(start))
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_, _ = io.Copy(io.Discard, out)
			if err := cmd.Wait(); err != nil {
				b.Fatalf("brume dev: %v", err)
			}
		}
		b.ReportMetric(float64(median(took).Milliseconds()), "ms/start")
	}
}

// BenchmarkSubmitToRunning is the time from sending a job of one process to its being reported running.
func BenchmarkSubmitToRunning(b *testing.B) {
	c := newCluster(b)
	c.agent("n1")
	for b.Loop() {
		var took []time.Duration
		for i := range 31 {
			job := processJob(fmt.Sprintf("submit-%d", i), 1, api.JobTypeService, "/bin/sleep", "600")
			start := time.Now()
			c.submit(job)
			c.await(b.Context(), job.ID, func(a []*api.AllocationListStub) bool {
				return len(a) == 1 && a[0].ClientStatus == api.AllocClientRunning
			})
			took = append(took, time.Since(start))
			if _, err := c.client.StopJob(b.Context(), job.ID, false, client.Query{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(median(took).Microseconds())/1000, "ms/job")
	}
}

// Benchmark500OneShots is the time in which one node runs 500 processes that end at once, and what the agent and its
// helpers need for it.
func Benchmark500OneShots(b *testing.B) {
	c := newCluster(b)
	c.agent("n1")
	round := 0
	for b.Loop() {
		var took []time.Duration
		peak := c.watchPeak()
		for range 5 {
			round++
			job := processJob(fmt.Sprintf("shots-%d", round), 500, api.JobTypeBatch, "/bin/true")
			start := time.Now()
			c.submit(job)
			c.await(b.Context(), job.ID, func(a []*api.AllocationListStub) bool {
				n := 0
				for _, x := range a {
					if x.ClientStatus == api.AllocClientComplete {
						n++
					}
				}
				return n == 500
			})
			took = append(took, time.Since(start))
		}
		b.ReportMetric(median(took).Seconds(), "s/500")
		b.ReportMetric(float64(peak())/1024, "peak-MiB")
	}
}

// watchPeak samples the memory of the agents and their helpers until the returned function is called, which answers with
// the largest sum seen, in KiB of proportional set size.
func (c *cluster) watchPeak() func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				_, agents := c.pss()
				most = max(most, agents)
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-peak
	}
}

// BenchmarkMemory is the proportional set size of an idle hub and of an idle agent with all its helpers, and what each of
// 100 running tasks adds beside the task itself.
func BenchmarkMemory(b *testing.B) {
	c := newCluster(b)
	c.agent("n1")
	for b.Loop() {
		hub, agent := c.pss()
		b.ReportMetric(float64(hub)/1024, "hub-MiB")
		b.ReportMetric(float64(agent)/1024, "agent-MiB")
		const n = 100
		job := processJob("sleepers", n, api.JobTypeService, "/bin/sleep", "600")
		c.submit(job)
		c.await(b.Context(), job.ID, func(a []*api.AllocationListStub) bool {
			return len(a) == n && !slices.ContainsFunc(a, func(x *api.AllocationListStub) bool { return x.ClientStatus != api.AllocClientRunning })
		})
		_, loaded := c.pss()
		b.ReportMetric(float64(loaded-agent)/1024/n, "MiB/task")
	}
}

// BenchmarkBinarySize is the size of the stripped binary.
func BenchmarkBinarySize(b *testing.B) {
	for b.Loop() {
		out := filepath.Join(b.TempDir(), "brume")
		if err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, module+"/cmd/brume").Run(); err != nil {
			b.Fatal(err)
		}
		st, err := os.Stat(out)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/(1<<20), "MiB")
	}
}

// pss sums the proportional set sizes in KiB of the hub, and of the agents with their helpers.
func (c *cluster) pss() (hub, agents int64) {
	for pid, cmdline := range c.processes() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // ended meanwhile: a child of the keeper on its way to being a task
		}
		kb := field(string(raw), "Pss:")
		if strings.HasPrefix(strings.TrimPrefix(cmdline, c.exe), " hub") {
			hub += kb
		} else {
			agents += kb
		}
	}
	return hub, agents
}

func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// processJob is a job of n instances of one small process.
func processJob(id string, n int, kind, command string, args ...string) *api.Job {
	job := api.NewJob(kind)
	job.ID, job.Name = id, id
	g := job.NewGroup()
	g.Name, g.Count = "g", n
	t := g.NewTask()
	t.Name, t.Driver = "t", "raw_exec"
	t.Resources.CPU, t.Resources.MemoryMB, g.EphemeralDisk.SizeMB = 1, 10, 10
	t.Config = map[string]any{"command": command, "args": args}
	g.Tasks = []*api.Task{t}
	job.TaskGroups = []*api.Group{g}
	return job
}

func (c *cluster) submit(job *api.Job) {
	c.t.Helper()
	if _, err := c.client.RegisterJob(c.t.Context(), &api.JobRegisterRequest{Job: job}); err != nil {
		c.t.Fatal(err)
	}
}
