package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// patience bounds every wait of these tests; it is never what a test measures.
const patience = 60 * time.Second

// cluster is a hub and agents as separate processes, in a directory of their own, on free ports of loopback.
type cluster struct {
	t      testing.TB
	dir    string
	exe    string // a link to the binary that only this cluster's processes run, so that they can be told apart
	hub    *process
	rpc    string
	agents map[string]*process
	client *client.Client
	ns     *netns // nil: the host's network
}

// process is a hub or an agent that can be killed and started again.
type process struct {
	c    *cluster
	name string
	args []string // of a start that needs nothing new
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it has been waited for
}

// newCluster starts a hub. Everything ends with the test, and nothing may be left then.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	return newClusterIn(t, nil)
}

// newClusterIn is newCluster in a network namespace.
func newClusterIn(t testing.TB, ns *netns) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "brume-e2e-") // short: unix sockets have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, exe: filepath.Join(dir, "brume"), agents: map[string]*process{}, ns: ns}
	if err := os.Link(brumeBin, c.exe); err != nil {
		copyFile(t, brumeBin, c.exe)
	}
	t.Cleanup(c.close)
	c.hub = &process{c: c, name: "hub", args: []string{"hub", "--data-dir", filepath.Join(dir, "hub")}}
	out := c.hub.start(nil, "--init", "--name", "hub", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0")
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "agent --join "); ok {
			c.rpc = strings.Fields(rest)[0]
		}
	}
	if c.rpc == "" {
		t.Fatalf("the hub did not say how agents join:\n%s", out)
	}
	c.client = c.connect()
	return c
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// connect makes a client from the context that the hub saved.
func (c *cluster) connect() *client.Client {
	c.t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, "context"))
	if err != nil {
		c.t.Fatal(err)
	}
	var saved struct {
		Address string `json:"address"`
		Token   string `json:"token"`
		CACert  string `json:"ca_cert"`
	}
	if err := json.Unmarshal(raw, &saved); err != nil {
		c.t.Fatal(err)
	}
	cfg := client.Config{Address: saved.Address, Token: saved.Token, CACert: []byte(saved.CACert)}
	if c.ns != nil {
		cfg.HTTP = c.ns.client(c.t, saved.CACert)
	}
	cl, err := client.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// agentConfig is the configuration file of every agent of these tests.
const agentConfig = `
plugin "raw_exec" {}
`

// agent admits a new agent and starts it.
func (c *cluster) agent(name string, args ...string) *process {
	c.t.Helper()
	reply, err := c.client.CreateJoinToken(c.t.Context(), api.JoinTokenRequest{Role: "agent", Uses: 1, TTL: int64(time.Minute)})
	if err != nil {
		c.t.Fatal(err)
	}
	config := filepath.Join(c.dir, name+".hcl")
	if err := os.WriteFile(config, []byte(agentConfig), 0o644); err != nil {
		c.t.Fatal(err)
	}
	p := &process{c: c, name: name, args: []string{"agent", "--data-dir", filepath.Join(c.dir, name), "--config", config}}
	c.agents[name] = p
	p.start([]string{"BRUME_JOIN_TOKEN=" + reply.Token}, append([]string{"--name", name, "--gossip", "127.0.0.1:0", "--join", c.rpc}, args...)...)
	return p
}

