package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/brumehq/brume/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCA grants what the tests need.
type testCA struct {
	*identity.Authority
	t testing.TB
}

func newTestCA(t testing.TB) testCA {
	t.Helper()
	a, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return testCA{a, t}
}

// member makes credentials signed by the authority.
func (ca testCA) member(role identity.Role, name string) *identity.Credentials {
	ca.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		ca.t.Fatal(err)
	}
	csr, err := key.CSR(name)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := ca.Sign(csr, identity.Grant{
		Role: role, Name: name, Region: "global", NotBefore: time.Now(), TTL: 24 * time.Hour,
	})
	if err != nil {
		ca.t.Fatal(err)
	}
	creds, err := identity.NewCredentials(key, cert, ca.CertPEM())
	if err != nil {
		ca.t.Fatal(err)
	}
	return creds
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// world is a hub with a port, and a network to reach it by.
type world struct {
	t     testing.TB
	ca    testCA
	net   *Memory // nil: loopback TCP
	addr  string
	stop  context.CancelFunc
	ended sync.WaitGroup

	sessions chan *Session // the hub's ends
}

type worldOptions struct {
	tcp      bool
	hub      http.Handler       // answers agents
	handlers map[string]Handler // instead of ALPNAgent alone
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{t: t, ca: newTestCA(t), sessions: make(chan *Session, 10000)}
	var ln net.Listener
	var err error
	if o.tcp {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	} else {
		w.net = NewMemory()
		ln, err = w.net.Listen("10.0.0.1:4647")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	mux := Listen(ln, w.ca.member(identity.RoleHub, "h1").ServerConfig(), testLog(t))
	mux.Handle(ALPNAgent, func(ctx context.Context, conn *tls.Conn) {
		s, err := Accept(conn)
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		w.sessions <- s
		if o.hub != nil {
			s.Serve(ctx, o.hub)
		} else {
			select {
			case <-ctx.Done():
			case <-s.Done():
			}
		}
		s.Close()
	})
	for alpn, h := range o.handlers {
		mux.Handle(alpn, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.ended.Go(func() {
		if err := mux.Serve(ctx); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

// close waits for all that the world started.
func (w *world) close() {
	w.stop()
	w.ended.Wait()
	if w.net != nil {
		w.net.Close()
	}
}

func (w *world) dial(ctx context.Context, addr string) (net.Conn, error) {
	if w.net == nil {
		return Dial(ctx, addr)
	}
	return w.net.Dialer("10.0.1.1")(ctx, addr)
}

// connect opens an agent's session that serves h.
func (w *world) connect(name string, h http.Handler) (agent, hub *Session) {
	w.t.Helper()
	cfg := w.ca.member(identity.RoleAgent, name).ClientConfig(ALPNAgent)
	agent, err := Connect(context.Background(), w.addr, cfg, w.dial)
	if err != nil {
		w.t.Fatal(err)
	}
	if h != nil {
		w.ended.Go(func() { agent.Serve(context.Background(), h) })
	}
	return agent, <-w.sessions
}
