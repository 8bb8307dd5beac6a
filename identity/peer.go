package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Role is what a member may do in the cluster.
type Role string

// The two roles.
const (
	RoleHub   Role = "hub"
	RoleAgent Role = "agent"
)

const (
	peerScheme = "brume"
	maxName    = 64 // the longest common name that X.509 allows
)

// Peer is what a certificate of the cluster says of its holder.
type Peer struct {
	Role     Role
	NodeID   string
	Name     string
	Region   string
	NotAfter time.Time
}

// PeerOf reads who a certificate is for. It checks that the node id is that of the certificate's own key; that the
// cluster's authority signed it is for TLS to check, as the configurations of Credentials do.
func PeerOf(cert *x509.Certificate) (Peer, error) {
	if cert == nil {
		return Peer{}, errors.New("no certificate")
	}
	if len(cert.URIs) != 1 {
		return Peer{}, fmt.Errorf("a certificate with %d URIs names no member", len(cert.URIs))
	}
	p, err := parsePeerURI(cert.URIs[0])
	if err != nil {
		return Peer{}, err
	}
	pub, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || NodeID(pub) != p.NodeID {
		return Peer{}, fmt.Errorf("node id %s is not that of the certificate's key", p.NodeID)
	}
	if !validName(cert.Subject.CommonName) {
		return Peer{}, fmt.Errorf("a certificate with name %q", cert.Subject.CommonName)
	}
	p.Name, p.NotAfter = cert.Subject.CommonName, cert.NotAfter
	return p, nil
}

// peerURI is brume://region/role/node-id.
func peerURI(region string, role Role, nodeID string) *url.URL {
	return &url.URL{Scheme: peerScheme, Host: region, Path: "/" + string(role) + "/" + nodeID}
}

// parsePeerURI accepts exactly what peerURI makes.
func parsePeerURI(u *url.URL) (Peer, error) {
	path, ok := strings.CutPrefix(u.Path, "/")
	role, id, found := strings.Cut(path, "/")
	p := Peer{Role: Role(role), NodeID: id, Region: u.Host}
	if !ok || !found || !p.Role.valid() || !validRegion(p.Region) || u.String() != peerURI(p.Region, p.Role, p.NodeID).String() {
		return Peer{}, fmt.Errorf("URI %q names no member", u.Redacted())
	}
	return p, nil
}

func (r Role) valid() bool { return r == RoleHub || r == RoleAgent }

func validName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return !alnum(r) && (r < 'A' || r > 'Z') && r != '.' && r != '-' && r != '_'
	})
}

// validRegion accepts what may stand as the host of a URI.
func validRegion(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return !alnum(r) && r != '-' && r != '_'
	})
}

func alnum(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
