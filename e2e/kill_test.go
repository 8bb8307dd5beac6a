package e2e

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/signal"
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

// counterJob runs this test binary as a task that counts, see count.
const counterJob = `
variable "command" {}
variable "pid_file" {}

job "counter" {
  type = "batch"
  group "g" {
    reschedule { attempts = 0 }
    restart { attempts = 0 }
    task "count" {
      driver = "raw_exec"
      config {
        command = var.command
        args    = ["count", var.pid_file]
      }
      logs {
        max_files     = 200
        max_file_size = 1
      }
    }
  }
}
`

// padding ends each line, so that files of 1 MB are rotated about once a second.
const padding = " ...................................................................................................\n"

// count is the task: it writes its process id to a file, then numbered lines at 10,000 a second until SIGUSR1, and ends
// with code 5. Started twice it would begin again at 1.
func count(pidFile string) int {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGUSR1)
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return 1
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; {
		select {
		case <-end:
			return 5
		case <-tick.C:
		}
		var lines []byte
		for range 100 {
			lines = append(strconv.AppendInt(lines, int64(n), 10), padding...)
			n++
		}
		if _, err := os.Stdout.Write(lines); err != nil {
			return 2
		}
	}
}

// Every process of the cluster is killed in turn under a running task: it stays the same process, its output has each
// number once and in order, through rotation, and its exit code is kept.
func TestKilledProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	agent := c.agent("n1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(c.dir, "counter.pid")
	c.must("job", "run", "--detach", "--var", "command="+self, "--var", "pid_file="+pidFile, c.file("counter.hcl", counterJob))
	running := func(a []*api.AllocationListStub) bool {
		return len(a) == 1 && a[0].ClientStatus == api.AllocClientRunning
	}
	id := c.await(t.Context(), "counter", running)[0].ID
	c.goesOn(id, "count")
	task := pidIn(t, pidFile)
	alive := func(after string) {
		t.Helper()
		c.goesOn(id, "count")
		if now := pidIn(t, pidFile); now != task {
			t.Fatalf("after %s the task is process %d, was %d", after, now, task)
		}
		c.await(t.Context(), "counter", running)
	}
	for range 2 {
		agent.kill()
		agent.start(nil)
		alive("the agent's kill")
		c.hub.kill()
		c.hub.start(nil)
		alive("the hub's kill")
		c.killHelper("plugin raw_exec")
		alive("the driver's kill")
		c.killHelper("logs-sink")
		alive("the log process's kill")
	}
	if err := syscall.Kill(task, syscall.SIGUSR1); err != nil { // "end now"
		t.Fatal(err)
	}
	ended := c.await(t.Context(), "counter", func(a []*api.AllocationListStub) bool { return api.ClientTerminal(a[0].ClientStatus) })
	wantExit(t, ended[0], "count", 5)
	checkNumbers(t, c.log(id, "count", "stdout"))
	if files, err := filepath.Glob(filepath.Join(c.dir, "n1", "allocs", id, "alloc", "logs", "count.stdout.*")); err != nil || len(files) < 2 {
		t.Errorf("the output was not rotated: %q, %v", files, err)
	}
	if r := c.brume("alloc", "status", id); !strings.Contains(r.stdout, "Exit code 5") {
		t.Errorf("alloc status does not show the exit code:\n%s", r.stdout)
	}
}

// killHelper kills a helper process of the agent.
func (c *cluster) killHelper(verb string) {
	c.t.Helper()
	if err := syscall.Kill(c.helper(verb), syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
}

// goesOn blocks until the task has written a thousand lines more than it had when asked; requests that fail while
// something restarts are made anew.
func (c *cluster) goesOn(alloc, task string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		body, err := c.client.Logs(ctx, client.LogQuery{Alloc: alloc, Task: task, Type: "stdout", Follow: true, Origin: "end"})
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(body)
		n := 0
		for n < 1000 && lines.Scan() {
			n++
		}
		body.Close()
		if n == 1000 {
			return
		}
	}
	c.t.Fatalf("the output of task %s does not go on", task)
}

// pidIn reads the process id that the counting task wrote.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func wantExit(t *testing.T, a *api.AllocationListStub, task string, code int) {
	t.Helper()
	s := a.TaskStates[task]
	if s == nil {
		t.Fatalf("allocation %s has no state of task %s", a.ID, task)
	}
	i := slices.IndexFunc(s.Events, func(e *api.TaskEvent) bool { return e.Type == api.TaskTerminated })
	if i < 0 {
		t.Fatalf("task %s has no event %q: %v", task, api.TaskTerminated, s.Events)
	}
	if s.Events[i].ExitCode != code {
		t.Errorf("task %s ended with code %d, want %d", task, s.Events[i].ExitCode, code)
	}
}

// checkNumbers fails unless the lines of out begin with 1, 2, 3 and so on.
func checkNumbers(t *testing.T, out string) {
	t.Helper()
	next := 1
	for line := range strings.Lines(out) {
		number, rest, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		if err != nil || n != next || " "+rest != padding {
			t.Fatalf("line %d reads %q", next, line)
		}
		next++
	}
	if next < 10_000 {
		t.Errorf("only %d lines", next-1)
	}
	t.Logf("%d lines, each once and in order", next-1)
}

// A task that ends while its agent is down is reported with its true exit code.
func TestExitCodeIsKeptWhileTheAgentIsDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	agent := c.agent("n1")
	fifo := c.dir + "/gate"
	c.must("job", "run", "--detach", c.file("gate.hcl", shell("gate", "until [ -e "+fifo+" ]; do sleep 0.05; done; exit 9")))
	c.await(t.Context(), "gate", func(a []*api.AllocationListStub) bool {
		return len(a) == 1 && a[0].ClientStatus == api.AllocClientRunning
	})
	agent.kill()
	c.file("gate", "")
	agent.start(nil)
	a := c.await(t.Context(), "gate", func(a []*api.AllocationListStub) bool { return api.ClientTerminal(a[0].ClientStatus) })
	wantExit(t, a[0], "t", 9)
}

// An admitted agent that has only another agent's gossip address and no saved members finds the hub.
func TestAgentFindsTheHubThroughAnotherAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.agent("n1")
	n2 := c.agent("n2")
	members := c.must("node", "status", "-o", "json")
	if strings.Count(members, `"Status": "ready"`) != 2 {
		t.Fatalf("want two ready nodes:\n%s", members)
	}
	gossip := c.gossipAddr("n1")
	n2.stop()
	if err := os.Remove(filepath.Join(c.dir, "n2", "node", "members.json")); err != nil {
		t.Fatal(err)
	}
	c.awaitNode("n2", api.NodeStatusDown)
	n2.start(nil, "--join", gossip)
	c.awaitNode("n2", api.NodeStatusReady)
}

// gossipAddr is where a member gossips.
func (c *cluster) gossipAddr(name string) string {
	c.t.Helper()
	members, err := c.client.Members(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range members.Members {
		if m.Name == name || strings.HasPrefix(m.Name, name+"-") {
			return net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))
		}
	}
	c.t.Fatalf("no gossip member is called %s", name)
	return ""
}

// awaitNode blocks until a node has a status.
func (c *cluster) awaitNode(name, status string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var q client.Query
	for {
		nodes, meta, err := c.client.Nodes(ctx, q)
		if err != nil {
			c.t.Fatalf("node %s is not %s: %v", name, status, err)
		}
		if slices.ContainsFunc(nodes, func(n *api.NodeListStub) bool { return n.Name == name && n.Status == status }) {
			return
		}
		q.Index, q.Wait = meta.Index, patience
	}
}
