package compat

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brumehq/brume/server"
)

// process is a brume of its own. It ends with the test.
type process struct {
	t     *testing.T
	said  string // what it printed until it was ready
	cmd   *exec.Cmd
	ended chan struct{}
}

// start runs the binary until it says that it is ready.
func start(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(brumeBin, args...), ended: make(chan struct{})}
	p.cmd.Env = append([]string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "BRUME_CONTEXT=" + filepath.Join(dir, "context"),
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}, env...)
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	said := make(chan string, 1)
	go func() {
		defer close(p.ended)
		var b strings.Builder
		ready := false
		for in := bufio.NewScanner(out); in.Scan(); {
			if b.WriteString(in.Text() + "\n"); !ready && strings.Contains(in.Text(), " is ready") {
				ready = true
				said <- b.String()
			}
		}
		close(said)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("brume %s: %v", strings.Join(args, " "), err)
		}
	}()
	select {
	case p.said = <-said:
	case <-time.After(patience):
	}
	if p.said == "" {
		t.Fatalf("brume %s is not ready", strings.Join(args, " "))
	}
	return p
}

// stop asks the process to end and waits until it has.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Errorf("%s did not end when asked to", p.cmd)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// after is the word that follows a text in what the process said.
func (p *process) after(text string) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(p.said, text)
	if words := strings.Fields(rest); ok && len(words) > 0 {
		return words[0]
	}
	p.t.Fatalf("%q is missing in:\n%s", text, p.said)
	return ""
}

// shortDir is a directory whose name leaves room for the names of sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "brume-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// dev runs a hub and a node in one process, as a user tries things out.
func dev(t *testing.T) *cluster {
	t.Helper()
	p := start(t, shortDir(t), nil, "dev", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0")
	return connect(t, p.after("Brume is ready: "), "", http.DefaultTransport.(*http.Transport).Clone())
}

// secure is a hub that serves TLS and wants a token, and machines that joined it.
type secure struct {
	*cluster
	dir, rpc string
	ca       []byte
}

func newSecure(t *testing.T) *secure {
	t.Helper()
	dir := shortDir(t)
	p := start(t, dir, nil, "hub", "--init", "--name", "h1", "--data-dir", filepath.Join(dir, "hub"),
		"--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--log-level", "warn")
	token, err := os.ReadFile(filepath.Join(dir, "hub", server.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "hub", server.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("the hub's CA is no certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	c := connect(t, p.after("Hub is ready: "), strings.TrimSpace(string(token)), transport)
	return &secure{cluster: c, dir: dir, rpc: p.after("agent --join "), ca: ca}
}

// agent lets a machine join and waits until it is ready.
func (s *secure) agent(t *testing.T, name string) *process {
	t.Helper()
	var reply struct{ Token string }
	_, err := s.Raw().Write("/v1/join-tokens", map[string]any{"Role": "agent", "Uses": 1, "TTL": time.Minute}, &reply, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, name+".hcl")
	if err := os.WriteFile(config, []byte(`plugin "raw_exec" {}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, s.dir, []string{"BRUME_JOIN_TOKEN=" + reply.Token}, "agent", "--name", name, "--join", s.rpc,
		"--data-dir", filepath.Join(s.dir, name), "--gossip", "127.0.0.1:0", "--config", config, "--log-level", "warn")
}
