package link

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/brumehq/brume/identity"
)

// agentsEnv makes this test binary play many agents: "address number directory of the CA".
const agentsEnv = "BRUME_LINK_TEST_AGENTS"

// parkedAgents starts a hub here and n agents in a process of their own, each with one parked long poll, so that what
// this process holds is the hub's.
type parkedAgents struct {
	w      *world
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	before int64 // bytes of this process before they came
}

func startParkedAgents(t testing.TB, n int) *parkedAgents {
	t.Helper()
	statuses := http.NewServeMux()
	statuses.Handle("GET /watch", parkedForEver{})
	statuses.HandleFunc("PUT /statuses", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"Index":1}`)
	})
	w := newWorld(t, worldOptions{tcp: true, hub: statuses})
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.pem": w.ca.CertPEM(), "ca.key": w.ca.KeyPEM()} {
		if err := identity.WriteFile(filepath.Join(dir, name), data); err != nil {
			t.Fatal(err)
		}
	}
	p := &parkedAgents{w: w, before: resident(t)}
	p.cmd = exec.Command(os.Args[0], "-test.run=^TestPlayAgents$", "-test.v=false")
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", agentsEnv, w.addr, n, dir))
	p.cmd.Stderr = t.Output()
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "parked")
	return p
}

func (p *parkedAgents) expect(t testing.TB, line string) {
	t.Helper()
	if !p.out.Scan() || p.out.Text() != line {
		t.Fatalf("the agents say %q (%v), want %q", p.out.Text(), p.out.Err(), line)
	}
}

// post makes each agent report three times, and waits until the streams of the reports are gone.
func (p *parkedAgents) post(t testing.TB) {
	fmt.Fprintln(p.in, "post")
	p.expect(t, "posted")
	for range len(p.w.sessions) {
		s := <-p.w.sessions
		if _, err := s.Ping(t.Context()); err != nil { // an agent's answer follows the ends of its streams
			t.Error(err)
		}
		p.w.sessions <- s
	}
}

func (p *parkedAgents) stop(t testing.TB) {
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the agents: %v", err)
	}
	p.w.close()
}

// resident returns the memory of this process, after what the kernel may take back was given back.
func resident(t testing.TB) int64 {
	t.Helper()
	debug.FreeOSMemory()
	return residentAsIs(t)
}

func residentAsIs(t testing.TB) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestPlayAgents is the process of parkedAgents.
func TestPlayAgents(t *testing.T) {
	args := strings.Fields(os.Getenv(agentsEnv))
	if len(args) == 0 {
		return // only the tests that need agents in a process of their own start it
	}
	addr, dir := args[0], args[2]
	n, err := strconv.Atoi(args[1])
	if err != nil {
		t.Fatal(err)
	}
	ca := loadTestCA(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sessions := make([]*Session, n)
	var polls, connects sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.NumCPU())
	for i := range sessions {
		slots <- struct{}{}
		connects.Go(func() {
			defer func() { <-slots }()
			cfg := ca.member(identity.RoleAgent, fmt.Sprintf("n%d", i)).ClientConfig(ALPNAgent)
			s, err := Connect(ctx, addr, cfg, nil)
			if err != nil {
				t.Error(err)
				return
			}
			sessions[i] = s
			polls.Go(func() { get(ctx, s, "/watch") })
		})
	}
	connects.Wait()
	if t.Failed() {
		return
	}
	for _, s := range sessions {
		for s.yam.NumStreams() == 0 { // its poll is not under way yet
			runtime.Gosched()
		}
		if _, err := s.Ping(ctx); err != nil { // now it has reached the hub
			t.Error(err)
		}
	}
	fmt.Println("parked")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		for _, s := range sessions {
			for range 3 {
				req, _ := http.NewRequest("PUT", "http://link/statuses", strings.NewReader(strings.Repeat("s", 300)))
				resp, err := s.RoundTripper().RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			s.transport().CloseIdleConnections()
		}
		fmt.Println("posted")
	}
	cancel()
	polls.Wait()
	for _, s := range sessions {
		s.Close()
	}
}

func loadTestCA(t testing.TB, dir string) testCA {
	t.Helper()
	cert, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.ParseAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{a, t}
}

// memoryBudget is what a connected idle agent may cost a hub.
const memoryBudget = 56 << 10

func TestParkedAgentIsInBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIP race: the detector multiplies memory")
	}
	const n = 1000
	p := startParkedAgents(t, n)
	defer p.stop(t)
	check := func(when string) {
		asIs, kept := residentAsIs(t), resident(t)
		t.Logf("%s: %.1f KiB of resident memory an agent, %.1f after collection", when,
			float64(asIs-p.before)/n/1024, float64(kept-p.before)/n/1024)
		if each := (kept - p.before) / n; each > memoryBudget {
			t.Errorf("%s: %d bytes an agent, want at most %d", when, each, memoryBudget)
		}
	}
	check("parked")
	p.post(t)
	check("after three reports each")
}

// BenchmarkParkedAgent reports what each of 5,000 connected idle agents costs a hub.
func BenchmarkParkedAgent(b *testing.B) {
	const n = 5000
	for b.Loop() {
		p := startParkedAgents(b, n)
		b.ReportMetric(float64(residentAsIs(b)-p.before)/n/1024, "KiB/agent-as-is")
		b.ReportMetric(float64(resident(b)-p.before)/n/1024, "KiB/agent")
		p.post(b)
		b.ReportMetric(float64(residentAsIs(b)-p.before)/n/1024, "KiB/agent-posted-as-is")
		b.ReportMetric(float64(resident(b)-p.before)/n/1024, "KiB/agent-posted")
		p.stop(b)
	}
}
