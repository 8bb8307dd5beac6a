package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testALPN = "brume-test/1"

// member makes a key and credentials of a role, signed by a.
func member(t *testing.T, a *Authority, role Role) (*Key, *Credentials) {
	t.Helper()
	key := must(NewKey())
	cert := must(a.Sign(must(key.CSR("n1")), grant(role)))
	return key, must(NewCredentials(key, cert, a.CertPEM()))
}

// handshake returns what each side says of a handshake over loopback; the server writes a byte at the end, since a
// client of TLS 1.3 learns only then whether its certificate was accepted.
func handshake(client, server *tls.Config) (clientErr, serverErr error) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	done := make(chan error)
	go func() {
		raw := must(ln.Accept())
		defer raw.Close()
		conn := tls.Server(raw, server)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		done <- err
	}()
	raw := must(net.Dial("tcp", ln.Addr().String()))
	defer raw.Close()
	conn := tls.Client(raw, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	raw.Close()
	return clientErr, <-done
}

func TestWhoTalksToWhom(t *testing.T) {
	a, b := must(NewAuthority(time.Now())), must(NewAuthority(time.Now()))
	_, hub := member(t, a, RoleHub)
	_, agent := member(t, a, RoleAgent)
	_, stranger := member(t, b, RoleAgent)
	_, strangeHub := member(t, b, RoleHub)
	noCert := agent.ClientConfig(testALPN)
	noCert.GetClientCertificate = nil
	for name, c := range map[string]struct {
		client, server *tls.Config
		want           string // "" if they talk
	}{
		"an agent and a hub":                  {agent.ClientConfig(testALPN), hub.ServerConfig(testALPN), ""},
		"a hub and a hub":                     {hub.ClientConfig(testALPN), hub.ServerConfig(testALPN), ""},
		"an agent that plays the hub":         {agent.ClientConfig(testALPN), agent.ServerConfig(testALPN), "usage"},
		"an agent of another cluster":         {stranger.ClientConfig(testALPN), hub.ServerConfig(testALPN), "unknown authority"},
		"a hub of another cluster":            {agent.ClientConfig(testALPN), strangeHub.ServerConfig(testALPN), "unknown authority"},
		"a client without a certificate":      {noCert, hub.ServerConfig(testALPN), "certificate"},
		"another protocol":                    {agent.ClientConfig("other/1"), hub.ServerConfig(testALPN), "protocol"},
		"a server that knows no protocols":    {agent.ClientConfig(testALPN), hub.ServerConfig(), "does not speak"},
		"a join, the token's cluster":         {JoinConfig(a.Hash()), open(hub.ServerConfig(ALPNJoin)), ""},
		"a join, another cluster":             {JoinConfig(b.Hash()), open(hub.ServerConfig(ALPNJoin)), "not of the cluster"},
		"a join at an agent":                  {JoinConfig(a.Hash()), open(agent.ServerConfig(ALPNJoin)), "not of the cluster"},
		"a join at who shows the authority's": {JoinConfig(a.Hash()), open(borrowed(t, a, b).ServerConfig(ALPNJoin)), "unknown authority"},
		"a join at an agent with the chain":   {JoinConfig(a.Hash()), open(chained(t, a).ServerConfig(ALPNJoin)), "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			clientErr, serverErr := handshake(c.client, c.server)
			err := errors.Join(clientErr, serverErr)
			if c.want == "" && err != nil {
				t.Errorf("they do not talk: %v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// open makes a server ask for no certificate, as package link does for joins.
func open(cfg *tls.Config) *tls.Config {
	cfg.ClientAuth, cfg.VerifyConnection = tls.NoClientCert, nil
	return cfg
}

// borrowed is a hub of b that sends a's certificate along.
func borrowed(t *testing.T, a, b *Authority) *Credentials {
	t.Helper()
	_, c := member(t, b, RoleHub)
	c.cur.Load().node.Certificate[1] = a.cert.Raw
	return c
}

// chained is an agent of a that sends its authority's certificate along, as hubs do.
func chained(t *testing.T, a *Authority) *Credentials {
	t.Helper()
	_, c := member(t, a, RoleAgent)
	node := c.cur.Load().node
	node.Certificate = append(node.Certificate, a.cert.Raw)
	return c
}

func TestExpiredCertificateIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := must(NewAuthority(time.Now()))
		key, agent := member(t, a, RoleAgent)
		hubKey, hub := member(t, a, RoleHub)
		time.Sleep(24*time.Hour - time.Minute)
		if err := errors.Join(handshake(agent.ClientConfig(testALPN), hub.ServerConfig(testALPN))); err != nil {
			t.Fatalf("before the end: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := errors.Join(handshake(agent.ClientConfig(testALPN), hub.ServerConfig(testALPN))); err == nil {
			t.Error("after the end they talk")
		}
		// Renewed credentials serve under the configurations made before.
		clientCfg, serverCfg := agent.ClientConfig(testALPN), hub.ServerConfig(testALPN)
		if err := agent.Replace(must(a.Sign(must(key.CSR("n1")), grant(RoleAgent))), a.CertPEM()); err != nil {
			t.Fatal(err)
		}
		if err := hub.Replace(must(a.Sign(must(hubKey.CSR("h1")), grant(RoleHub))), a.CertPEM()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(handshake(clientCfg, serverCfg)); err != nil {
			t.Errorf("after the renewal: %v", err)
		}
	})
}

func TestRenewAtTwoThirds(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	_, c := member(t, a, RoleAgent)
	left := time.Until(c.RenewAt())
	if left < 15*time.Hour || left > 16*time.Hour+time.Minute {
		t.Errorf("renews in %s, want about 16h of 24h", left)
	}
}

func TestCredentialsRefuse(t *testing.T) {
	a, b := must(NewAuthority(time.Now())), must(NewAuthority(time.Now()))
	key, other := must(NewKey()), must(NewKey())
	cert := must(a.Sign(must(key.CSR("n1")), grant(RoleAgent)))
	hubCert := must(a.Sign(must(key.CSR("h1")), grant(RoleHub)))
	for name, c := range map[string]struct {
		key          *Key
		certPEM, cas []byte
	}{
		"a certificate for another key":      {other, cert, a.CertPEM()},
		"an authority that did not sign":     {key, cert, b.CertPEM()},
		"no certificate":                     {key, nil, a.CertPEM()},
		"no authority":                       {key, cert, nil},
		"a key in place of a certificate":    {key, a.KeyPEM(), a.CertPEM()},
		"a hub without its API's one":        {key, firstBlock(hubCert), a.CertPEM()},
		"a certificate that names no member": {key, hubCert[len(firstBlock(hubCert)):], a.CertPEM()},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewCredentials(c.key, c.certPEM, c.cas); err == nil {
				t.Error("accepted")
			}
		})
	}
	creds := must(NewCredentials(key, cert, append(b.CertPEM(), a.CertPEM()...))) // two authorities during a change
	if err := creds.Replace(cert, b.CertPEM()); err == nil {
		t.Error("Replace accepted an authority that did not sign")
	}
	if p := creds.Peer(); p.NodeID != key.NodeID() || p.Role != RoleAgent {
		t.Errorf("after a refused Replace: %+v", p)
	}
}

func firstBlock(data []byte) []byte {
	const end = "-----END CERTIFICATE-----\n"
	i := strings.Index(string(data), end)
	return data[:i+len(end)]
}

func TestHTTPServesOrdinaryClients(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	_, hub := member(t, a, RoleHub)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	srv.TLS = hub.HTTPConfig()
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CertPEM())
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := string(must(io.ReadAll(resp.Body))); got != "HTTP/2.0" {
		t.Errorf("spoke %s", got)
	}
	if alg := resp.TLS.PeerCertificates[0].PublicKeyAlgorithm; alg != x509.ECDSA {
		t.Errorf("a certificate with %v: browsers accept ECDSA", alg)
	}
}
