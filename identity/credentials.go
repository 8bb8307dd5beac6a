package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Credentials are a member's key, its current certificates and the authorities it trusts. Replace changes them under
// the TLS configurations that were made before; connections that are up stay up.
type Credentials struct {
	key *Key
	cur atomic.Pointer[granted]
}

// granted is one generation of what the authority gave; it does not change.
type granted struct {
	node  *tls.Certificate
	http  *tls.Certificate // nil on agents
	roots *x509.CertPool
	peer  Peer
	renew time.Time
}

// NewCredentials checks that certPEM, as Authority.Sign made it, is for key and signed by an authority in caPEM.
func NewCredentials(key *Key, certPEM, caPEM []byte) (*Credentials, error) {
	g, err := newGranted(key, certPEM, caPEM)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	c := &Credentials{key: key}
	c.cur.Store(g)
	return c, nil
}

// Replace puts a renewed certificate, and the authorities to trust, in place of the old.
func (c *Credentials) Replace(certPEM, caPEM []byte) error {
	g, err := newGranted(c.key, certPEM, caPEM)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	c.cur.Store(g)
	return nil
}

// Peer returns who these credentials are for.
func (c *Credentials) Peer() Peer { return c.cur.Load().peer }

// RenewAt returns when to ask for the next certificate: after two thirds of the life of this one.
func (c *Credentials) RenewAt() time.Time { return c.cur.Load().renew }

// ServerConfig accepts members only: TLS 1.3, one of the given protocols, a certificate that an authority of the
// cluster signed for a client. Which roles may use a protocol is for package link to check.
func (c *Credentials) ServerConfig(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		ClientAuth: tls.RequireAnyClientCert, // verified below, against the authorities of the moment
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.cur.Load().node, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := verify(cs, c.cur.Load().roots, x509.ExtKeyUsageClientAuth)
			return err
		},
		SessionTicketsDisabled: true,
	}
}

// ClientConfig talks to hubs only: TLS 1.3, the given protocol, a certificate that an authority of the cluster signed
// for a hub, whatever address it is reached at.
func (c *Credentials) ClientConfig(alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		InsecureSkipVerify: true, // no host name to check; VerifyConnection checks chain and role
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.cur.Load().node, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error { return verifyHub(cs, alpn, c.cur.Load().roots) },
	}
}

// HTTPConfig serves a hub's HTTP API to ordinary clients: TLS 1.2 or 1.3, HTTP/2 or 1.1, no client certificate.
func (c *Credentials) HTTPConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := c.cur.Load().http; cert != nil {
				return cert, nil
			}
			return nil, errors.New("these credentials are not a hub's")
		},
	}
}

// ALPNJoin is the one protocol of the hubs' RPC port that asks for no client certificate.
const ALPNJoin = "brume-join/1"

// JoinConfig is for who has a join token but no certificate yet: it talks, by ALPNJoin, to a hub whose authority hashes
// to caHash.
func JoinConfig(caHash string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ALPNJoin},
		InsecureSkipVerify: true, // VerifyConnection checks the chain up to the authority that the token names
		VerifyConnection: func(cs tls.ConnectionState) error {
			i := slices.IndexFunc(cs.PeerCertificates, func(c *x509.Certificate) bool { return hashOf(c) == caHash })
			if i < 0 {
				return errors.New("the hub is not of the cluster that the join token is for")
			}
			roots := x509.NewCertPool()
			roots.AddCert(cs.PeerCertificates[i])
			return verifyHub(cs, ALPNJoin, roots)
		},
	}
}

func verifyHub(cs tls.ConnectionState, alpn string, roots *x509.CertPool) error {
	if cs.NegotiatedProtocol != alpn {
		return fmt.Errorf("the other side does not speak %s", alpn)
	}
	peer, err := verify(cs, roots, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	if peer.Role != RoleHub {
		return fmt.Errorf("%s %s answers as a hub", peer.Role, peer.NodeID)
	}
	return nil
}

// verify checks that a root signed the peer's certificate for the usage, and that it names a member.
func verify(cs tls.ConnectionState, roots *x509.CertPool, usage x509.ExtKeyUsage) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, errors.New("no certificate")
	}
	leaf := cs.PeerCertificates[0]
	opts := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: time.Now()}
	if _, err := leaf.Verify(opts); err != nil {
		return Peer{}, err
	}
	return PeerOf(leaf)
}

func newGranted(key *Key, certPEM, caPEM []byte) (*granted, error) {
	cas, err := parseCertificates(caPEM)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return nil, err
	}
	g := &granted{roots: x509.NewCertPool()}
	for _, ca := range cas {
		g.roots.AddCert(ca)
	}
	for _, cert := range certs {
		if err := g.add(key, cert, cas); err != nil {
			return nil, err
		}
	}
	if g.node == nil || g.peer.Role == RoleHub && g.http == nil {
		return nil, errors.New("no certificate for the node's key")
	}
	return g, nil
}

// add takes one of the certificates that the authority gave.
func (g *granted) add(key *Key, cert *x509.Certificate, cas []*x509.Certificate) error {
	i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool { return cert.CheckSignatureFrom(ca) == nil })
	if i < 0 {
		return errors.New("a certificate that none of the authorities signed")
	}
	switch {
	case key.node.Public().(ed25519.PublicKey).Equal(cert.PublicKey):
		peer, err := PeerOf(cert)
		if err != nil {
			return err
		}
		g.peer = peer
		g.renew = cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
		g.node = &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key.node, Leaf: cert}
		if peer.Role == RoleHub { // who joins knows the authority by its hash only
			g.node.Certificate = append(g.node.Certificate, cas[i].Raw)
		}
	case key.http.PublicKey.Equal(cert.PublicKey):
		g.http = &tls.Certificate{Certificate: [][]byte{cert.Raw, cas[i].Raw}, PrivateKey: key.http, Leaf: cert}
	default:
		return errors.New("a certificate for another key")
	}
	return nil
}
