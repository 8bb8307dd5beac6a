package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// grant is a valid grant for tests to change.
func grant(role Role) Grant {
	return Grant{Role: role, Name: "n1", Region: "global", NotBefore: time.Now(), TTL: 24 * time.Hour}
}

func TestNodeIDIsOfTheKey(t *testing.T) {
	pub := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	// The first half of SHA-256 of the public key of the all-zero seed, version 8 and variant set; computed apart.
	if got, want := NodeID(pub), "139e3940-e64b-8491-b220-88d9a0d74162"; got != want {
		t.Errorf("NodeID = %s, want %s", got, want)
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for range 50 {
		if id := must(NewKey()).NodeID(); !form.MatchString(id) {
			t.Errorf("NodeID %s is no version 8 UUID", id)
		}
	}
}

func TestKeyFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "node.key")
	first := must(LoadOrCreateKey(path))
	again := must(LoadOrCreateKey(path))
	if first.NodeID() != again.NodeID() || !first.http.Equal(again.http) {
		t.Error("a second load gives another key")
	}
	if mode := must(os.Stat(path)).Mode().Perm(); mode != 0o600 {
		t.Errorf("file mode %#o", mode)
	}
	if mode := must(os.Stat(filepath.Dir(path))).Mode().Perm(); mode != 0o700 {
		t.Errorf("directory mode %#o", mode)
	}
	if left := must(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
		t.Errorf("%d files in the directory, want the key alone", len(left))
	}
}

func TestKeyFileIsRefused(t *testing.T) {
	for name, prepare := range map[string]func(path string){
		"readable by others": func(path string) { os.WriteFile(path, must(newKeyPEM()), 0o644) },
		"not PEM":            func(path string) { os.WriteFile(path, []byte("key"), 0o600) },
		"empty":              func(path string) { os.WriteFile(path, nil, 0o600) },
		"another algorithm": func(path string) {
			der := must(x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
			os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.key")
			prepare(path)
			before := must(os.ReadFile(path))
			if _, err := LoadOrCreateKey(path); err == nil {
				t.Error("loaded")
			}
			if !bytes.Equal(before, must(os.ReadFile(path))) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestConcurrentStartsShareOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i] = must(LoadOrCreateKey(path)).NodeID() })
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("ids differ: %v", ids)
		}
	}
}

func TestAuthorityRoundTrip(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	b := must(ParseAuthority(a.CertPEM(), a.KeyPEM()))
	if a.Hash() != b.Hash() || !bytes.Equal(a.KeyPEM(), b.KeyPEM()) {
		t.Error("a parsed authority differs")
	}
	other := must(NewAuthority(time.Now()))
	if _, err := ParseAuthority(a.CertPEM(), other.KeyPEM()); err == nil {
		t.Error("another authority's key was accepted")
	}
	cert := must(a.Sign(must(must(NewKey()).CSR("n1")), grant(RoleAgent)))
	if _, err := ParseAuthority(cert, a.KeyPEM()); err == nil {
		t.Error("a member's certificate was accepted as an authority's")
	}
}

func TestSignSaysWhatIsGranted(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	key := must(NewKey())
	g := grant(RoleHub)
	g.DNSNames = []string{"server.example"}
	g.IPs = []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(127, 0, 0, 1)}
	certs := must(parseCertificates(must(a.Sign(must(key.CSR("liar")), g))))
	if len(certs) != 2 {
		t.Fatalf("%d certificates, want 2", len(certs))
	}
	node, http := certs[0], certs[1]
	peer := must(PeerOf(node))
	want := Peer{Role: RoleHub, NodeID: key.NodeID(), Name: "n1", Region: "global", NotAfter: g.NotBefore.Add(g.TTL).UTC().Truncate(time.Second)}
	if diff := cmp.Diff(want, peer); diff != "" {
		t.Errorf("peer (-want +got):\n%s", diff)
	}
	if got := node.URIs[0].String(); got != "brume://global/hub/"+key.NodeID() {
		t.Errorf("URI %s", got)
	}
	for _, host := range []string{"server.example", "localhost", "127.0.0.1", "::1", "10.0.0.1"} {
		if err := http.VerifyHostname(host); err != nil {
			t.Errorf("HTTP certificate: %v", err)
		}
	}
	if n := len(http.IPAddresses); n != 3 {
		t.Errorf("%d addresses, want 3: none twice", n)
	}
	if _, err := PeerOf(http); err == nil {
		t.Error("the HTTP certificate names a member")
	}
	if node.IsCA || http.IsCA {
		t.Error("a member's certificate is an authority's")
	}
}

