package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
)

// certificateLife of hubs and agents. Members renew after two thirds of it, so a machine may be off for two days and
// still be known; after the whole of it, it joins again with a token.
const certificateLife = 7 * 24 * time.Hour

// loadCredentials reads the certificate of the last run; it may have expired, certify then makes a new one.
func (h *Hub) loadCredentials() error {
	cert, err := os.ReadFile(h.dir.file("node.crt"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(h.dir.file(CAFile))
	if err != nil {
		return err
	}
	if h.creds, err = identity.NewCredentials(h.key, cert, ca); err != nil {
		return fmt.Errorf("%s with %s: %w", h.dir.file("node.crt"), h.dir.file(CAFile), err)
	}
	return nil
}

// authority opens the cluster's authority, which the state keeps sealed.
func (h *Hub) authority() (*identity.Authority, error) {
	meta := h.store.Snapshot().Cluster()
	if meta == nil {
		return nil, errors.New("the state holds no authority yet")
	}
	key, err := h.cluster.Open(meta.SealedCAKey, sealedCAKey)
	if err != nil {
		return nil, fmt.Errorf("authority's key: %w", err)
	}
	return identity.ParseAuthority(meta.CACert, key)
}

// signSelf makes this hub's own certificate.
func (h *Hub) signSelf(ca *identity.Authority) ([]byte, error) {
	csr, err := h.key.CSR(h.cfg.Name)
	if err != nil {
		return nil, err
	}
	return ca.Sign(csr, identity.Grant{
		Role: identity.RoleHub, Name: h.cfg.Name, Region: h.cfg.Region,
		DNSNames: []string{api.HubServerName, api.AgentServerName, h.cfg.Name}, IPs: h.hostIPs(),
		NotBefore: time.Now(), TTL: certificateLife,
	})
}

// certify gives this hub a fresh certificate for the addresses it has now.
func (h *Hub) certify() error {
	ca, err := h.authority()
	if err != nil {
		return err
	}
	cert, err := h.signSelf(ca)
	if err != nil {
		return fmt.Errorf("sign own certificate: %w", err)
	}
	if err := h.creds.Replace(cert, ca.CertPEM()); err != nil {
		return err
	}
	return h.dir.write("node.crt", cert)
}

// renew renews this hub's certificate before it expires.
func (h *Hub) renew(ctx context.Context) error {
	for {
		due := time.NewTimer(max(time.Until(h.creds.RenewAt()), time.Minute))
		select {
		case <-ctx.Done():
			due.Stop()
			return nil
		case <-due.C:
		}
		if err := h.certify(); err != nil {
			h.log.Warn("renew certificate", "err", err)
			continue
		}
		h.log.Info("certificate renewed", "until", h.creds.Peer().NotAfter)
	}
}

// linkCertificate renews an agent's certificate, for the key that it linked with.
func (h *Hub) linkCertificate(a *agentLink, r *http.Request) (any, error) {
	var req api.CertificateRequest
	if err := decodeBody(r, maxCSRBody, &req); err != nil {
		return nil, err
	}
	peer := a.session.Peer()
	cert, ca, err := h.signAgent(req.CSR, peer.Name)
	if err != nil {
		return nil, err
	}
	if cert.nodeID != a.nodeID {
		return nil, api.E(api.ErrDenied, fmt.Sprintf("signing request for the key of node %s on the link of %s", cert.nodeID, a.nodeID))
	}
	h.log.Debug("certificate renewed", "node", a.nodeID)
	return api.CertificateReply{Certificate: cert.pem, CA: ca}, nil
}

// agentCert is a certificate for an agent's key.
type agentCert struct {
	pem    string
	nodeID string
}

// signAgent certifies the key of a signing request as an agent's. Whether its holder may have it is the caller's to
// decide before it is handed out.
func (h *Hub) signAgent(csr, name string) (cert agentCert, ca string, err error) {
	authority, err := h.authority()
	if err != nil {
		return cert, "", err
	}
	signed, err := authority.Sign([]byte(csr), identity.Grant{
		Role: identity.RoleAgent, Name: name, Region: h.cfg.Region, NotBefore: time.Now(), TTL: certificateLife,
	})
	if err != nil {
		return cert, "", api.E(api.ErrInvalid, err.Error())
	}
	block, _ := pem.Decode(signed)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return cert, "", err
	}
	peer, err := identity.PeerOf(parsed)
	if err != nil {
		return cert, "", err
	}
	return agentCert{pem: string(signed), nodeID: peer.NodeID}, string(authority.CertPEM()), nil
}
