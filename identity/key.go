package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
)

// Key is a node's secret: an Ed25519 key that is the node's identity, and a P-256 key derived from it for the HTTP API,
// since browsers and some TLS libraries do not accept Ed25519 certificates. It never leaves the machine.
type Key struct {
	node ed25519.PrivateKey
	http *ecdsa.PrivateKey
}

// NewKey makes a key that is kept nowhere.
func NewKey() (*Key, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return keyOf(priv)
}

// LoadOrCreateKey reads the node's key from path (PKCS#8 in PEM), or makes one there. It refuses a file that others
// than its owner can read.
func LoadOrCreateKey(path string) (*Key, error) {
	data, err := loadOrCreate(path, newKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("node key %s: %w", path, err)
	}
	return key, nil
}

// NodeID returns the id of the node that holds the key.
func (k *Key) NodeID() string { return NodeID(k.node.Public().(ed25519.PublicKey)) }

// Signer returns the node key, for what a node signs.
func (k *Key) Signer() crypto.Signer { return k.node }

// CSR returns two signing requests in PEM: for the node key, and for the key of the HTTP API. Authority.Sign uses the
// second for hubs only. The name is a courtesy to who reads them; the authority sets what a certificate says.
func (k *Key) CSR(name string) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	var out []byte
	for _, signer := range []crypto.Signer{k.node, k.http} {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, signer)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})...)
	}
	return out, nil
}

// NodeID is the first half of the SHA-256 of a node's public key, as a version 8 UUID in lower case.
func NodeID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // version 8: made by the application's own rule (RFC 9562)
	id[8] = id[8]&0x3f | 0x80 // variant
	x := hex.EncodeToString(id)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

func newKeyPEM() ([]byte, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

func parseKey(data []byte) (*Key, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPrivateKey {
		return nil, fmt.Errorf("no %s in PEM", pemPrivateKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	priv, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, want Ed25519", parsed)
	}
	return keyOf(priv)
}

func keyOf(priv ed25519.PrivateKey) (*Key, error) {
	http, err := deriveHTTPKey(priv.Seed())
	if err != nil {
		return nil, err
	}
	return &Key{node: priv, http: http}, nil
}

// deriveHTTPKey derives the P-256 key from the seed of the node key. A derived value is out of the curve's range once
// in 2^32 tries; the next counter then gives another.
func deriveHTTPKey(seed []byte) (*ecdsa.PrivateKey, error) {
	var err error
	for i := range 16 {
		var raw []byte
		raw, err = hkdf.Key(sha256.New, seed, nil, fmt.Sprintf("brume http key %d", i), 32)
		if err != nil {
			return nil, err
		}
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, err
}
