package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/identity"
)

// echo answers a connection with its protocol and who its peer is.
func echo(_ context.Context, conn *tls.Conn) {
	defer conn.Close()
	cs := conn.ConnectionState()
	who := "nobody"
	if len(cs.PeerCertificates) > 0 {
		if p, err := identity.PeerOf(cs.PeerCertificates[0]); err == nil {
			who = string(p.Role) + " " + p.Name
		}
	}
	io.WriteString(conn, cs.NegotiatedProtocol+" "+who)
}

var echoAll = map[string]Handler{ALPNAgent: echo, ALPNHub: echo, ALPNRaft: echo, ALPNJoin: echo}

// talk returns what the server says, or the error.
func (w *world) talk(cfg *tls.Config) (string, error) {
	conn, err := DialTLS(context.Background(), w.addr, cfg, w.dial)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	return string(text), err
}

func TestRolesSpeakTheirProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{handlers: echoAll})
		defer w.close()
		hub, agent := w.ca.member(identity.RoleHub, "h2"), w.ca.member(identity.RoleAgent, "n1")
		stranger := newTestCA(t).member(identity.RoleAgent, "n1")
		bare := agent.ClientConfig(ALPNAgent)
		bare.GetClientCertificate = nil
		both := identity.JoinConfig(w.ca.Hash())
		both.NextProtos = []string{ALPNJoin, ALPNRaft}
		both.VerifyConnection = nil
		none := agent.ClientConfig(ALPNAgent)
		none.NextProtos, none.VerifyConnection = nil, nil
		for name, c := range map[string]struct {
			cfg  *tls.Config
			want string // "" if refused
		}{
			"an agent links":                             {agent.ClientConfig(ALPNAgent), ALPNAgent + " agent n1"},
			"an agent forwards as a hub":                 {agent.ClientConfig(ALPNHub), ""},
			"an agent speaks Raft":                       {agent.ClientConfig(ALPNRaft), ""},
			"a hub forwards":                             {hub.ClientConfig(ALPNHub), ALPNHub + " hub h2"},
			"a hub speaks Raft":                          {hub.ClientConfig(ALPNRaft), ALPNRaft + " hub h2"},
			"a hub links as an agent":                    {hub.ClientConfig(ALPNAgent), ""},
			"another cluster's agent links":              {stranger.ClientConfig(ALPNAgent), ""},
			"without a certificate":                      {bare, ""},
			"a first join":                               {identity.JoinConfig(w.ca.Hash()), ALPNJoin + " nobody"},
			"a first join that would speak Raft too":     {both, ""},
			"an unknown protocol":                        {agent.ClientConfig("brume-x/1"), ""},
			"no protocol":                                {none, ""},
			"a first join that means another cluster":    {identity.JoinConfig(newTestCA(t).Hash()), ""},
			"a member that joins again uses no identity": {agent.ClientConfig(ALPNJoin), ALPNJoin + " nobody"},
		} {
			got, err := w.talk(c.cfg)
			if got != c.want || (err != nil) != (c.want == "" && name != "no protocol") {
				t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
			}
		}
	})
}

func TestHandshakeHasLimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{handlers: echoAll})
		defer w.close()
		conn, err := w.dial(t.Context(), w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		io.ReadAll(conn)
		if took := time.Since(start); took != handshakeTimeout {
			t.Errorf("a silent client is dropped after %s, want %s", took, handshakeTimeout)
		}
	})
}

func TestJoinIsBounded(t *testing.T) {
	for what, f := range map[string]func(t *testing.T, dial func() *tls.Conn, read <-chan int){
		"bytes": func(t *testing.T, dial func() *tls.Conn, read <-chan int) {
			dial().Write(make([]byte, 1<<20))
			if n := <-read; n >= maxJoinBytes || n < maxJoinBytes/2 {
				t.Errorf("the handler read %d bytes, want near %d", n, maxJoinBytes)
			}
		},
		"time": func(t *testing.T, dial func() *tls.Conn, read <-chan int) {
			start := time.Now()
			dial()
			<-read
			if took := time.Since(start); took != joinTimeout {
				t.Errorf("a silent join lasts %s, want %s", took, joinTimeout)
			}
		},
		"rate": func(t *testing.T, dial func() *tls.Conn, read <-chan int) {
			start := time.Now()
			for range joinBurst + 5*joinRate {
				dial().Close()
				<-read
			}
			if took := time.Since(start); took < 4*time.Second || took > 6*time.Second {
				t.Errorf("%d joins took %s, want about 5s", joinBurst+5*joinRate, took)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				read := make(chan int, 1)
				w := newWorld(t, worldOptions{handlers: map[string]Handler{
					ALPNJoin: func(_ context.Context, conn *tls.Conn) {
						defer conn.Close()
						n, _ := io.Copy(io.Discard, conn)
						read <- int(n)
					},
				}})
				defer w.close()
				f(t, func() *tls.Conn {
					conn, err := DialTLS(t.Context(), w.addr, identity.JoinConfig(w.ca.Hash()), w.dial)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					return conn
				}, read)
			})
		})
	}
}

func TestJoinFloodIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{handlers: echoAll})
		defer w.close()
		const n = joinBurst + 5*joinRate + 50
		results := make(chan error, n)
		for range n {
			go func() {
				_, err := w.talk(identity.JoinConfig(w.ca.Hash()))
				results <- err
			}()
		}
		served := 0
		for range n {
			if err := <-results; err == nil {
				served++
			}
		}
		if served < joinBurst+5*joinRate || served > joinBurst+5*joinRate+5 {
			t.Errorf("%d of %d joins at once were served, want what %s allow", served, n, maxJoinWait)
		}
		if got, err := w.talk(w.ca.member(identity.RoleAgent, "n1").ClientConfig(ALPNAgent)); err != nil {
			t.Errorf("a member: %q, %v", got, err)
		}
	})
}

func TestTooManyConnectionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewMemory()
		defer net.Close()
		ln, err := net.Listen("10.0.0.1:4647")
		if err != nil {
			t.Fatal(err)
		}
		ca := newTestCA(t)
		var logged strings.Builder
		mux := Listen(ln, ca.member(identity.RoleHub, "h1").ServerConfig(), slog.New(slog.NewTextHandler(&logged, nil)))
		mux.Handle(ALPNAgent, echo)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- mux.Serve(ctx) }()
		idle := make([]*rawConn, maxConns)
		for i := range idle {
			near, _ := newMemPair(net, "a:1", "b:1")
			idle[i] = mux.track(near)
		}
		w := &world{t: t, net: net, addr: mux.Addr().String()}
		agent := ca.member(identity.RoleAgent, "n1").ClientConfig(ALPNAgent)
		for range 3 {
			if got, err := w.talk(agent); err == nil {
				t.Errorf("one more: %q", got)
			}
		}
		idle[0].Close()
		if _, err := w.talk(agent); err != nil {
			t.Errorf("in the place of one that closed: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := strings.Count(logged.String(), "refuse connections"); n != 1 {
			t.Errorf("it was logged %d times, want once:\n%s", n, logged.String())
		}
	})
}

func TestServeEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := make(chan *tls.Conn, 1)
		w := newWorld(t, worldOptions{
			hub: newParked(),
			handlers: map[string]Handler{ALPNRaft: func(_ context.Context, conn *tls.Conn) {
				kept <- conn // handed on: the handler returns, the connection lives
			}},
		})
		agent, _ := w.connect("n1", hello("agent"))
		go get(context.Background(), agent, "/watch")
		raft, err := DialTLS(t.Context(), w.addr, w.ca.member(identity.RoleHub, "h2").ClientConfig(ALPNRaft), w.dial)
		if err != nil {
			t.Fatal(err)
		}
		defer raft.Close()
		far := <-kept
		if _, err := far.Write([]byte("x")); err != nil {
			t.Errorf("a connection that was handed on: %v", err)
		}
		start := time.Now()
		w.stop()
		w.ended.Wait()
		if took := time.Since(start); took > closeGrace {
			t.Errorf("Serve ended after %s", took)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection that was handed on: %v, want it closed", err)
		}
		<-agent.Done()
		agent.Close()
		w.close()
	})
}

func TestListenerFailureIsReturned(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := Listen(ln, newTestCA(t).member(identity.RoleHub, "h1").ServerConfig(), testLog(t))
	ln.Close()
	if err := m.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

// flaky fails the first accepts as a process does that has no file descriptors left.
type flaky struct {
	net.Listener
	fails int
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		defer m.Close()
		ln, err := m.Listen("10.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ca := newTestCA(t)
		mux := Listen(&flaky{ln, 20}, ca.member(identity.RoleHub, "h1").ServerConfig(), testLog(t))
		mux.Handle(ALPNAgent, echo)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- mux.Serve(ctx) }()
		conn, err := DialTLS(t.Context(), mux.Addr().String(), ca.member(identity.RoleAgent, "n1").ClientConfig(ALPNAgent),
			func(ctx context.Context, addr string) (net.Conn, error) {
				time.Sleep(20 * time.Second)
				return m.Dial(ctx, addr)
			})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.HasPrefix(string(text), ALPNAgent) {
			t.Errorf("got %q", text)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}