func TestSignIgnoresTheRequestsNames(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	key := must(NewKey())
	uri := must(url.Parse("brume://global/hub/" + key.NodeID()))
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, URIs: []*url.URL{uri}, DNSNames: []string{"evil.example"},
		IPAddresses:     []net.IP{net.IPv4(10, 9, 9, 9)},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}, // CA:true
	}, key.Signer()))
	certs := must(parseCertificates(must(a.Sign(encodeRequest(der), grant(RoleAgent)))))
	if len(certs) != 1 {
		t.Fatalf("%d certificates for an agent, want 1", len(certs))
	}
	c := certs[0]
	if p := must(PeerOf(c)); p.Role != RoleAgent || p.Name != "n1" {
		t.Errorf("peer %+v", p)
	}
	if len(c.DNSNames) != 0 || len(c.IPAddresses) != 0 || c.IsCA {
		t.Errorf("names %v, addresses %v, authority %v", c.DNSNames, c.IPAddresses, c.IsCA)
	}
}

func encodeRequest(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
}

func TestSignRefuses(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	key := must(NewKey())
	good := must(key.CSR("n1"))
	request := func(signer any) []byte {
		return encodeRequest(must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)))
	}
	node := request(key.node)
	forged, _ := pem.Decode(node)
	forged.Bytes[len(forged.Bytes)-1] ^= 1
	type change func(*Grant)
	with := func(c change) Grant { g := grant(RoleAgent); c(&g); return g }
	for name, c := range map[string]struct {
		csr   []byte
		grant Grant
		want  string
	}{
		"a signature that is not the key's":  {pem.EncodeToMemory(forged), grant(RoleAgent), "verif"},
		"an RSA key":                         {request(must(rsa.GenerateKey(rand.Reader, 2048))), grant(RoleAgent), "key of type"},
		"an ECDSA key alone":                 {request(key.http), grant(RoleAgent), "no Ed25519"},
		"P-384 beside the node key":          {append(node, request(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)))...), grant(RoleHub), "P-256"},
		"two node keys":                      {append(node, request(must(NewKey()).node)...), grant(RoleAgent), "two Ed25519"},
		"a hub without a key for its API":    {node, grant(RoleHub), "P-256"},
		"more than 16 KiB":                   {append(good, make([]byte, maxCSR)...), grant(RoleAgent), "at most"},
		"nothing":                            {nil, grant(RoleAgent), "no Ed25519"},
		"a certificate instead of a request": {a.CertPEM(), grant(RoleAgent), "PEM block"},
		"an unknown role":                    {good, with(func(g *Grant) { g.Role = "root" }), "role"},
		"no role":                            {good, with(func(g *Grant) { g.Role = "" }), "role"},
		"a name with a space":                {good, with(func(g *Grant) { g.Name = "a b" }), "name"},
		"no name":                            {good, with(func(g *Grant) { g.Name = "" }), "name"},
		"a name of 65 bytes":                 {good, with(func(g *Grant) { g.Name = strings.Repeat("a", 65) }), "name"},
		"a region that is no host of a URI":  {good, with(func(g *Grant) { g.Region = "a/b" }), "region"},
		"no lifetime":                        {good, with(func(g *Grant) { g.TTL = 0 }), "lifetime"},
		"no begin":                           {good, with(func(g *Grant) { g.NotBefore = time.Time{} }), "begin"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := a.Sign(c.csr, c.grant); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestCertificateEndsWithItsAuthority(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	g := grant(RoleAgent)
	g.TTL = 100 * 365 * 24 * time.Hour
	c := must(parseCertificates(must(a.Sign(must(must(NewKey()).CSR("n1")), g))))[0]
	if !c.NotAfter.Equal(a.cert.NotAfter) {
		t.Errorf("ends %s, its authority %s", c.NotAfter, a.cert.NotAfter)
	}
}

func TestPeerOfRefuses(t *testing.T) {
	key := must(NewKey())
	id := key.NodeID()
	cert := func(name string, uris ...string) *x509.Certificate {
		c := &x509.Certificate{PublicKey: key.node.Public(), Subject: pkix.Name{CommonName: name}}
		for _, u := range uris {
			c.URIs = append(c.URIs, must(url.Parse(u)))
		}
		return c
	}
	if _, err := PeerOf(cert("n1", "brume://global/agent/"+id)); err != nil {
		t.Fatalf("a good certificate: %v", err)
	}
	for name, c := range map[string]*x509.Certificate{
		"no certificate":      nil,
		"no URI":              cert("n1"),
		"two URIs":            cert("n1", "brume://global/agent/"+id, "brume://global/hub/"+id),
		"another scheme":      cert("n1", "spiffe://global/agent/"+id),
		"an unknown role":     cert("n1", "brume://global/root/"+id),
		"no region":           cert("n1", "brume:///agent/"+id),
		"a longer path":       cert("n1", "brume://global/agent/"+id+"/x"),
		"a query":             cert("n1", "brume://global/agent/"+id+"?x=1"),
		"a fragment":          cert("n1", "brume://global/agent/"+id+"#x"),
		"a user":              cert("n1", "brume://u:p@global/agent/"+id),
		"a port":              cert("n1", "brume://global:1/agent/"+id),
		"an escaped path":     cert("n1", "brume://global/%61gent/"+id),
		"another node's id":   cert("n1", "brume://global/agent/"+must(NewKey()).NodeID()),
		"a name with control": cert("n1\n", "brume://global/agent/"+id),
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := PeerOf(c); err == nil {
				t.Errorf("accepted as %+v", p)
			}
		})
	}
}

