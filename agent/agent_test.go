package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/plugins"
)

// world is a hub and the wires of one agent, in a bubble.
type world struct {
	t      *testing.T
	net    *link.Memory
	gossip *gossip.Network
	hub    *fakeHub
	stop   func() // of the hub
	driver *scripted
	dir    string
	log    strings.Builder
}

func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		entries, _ := os.ReadDir(filepath.Join(dir, "allocs"))
		for _, e := range entries {
			if err := (dirs{allocs: filepath.Join(dir, "allocs")}).alloc(e.Name()).Remove(); err != nil {
				t.Error(err)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: link.NewMemory(), gossip: gossip.NewNetwork(), driver: newScripted(), dir: dir}
		w.hub, w.stop = newFakeHub(t, w.net, "10.0.0.8:4647")
		f(t, w)
		w.stop()
		w.net.Close()
		time.Sleep(time.Minute) // what memberlist leaves running ends by itself
	})
}

func (w *world) config() Config {
	cfg := DefaultConfig()
	cfg.Name, cfg.DataDir, cfg.Gossip = "n1", w.dir, "10.0.0.1:0"
	cfg.Log = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	cfg.Drivers = map[string]plugins.Client{"scripted": plugins.InProcess(w.driver)}
	cfg.Wires = Wires{
		Dial: w.net.Dialer("n1"), Gossip: w.gossip.Transport("10.0.0.1:0"),
		Fingerprint: func(context.Context) (*fingerprint.Facts, error) {
			return &fingerprint.Facts{Attributes: map[string]string{"kernel.name": "linux"}}, nil
		},
	}
	return cfg
}

// run starts an agent and returns what stops it; ready is closed when it is.
func (w *world) run(cfg Config) (ready <-chan struct{}, stop func() error) {
	up := make(chan struct{})
	cfg.Ready = func(string) { close(up) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	return up, func() error {
		cancel()
		return <-done
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestAgentJoinsRunsAndReports(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		synctest.Wait()
		var node *api.Node
		w.hub.on(func() {
			for _, n := range w.hub.nodes {
				node = n
			}
		})
		if node.Name != "n1" || node.Attributes["driver.scripted"] != "1" || !node.Drivers["scripted"].Healthy {
			t.Errorf("registered as %+v", node)
		}
		a := newAllocation(api.JobTypeBatch, "main")
		w.hub.want(a)
		synctest.Wait()
		if got := w.hub.status(a.ID); got != api.AllocClientRunning {
			t.Errorf("reported %q, want running", got)
		}
		w.driver.finish("main", plugins.ExitResult{})
		synctest.Wait()
		if got := w.hub.status(a.ID); got != api.AllocClientComplete {
			t.Errorf("reported %q, want complete", got)
		}
		w.must(stop())
	})
}

func TestNothingIsLostWhileTheHubIsAway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		a := newAllocation(api.JobTypeBatch, "main")
		w.hub.want(a)
		synctest.Wait()
		w.stop()
		w.driver.finish("main", plugins.ExitResult{})
		time.Sleep(time.Hour)
		w.stop = w.hub.serve(w.net)
		w.hub.on(func() { w.hub.refuse = 2 }) // and has no leader at first
		time.Sleep(api.NodeGrace + 3*reconnectLimit)
		if got := w.hub.status(a.ID); got != api.AllocClientComplete {
			t.Errorf("reported %q after the hub came back, want complete", got)
		}
		w.must(stop())
	})
}

func TestLinkIsMadeAgainAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		time.Sleep(time.Minute)
		w.hub.on(func() { clear(w.hub.nodes) })
		w.hub.hangUp()
		time.Sleep(time.Second) // much less than the grace
		w.hub.on(func() {
			if len(w.hub.nodes) != 1 {
				t.Error("the agent is not back a second after its link was cut")
			}
		})
		w.must(stop())
	})
}

func TestLaterStartsNeedNoFlags(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		synctest.Wait()
		w.must(stop())
		for _, f := range []string{"node/key.pem", "node/admission.json", "node/members.json", "agent.db"} {
			info, err := os.Stat(filepath.Join(w.dir, f))
			w.must(err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, want 0600", f, info.Mode().Perm())
			}
		}
		ready, stop = w.run(w.config())
		<-ready
		w.must(stop())
		if w.hub.joins != 1 || len(w.hub.nodes) != 1 {
			t.Errorf("%d joins of %d nodes, want one of one", w.hub.joins, len(w.hub.nodes))
		}
	})
}