// environ is the environment of every command: nothing of the caller's own clusters.
func (c *cluster) environ(extra ...string) []string {
	env := []string{"BRUME_CONTEXT=" + filepath.Join(c.dir, "context"), "HOME=" + c.dir, "XDG_RUNTIME_DIR=" + c.dir,
		"PATH=" + c.dir + ":" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	return append(env, extra...)
}

// start runs the process until it says that it is ready, and returns what it printed up to there.
func (p *process) start(env []string, more ...string) string {
	t := p.c.t
	t.Helper()
	log, err := os.OpenFile(filepath.Join(p.c.dir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p.log = log
	p.cmd = p.c.command(context.Background(), append(slices.Clone(p.args), more...)...)
	p.cmd.Env, p.cmd.Stderr = p.c.environ(env...), log
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.done = make(chan struct{})
	said, ready := make(chan string, 1), false
	go func() {
		var b strings.Builder
		in := bufio.NewScanner(out)
		for in.Scan() {
			if b.WriteString(in.Text() + "\n"); !ready && strings.Contains(in.Text(), "is ready") {
				ready = true
				said <- b.String()
			}
		}
		_ = p.cmd.Wait() // how it ended is the test's to know
		close(p.done)
		if !ready {
			said <- ""
		}
	}()
	select {
	case s := <-said:
		if s == "" {
			t.Fatalf("%s did not start:\n%s", p.name, p.c.logOf(p.name))
		}
		return s
	case <-time.After(patience):
		t.Fatalf("%s is not ready after %s:\n%s", p.name, patience, p.c.logOf(p.name))
	}
	return ""
}

func (c *cluster) logOf(name string) string {
	raw, _ := os.ReadFile(filepath.Join(c.dir, name+".log"))
	return string(raw)
}

// kill ends the process without a warning.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// stop asks the process to end and waits until it has.
func (p *process) stop() { p.signal(syscall.SIGTERM) }

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.c.t.Errorf("%s did not end on %s", p.name, s)
		_ = p.cmd.Process.Kill()
	}
	p.log.Close()
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// close stops the jobs, the agents and the hub, and fails the test if anything is left of them.
func (c *cluster) close() {
	if c.hub != nil && c.hub.cmd != nil && !c.hub.running() {
		c.hub.start(nil)
	}
	for _, p := range c.agents {
		if !p.running() {
			p.start(nil)
		}
	}
	if c.client != nil {
		c.stopJobs()
		c.client.CloseIdle()
	}
	for _, p := range c.agents {
		p.stop()
	}
	if c.hub != nil && c.hub.cmd != nil {
		c.hub.stop()
	}
	for pid, cmdline := range c.processes() {
		c.t.Errorf("left behind: process %d: %s", pid, cmdline)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = filepath.WalkDir(c.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type()&os.ModeNamedPipe != 0 {
			c.t.Errorf("left behind: FIFO %s", path)
		}
		return nil
	})
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.dir) {
			c.t.Errorf("left behind: mount %s", line)
		}
	}
	if c.t.Failed() {
		for _, name := range append([]string{"hub"}, keysOf(c.agents)...) {
			c.t.Logf("log of %s:\n%s", name, tailOf(c.logOf(name), 60))
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Error(err)
	}
}

func keysOf[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func tailOf(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (c *cluster) stopJobs() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	jobs, _, err := c.client.Jobs(ctx, client.Query{})
	if err != nil {
		c.t.Errorf("list jobs to stop: %v", err)
		return
	}
	for _, j := range jobs {
		if _, err := c.client.StopJob(ctx, j.ID, false, client.Query{}); err != nil {
			c.t.Errorf("stop job %s: %v", j.ID, err)
		}
	}
	for _, j := range jobs {
		c.await(ctx, j.ID, func(allocs []*api.AllocationListStub) bool {
			return !slices.ContainsFunc(allocs, func(a *api.AllocationListStub) bool { return !api.ClientTerminal(a.ClientStatus) })
		})
	}
}

// await blocks until a job's allocations satisfy ok, and returns them.
func (c *cluster) await(ctx context.Context, job string, ok func([]*api.AllocationListStub) bool) []*api.AllocationListStub {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q := client.Query{Params: map[string]string{"resources": "true"}}
	for {
		allocs, meta, err := c.client.JobAllocations(ctx, job, q)
		if err != nil {
			if ctx.Err() != nil {
				c.t.Fatalf("job %s: allocations did not come to what was expected within %s", job, patience)
			}
			q.Index = 0 // the hub may be starting: ask it anew
			continue
		}
		if ok(allocs) {
			return allocs
		}
		q.Index, q.Wait = meta.Index, patience
	}
}

// processes lists what runs from this cluster's binary: pid -> command line.
func (c *cluster) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		exe, err := os.Readlink(filepath.Join(d, "exe"))
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != c.exe {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(d))
		raw, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		found[pid] = strings.TrimSpace(string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
	}
	return found
}

// helper returns the pid of an agent's helper process ("keeper", "logs-sink", "plugin raw_exec").
func (c *cluster) helper(verb string) int {
	c.t.Helper()
	for pid, cmdline := range c.processes() {
		if _, args, ok := strings.Cut(cmdline, " "); ok && strings.HasPrefix(args, verb) {
			return pid
		}
	}
	c.t.Fatalf("no process runs %q", verb)
	return 0
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// brume runs a command of the command line to its end.
func (c *cluster) brume(args ...string) result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return c.runWith(ctx, c.environ(), args...)
}

// command is brume with args, where the cluster is. "ip netns exec" becomes the command: the process id is brume's.
func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	if c.ns == nil {
		return exec.CommandContext(ctx, c.exe, args...)
	}
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", c.ns.name, c.exe}, args...)...)
}

// runWith is brume with an environment of its own.
func (c *cluster) runWith(ctx context.Context, env []string, args ...string) result {
	t := c.t
	t.Helper()
	cmd := c.command(ctx, args...)
	var out, errOut strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("brume %s: %v", strings.Join(args, " "), err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must fails the test unless the command ended with 0.
func (c *cluster) must(args ...string) string {
	c.t.Helper()
	r := c.brume(args...)
	if r.code != 0 {
		c.t.Fatalf("brume %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// file writes a job file into the cluster's directory.
func (c *cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// log reads a task's whole output.
func (c *cluster) log(alloc, task, stream string) string {
	c.t.Helper()
	body, err := c.client.Logs(c.t.Context(), client.LogQuery{Alloc: alloc, Task: task, Type: stream})
	if err != nil {
		c.t.Fatalf("logs of %s: %v", alloc, err)
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		c.t.Fatalf("logs of %s: %v", alloc, err)
	}
	return string(raw)
}

func (c *cluster) want(r result, code int, texts ...string) {
	c.t.Helper()
	all := r.stdout + r.stderr
	if r.code != code {
		c.t.Errorf("exit code %d, want %d:\n%s", r.code, code, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			c.t.Errorf("%q is missing in:\n%s", text, all)
		}
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}