func TestJoinTokenRoundTrip(t *testing.T) {
	a := must(NewAuthority(time.Now()))
	tok := NewJoinToken(a.Hash())
	if got := must(ParseJoinToken(" " + tok.String() + "\n")); got != tok {
		t.Errorf("parsed %v, want %v", got, tok)
	}
	if tok.LogValue().String() != tok.ID {
		t.Error("the log value is not the id alone")
	}
	if !SecretMatches(tok.Secret, HashSecret(tok.Secret)) || SecretMatches("x", HashSecret(tok.Secret)) || SecretMatches(tok.Secret, nil) {
		t.Error("SecretMatches is wrong")
	}
	if NewJoinToken(a.Hash()).Secret == tok.Secret {
		t.Error("two tokens have one secret")
	}
}

func TestParseJoinTokenRefuses(t *testing.T) {
	tok := NewJoinToken(strings.Repeat("0", 64))
	s := tok.String()
	for name, in := range map[string]string{
		"empty":            "",
		"two parts":        tok.ID + "." + tok.Secret,
		"four parts":       s + ".x",
		"upper case":       strings.ToUpper(s[:16]) + "A" + s[17:],
		"a short secret":   tok.ID + "." + tok.Secret[1:] + "." + tok.CAHash,
		"a longer id":      "0" + s,
		"a space within":   strings.Replace(s, ".", " .", 1),
		"letters, not hex": strings.Repeat("z", 16) + s[16:],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseJoinToken(in)
			if err == nil {
				t.Fatal("parsed")
			}
			if len(in) > 20 && strings.Contains(err.Error(), tok.Secret[1:]) {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestClusterKeySeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	k := must(LoadOrCreateClusterKey(path))
	sealed := must(k.Seal([]byte("secret"), []byte("ca")))
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("sealed text is plain")
	}
	if bytes.Equal(sealed, must(k.Seal([]byte("secret"), []byte("ca")))) {
		t.Error("the same text sealed twice is equal")
	}
	again := must(LoadOrCreateClusterKey(path))
	passed := must(ParseClusterKey(k.Bytes()))
	other := filepath.Join(t.TempDir(), "hub2", "cluster.key")
	if err := passed.Save(other); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*ClusterKey{"loaded": again, "passed on": passed, "saved": must(LoadOrCreateClusterKey(other))} {
		if plain, err := key.Open(sealed, []byte("ca")); err != nil || string(plain) != "secret" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	stranger := must(LoadOrCreateClusterKey(filepath.Join(t.TempDir(), "k")))
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another key": func() ([]byte, error) { return stranger.Open(sealed, []byte("ca")) },
		"another aad": func() ([]byte, error) { return k.Open(sealed, []byte("gossip")) },
		"changed":     func() ([]byte, error) { return k.Open(changed, []byte("ca")) },
		"cut short":   func() ([]byte, error) { return k.Open(sealed[:5], []byte("ca")) },
		"empty":       func() ([]byte, error) { return k.Open(nil, []byte("ca")) },
		"plain text":  func() ([]byte, error) { return k.Open([]byte("plain"), []byte("ca")) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := ParseClusterKey(make([]byte, 16)); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "cert.pem")
	for _, text := range []string{"first, and longer", "second"} {
		if err := WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := string(must(os.ReadFile(path))); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
	}
	if n := len(must(os.ReadDir(filepath.Dir(path)))); n != 1 {
		t.Errorf("%d files left, want 1", n)
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(NewJoinToken(strings.Repeat("0", 64)).String())
	f.Add("..")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseJoinToken(s)
		if err == nil && tok.String() != strings.TrimSpace(s) {
			t.Errorf("%q parses as %q", s, tok.String())
		}
	})
}

func FuzzPeerOf(f *testing.F) {
	key := must(NewKey())
	f.Add("brume://global/agent/"+key.NodeID(), "n1")
	f.Add("brume://global/hub/"+key.NodeID()+"/../x", "n1")
	f.Fuzz(func(t *testing.T, uri, name string) {
		u, err := url.Parse(uri)
		if err != nil {
			return
		}
		c := &x509.Certificate{URIs: []*url.URL{u}, PublicKey: key.node.Public(), Subject: pkix.Name{CommonName: name}}
		p, err := PeerOf(c)
		if err != nil {
			return
		}
		if p.NodeID != key.NodeID() || !p.Role.valid() || peerURI(p.Region, p.Role, p.NodeID).String() != u.String() {
			t.Errorf("%q is taken for %+v", uri, p)
		}
	})
}

func FuzzSigningRequest(f *testing.F) {
	f.Add(must(must(NewKey()).CSR("n1")))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, csr []byte) {
		if r, err := parseRequests(csr); err == nil && len(r.node) != ed25519.PublicKeySize {
			t.Errorf("accepted with a node key of %d bytes", len(r.node))
		}
	})
}
