package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"
)

const (
	pemCertificate = "CERTIFICATE"
	pemRequest     = "CERTIFICATE REQUEST"
	pemPrivateKey  = "PRIVATE KEY"

	authorityLife = 10 * 365 * 24 * time.Hour
	clockSkew     = 5 * time.Minute // certificates begin this much earlier: a member's clock may be behind
	maxCSR        = 16 << 10        // bytes of PEM; two requests of ours take 700
)

// Authority is the cluster's certificate authority: one ECDSA P-256 key and its self-signed certificate.
type Authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	keyPEM []byte
}

// Grant is what a certificate is to say; nothing of it comes from the request.
type Grant struct {
	Role      Role
	Name      string        // the member's name, 1 to 64 of a-z A-Z 0-9 . _ -
	Region    string        // 1 to 64 of a-z 0-9 - _
	DNSNames  []string      // of hubs, beside localhost
	IPs       []net.IP      // of hubs, beside 127.0.0.1 and ::1
	NotBefore time.Time     // the certificate's begin; it is dated five minutes earlier for slow clocks
	TTL       time.Duration // from NotBefore; the authority's own end caps it
}

// NewAuthority makes an authority that is valid for ten years from now.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "Brume cluster authority"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}, nil, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return newAuthority(cert, key)
}

// ParseAuthority is the inverse of CertPEM and KeyPEM. It refuses a key that is not the certificate's.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if len(certs) != 1 || !certs[0].IsCA {
		return nil, errors.New("authority: want one certificate of an authority")
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != pemPrivateKey {
		return nil, fmt.Errorf("authority: no %s in PEM", pemPrivateKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("authority: the key is not the certificate's")
	}
	return newAuthority(certs[0], key)
}

func newAuthority(cert *x509.Certificate, key *ecdsa.PrivateKey) (*Authority, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Authority{
		cert:   cert,
		key:    key,
		keyPEM: pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}),
	}, nil
}

// CertPEM returns the authority's certificate, which every member and client may have.
func (a *Authority) CertPEM() []byte { return encodeCertificate(a.cert.Raw) }

// KeyPEM returns the authority's secret key (PKCS#8).
func (a *Authority) KeyPEM() []byte { return bytes.Clone(a.keyPEM) }

// Hash returns the SHA-256 of the authority's certificate in hex: what a join token carries of it.
func (a *Authority) Hash() string { return hashOf(a.cert) }

// Sign grants a certificate for the Ed25519 key of a request made by Key.CSR, and to a hub a second one for the P-256
// key of its HTTP API. Of the request only the public keys count, and only if its signatures show that who asks holds
// the private ones. The answer is PEM, for NewCredentials.
func (a *Authority) Sign(csrPEM []byte, g Grant) ([]byte, error) {
	if err := g.validate(); err != nil {
		return nil, err
	}
	req, err := parseRequests(csrPEM)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	out, err := a.signNode(req.node, g)
	if err != nil || g.Role != RoleHub {
		return out, err
	}
	if req.http == nil {
		return nil, errors.New("signing request: a hub's needs a P-256 key for its HTTP API")
	}
	http, err := a.signHTTP(req.http, g)
	return append(out, http...), err
}

func (a *Authority) signNode(pub ed25519.PublicKey, g Grant) ([]byte, error) {
	c := a.template(g)
	c.URIs = []*url.URL{peerURI(g.Region, g.Role, NodeID(pub))}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if g.Role == RoleHub {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		g.addNames(c)
	}
	return a.issue(c, pub)
}

// signHTTP makes a server's certificate that carries no identity, so that its key is worth nothing on a link.
func (a *Authority) signHTTP(pub *ecdsa.PublicKey, g Grant) ([]byte, error) {
	c := a.template(g)
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	g.addNames(c)
	return a.issue(c, pub)
}

func (a *Authority) template(g Grant) *x509.Certificate {
	end := g.NotBefore.Add(g.TTL)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: g.Name},
		NotBefore:             g.NotBefore.Add(-clockSkew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

func (a *Authority) issue(c *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	cert, err := issue(c, a.cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	return encodeCertificate(cert.Raw), nil
}

func (g Grant) validate() error {
	var errs []error
	if !g.Role.valid() {
		errs = append(errs, fmt.Errorf("role %q: unknown", g.Role))
	}
	if !validName(g.Name) {
		errs = append(errs, fmt.Errorf("name %q: want 1 to %d of a-z A-Z 0-9 . _ -", g.Name, maxName))
	}
	if !validRegion(g.Region) {
		errs = append(errs, fmt.Errorf("region %q: want 1 to %d of a-z 0-9 - _", g.Region, maxName))
	}
	if g.TTL <= 0 {
		errs = append(errs, fmt.Errorf("lifetime %s: must be positive", g.TTL))
	}
	if g.NotBefore.IsZero() {
		errs = append(errs, errors.New("no begin"))
	}
	return errors.Join(errs...)
}

// addNames puts the grant's names and loopback's into a server's certificate.
func (g Grant) addNames(c *x509.Certificate) {
	c.DNSNames = appendNew(slices.Clone(g.DNSNames), "localhost")
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, ip := range g.IPs {
		if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
			c.IPAddresses = append(c.IPAddresses, ip)
		}
	}
}

func appendNew(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// requests are the public keys of a signing request.
type requests struct {
	node ed25519.PublicKey
	http *ecdsa.PublicKey // nil if there is none
}

func parseRequests(data []byte) (requests, error) {
	var r requests
	if len(data) > maxCSR {
		return r, fmt.Errorf("%d bytes, at most %d", len(data), maxCSR)
	}
	for range 3 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if err := r.add(block); err != nil {
			return requests{}, err
		}
	}
	if r.node == nil {
		return requests{}, errors.New("no Ed25519 key")
	}
	return r, nil
}

func (r *requests) add(block *pem.Block) error {
	if block.Type != pemRequest {
		return fmt.Errorf("a PEM block of type %q", block.Type)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return err
	}
	switch pub := csr.PublicKey.(type) {
	case ed25519.PublicKey:
		if r.node != nil {
			return errors.New("two Ed25519 keys")
		}
		r.node = pub
	case *ecdsa.PublicKey:
		if r.http != nil || pub.Curve != elliptic.P256() {
			return errors.New("beside the Ed25519 key, one on P-256 at most")
		}
		r.http = pub
	default:
		return fmt.Errorf("a key of type %T", pub)
	}
	return nil
}

// issue makes c, signed by key under parent (by itself if nil).
func issue(c, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of full length
	c.SerialNumber = new(big.Int).SetBytes(serial)
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("a PEM block of type %q, want %s", block.Type, pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("no %s in PEM", pemCertificate)
	}
	return certs, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

func hashOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
