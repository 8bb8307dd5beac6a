package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/identity"
)

// bubble runs f over a Memory in virtual time.
func bubble(t *testing.T, o worldOptions, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		defer w.close()
		f(t, w)
	})
}

func get(ctx context.Context, s *Session, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://link"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.RoundTripper().RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body)), err
}

func hello(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s: %s %s %s", name, r.Method, r.URL.Path, body)
	})
}

func TestRequestsGoBothWays(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", hello("agent"))
		defer agent.Close()
		for range 3 { // the second uses the stream of the first
			if got, err := get(t.Context(), agent, "/a"); err != nil || got != "200 hub: GET /a " {
				t.Fatalf("agent to hub: %q, %v", got, err)
			}
			if got, err := get(t.Context(), hub, "/b"); err != nil || got != "200 agent: GET /b " {
				t.Fatalf("hub to agent: %q, %v", got, err)
			}
		}
		if hub.Peer().Name != "n1" || agent.Peer().Name != "h1" {
			t.Errorf("peers %q and %q", hub.Peer().Name, agent.Peer().Name)
		}
	})
}

func TestStreamsPassUnbuffered(t *testing.T) {
	next := make(chan string)
	h := func() http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for line := range next {
				fmt.Fprintln(w, line)
				w.(http.Flusher).Flush()
			}
		})
	}
	bubble(t, worldOptions{}, func(t *testing.T, w *world) {
		next = make(chan string)
		agent, hub := w.connect("n1", h())
		defer agent.Close()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://link/logs", nil)
		go func() { next <- "line 0" }()
		resp, err := hub.RoundTripper().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for i := range 5 {
			if i > 0 {
				next <- fmt.Sprint("line ", i)
			}
			if !lines.Scan() || lines.Text() != fmt.Sprint("line ", i) {
				t.Fatalf("line %d: %q, %v", i, lines.Text(), lines.Err())
			}
		}
		close(next)
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("after the end: %q, %v", lines.Text(), lines.Err())
		}
	})
}

// parked is a handler that waits for its context's end and tells of it.
type parked struct{ in, out chan struct{} }

func newParked() parked { return parked{make(chan struct{}, 1), make(chan struct{}, 1)} }

func (p parked) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	p.in <- struct{}{}
	<-r.Context().Done()
	p.out <- struct{}{}
}

func TestClientGoneEndsHandler(t *testing.T) {
	for _, side := range []string{"hub", "agent"} {
		t.Run(side+" serves", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParked()
				w := newWorld(t, worldOptions{hub: p})
				defer w.close()
				agent, hub := w.connect("n1", p)
				defer agent.Close()
				client := agent
				if side == "agent" {
					client = hub
				}
				ctx, cancel := context.WithCancel(t.Context())
				failed := make(chan error, 1)
				go func() {
					_, err := get(ctx, client, "/watch")
					failed <- err
				}()
				<-p.in
				time.Sleep(time.Minute) // parked: nothing ends it
				select {
				case <-p.out:
					t.Fatal("the handler ended by itself")
				default:
				}
				cancel()
				start := time.Now()
				<-p.out
				if took := time.Since(start); took > pingEvery || side == "agent" && took > 0 {
					t.Errorf("the handler's context ended after %s", took)
				}
				if err := <-failed; !errors.Is(err, context.Canceled) {
					t.Errorf("the request: %v", err)
				}
				if err := agent.Err(); err != nil {
					t.Errorf("the session ended: %v", err)
				}
			})
		})
	}
}

func TestSessionGoneEndsBothSides(t *testing.T) {
	for _, side := range []string{"hub", "agent"} {
		t.Run(side+" serves", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParked()
				w := newWorld(t, worldOptions{hub: p})
				defer w.close()
				agent, hub := w.connect("n1", p)
				client, server := agent, hub
				if side == "agent" {
					client, server = hub, agent
				}
				failed := make(chan error, 1)
				go func() {
					_, err := get(context.Background(), client, "/watch")
					failed <- err
				}()
				<-p.in
				w.net.Kill("10.0.1.1")
				<-p.out
				if err := <-failed; err == nil {
					t.Error("the request did not fail")
				}
				<-agent.Done()
				<-hub.Done()
				if client.Err() == nil || server.Err() == nil {
					t.Errorf("errors %v and %v", client.Err(), server.Err())
				}
				agent.Close()
			})
		})
	}
}