func TestAnyMembersGossipAddressFindsTheHubs(t *testing.T) {
	for _, leaf := range []bool{false, true} {
		t.Run(map[bool]string{false: "a member", true: "a leaf asks once"}[leaf], func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
				ready, stop := w.run(cfg)
				<-ready
				w.must(stop())
				w.must(os.Remove(filepath.Join(w.dir, "node", "members.json")))
				time.Sleep(time.Minute)

				hub := w.member("10.0.0.8:7946", gossip.Meta{Role: "hub", NodeID: otherID(8), Region: "global", RPCPort: 4647})
				other := w.member("10.0.0.9:7946", gossip.Meta{Role: "agent", NodeID: otherID(9), Region: "global"})
				_, err := other.Join([]string{"10.0.0.8:7946"})
				w.must(err)
				cfg = w.config()
				cfg.Join, cfg.Leaf = []string{"10.0.0.9:7946"}, leaf
				ready, stop = w.run(cfg)
				<-ready
				w.must(stop())
				w.must(errors.Join(hub.Close(), other.Close()))
			})
		})
	}
}

func otherID(n byte) string { return "5c2f7bd1-0000-8000-8000-00000000000" + string('0'+n) }

func (w *world) member(addr string, meta gossip.Meta) *gossip.Pool {
	p, err := gossip.New(gossip.Config{Name: addr, Bind: addr, Key: w.hub.gossip, Meta: meta, Transport: w.gossip.Transport(addr),
		Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	return p
}

func TestJoinIsTriedUntilTheHubAnswers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hub.refuse = 3
		cfg := w.config()
		cfg.Log = slog.New(slog.NewTextHandler(&w.log, nil))
		cfg.Join, cfg.JoinToken = []string{"10.0.0.7:4647", "10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		w.must(stop())
		if w.hub.joins != 4 {
			t.Errorf("%d tries, want 4", w.hub.joins)
		}
		if !strings.Contains(w.log.String(), "No cluster leader") || strings.Contains(w.log.String(), w.hub.token.Secret) {
			t.Errorf("the log does not say why, or says too much:\n%s", &w.log)
		}
	})
}

func TestRunRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		adapt func(*world, *Config)
		want  string
	}{
		{"a token that the hub does not know", func(w *world, c *Config) {
			other := identityToken(w)
			c.JoinToken = other
		}, "unknown, used up or expired"},
		{"a token that is none", func(_ *world, c *Config) { c.JoinToken = "secret-nonsense" }, "not a join token"},
		{"a first start without a token", func(_ *world, c *Config) { c.JoinToken = "" }, "give a join token"},
		{"a data directory that is not absolute", func(_ *world, c *Config) { c.DataDir = "data" }, "not an absolute path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
				tt.adapt(w, &cfg)
				err := Run(t.Context(), cfg)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Run = %v, want %q", err, tt.want)
				}
				if err != nil && cfg.JoinToken != "" && strings.Contains(err.Error(), cfg.JoinToken) {
					t.Error("the error holds the token")
				}
			})
		})
	}
}

// identityToken is a token for the right cluster that the hub did not make.
func identityToken(w *world) string {
	other := w.hub.token
	other.Secret = strings.Repeat("ab", 32)
	return other.String()
}

func TestCertificateIsRenewedWhileLinked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hub.ttl = time.Hour
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		time.Sleep(2 * time.Hour) // each renewed after two thirds
		w.hub.on(func() {
			if w.hub.renewals != 3 {
				t.Errorf("%d renewals in two hours, want 3", w.hub.renewals)
			}
		})
		w.must(stop())
		ready, stop = w.run(w.config()) // with the renewed one
		<-ready
		w.must(stop())
	})
}

func TestTwoAgentsCannotShareADataDirectory(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Join, cfg.JoinToken = []string{"10.0.0.8:4647"}, w.hub.token.String()
		ready, stop := w.run(cfg)
		<-ready
		err := Run(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(w.dir, "agent.db")) {
			t.Errorf("Run = %v, want the database's path", err)
		}
		w.must(stop())
	})
}

func TestValidateReportsAllFaults(t *testing.T) {
	err := Config{Join: []string{":1"}, Gossip: "nowhere"}.Validate()
	for _, want := range []string{"data directory: missing", "datacenter: missing", "node pool: missing",
		"gossip address", "join address", "path of the program", "longest kill timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not say %q: %v", want, err)
		}
	}
	if !errors.Is(err, api.ErrInvalid) {
		t.Error("the faults are not of kind ErrInvalid")
	}
}

func TestAddressesWithoutAPortGetOne(t *testing.T) {
	got := withPort([]string{"hub", "10.0.0.1", "[::1]", "::1", "hub:7", "[::1]:7"}, "4647")
	want := []string{"hub:4647", "10.0.0.1:4647", "[::1]:4647", "[::1]:4647", "hub:7", "[::1]:7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("withPort (-want +got):\n%s", diff)
	}
}