func TestSilenceEndsSession(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", hello("agent"))
		defer agent.Close()
		time.Sleep(24 * time.Hour) // idle: pings keep it
		if agent.Err() != nil || hub.Err() != nil {
			t.Fatalf("idle: %v, %v", agent.Err(), hub.Err())
		}
		start := time.Now()
		w.net.Cut("10.0.1.1")
		<-hub.Done()
		if took := time.Since(start); took < 6*time.Second || took > 9*time.Second {
			t.Errorf("the hub took %s", took)
		}
		<-agent.Done()
		if took := time.Since(start); took < 6*time.Second || took > 9*time.Second {
			t.Errorf("the agent took %s", took)
		}
		if !errors.Is(hub.Err(), ErrSilent) || !errors.Is(agent.Err(), ErrSilent) {
			t.Errorf("errors %v and %v", hub.Err(), agent.Err())
		}
	})
}

func TestShortCutIsSurvived(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		agent, _ := w.connect("n1", nil)
		defer agent.Close()
		w.net.Cut("10.0.1.1")
		time.Sleep(5 * time.Second)
		w.net.Heal("10.0.1.1")
		time.Sleep(time.Minute)
		if got, err := get(t.Context(), agent, "/a"); err != nil || !strings.HasPrefix(got, "200") {
			t.Errorf("after the cut: %q, %v", got, err)
		}
	})
}

func TestPingMeasures(t *testing.T) {
	bubble(t, worldOptions{}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", nil)
		for _, s := range []*Session{agent, hub} {
			if _, err := s.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
		}
		w.net.Cut("10.0.1.1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := agent.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping of a silent peer: %v", err)
		}
		agent.Close()
		if _, err := agent.Ping(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Ping after Close: %v", err)
		}
	})
}

func TestCloseIsSeenAtOnce(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", nil)
		start := time.Now()
		agent.Close()
		<-hub.Done()
		if took := time.Since(start); took > time.Millisecond {
			t.Errorf("took %s", took)
		}
		if err := hub.Err(); !errors.Is(err, io.EOF) {
			t.Errorf("the hub's error: %v", err)
		}
		if err := agent.Err(); !errors.Is(err, ErrClosed) {
			t.Errorf("the agent's error: %v", err)
		}
	})
}

func TestPanicEndsSessionOnly(t *testing.T) {
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("at the disco") })
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{hub: panics})
		defer w.close()
		agent, hub := w.connect("n1", nil)
		if _, err := get(t.Context(), agent, "/a"); err == nil {
			t.Error("the request succeeded")
		}
		<-hub.Done()
		if err := hub.Err(); err == nil || !strings.Contains(err.Error(), "at the disco") {
			t.Errorf("the hub's error: %v", err)
		}
		agent.Close()
		other, _ := w.connect("n2", nil)
		if err := other.Err(); err != nil {
			t.Errorf("another session: %v", err)
		}
		other.Close()
	})
}

func TestConnectTellsWhyItIsRefused(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		creds := w.ca.member(identity.RoleAgent, "n1")
		time.Sleep(25 * time.Hour)
		_, err := Connect(t.Context(), w.addr, creds.ClientConfig(ALPNAgent), w.dial)
		if err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("an expired certificate: %v", err)
		}
	})
}

func TestUpgradePassesThrough(t *testing.T) {
	shout := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "shout")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(conn, strings.ToUpper(line))
		}
	})
	bubble(t, worldOptions{}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", shout)
		defer agent.Close()
		req, _ := http.NewRequest("GET", "http://link/exec", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "shout")
		resp, err := hub.RoundTripper().RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("upgrade: %+v, %v", resp, err)
		}
		conn := resp.Body.(io.ReadWriteCloser)
		defer conn.Close()
		lines := bufio.NewReader(conn)
		for _, word := range []string{"one", "two"} {
			fmt.Fprintln(conn, word)
			if got, err := lines.ReadString('\n'); err != nil || got != strings.ToUpper(word)+"\n" {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}
