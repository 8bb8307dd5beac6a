package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	clusterKeyBytes = 32
	pemClusterKey   = "BRUME CLUSTER KEY"
	sealVersion     = 1 // first byte of what Seal makes
)

// ClusterKey seals (AES-256-GCM) what the cluster's state keeps secret. Each hub has it in a file; it is in no log and
// no snapshot.
type ClusterKey struct {
	raw  []byte
	aead cipher.AEAD
}

// LoadOrCreateClusterKey reads the key from path, or makes one there. It refuses a file that others than its owner can
// read.
func LoadOrCreateClusterKey(path string) (*ClusterKey, error) {
	data, err := loadOrCreate(path, newClusterKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("cluster key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemClusterKey {
		return nil, fmt.Errorf("cluster key %s: no %s in PEM", path, pemClusterKey)
	}
	return ParseClusterKey(block.Bytes)
}

// ParseClusterKey makes a key of what Bytes returned on another hub.
func ParseClusterKey(raw []byte) (*ClusterKey, error) {
	if len(raw) != clusterKeyBytes {
		return nil, fmt.Errorf("cluster key of %d bytes, want %d", len(raw), clusterKeyBytes)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &ClusterKey{raw: append([]byte(nil), raw...), aead: aead}, nil
}

// Bytes returns the secret itself, to pass to a hub that joins.
func (k *ClusterKey) Bytes() []byte { return append([]byte(nil), k.raw...) }

// Save writes the key to path, as LoadOrCreateClusterKey reads it.
func (k *ClusterKey) Save(path string) error { return WriteFile(path, encodeClusterKey(k.raw)) }

// Seal encrypts plain. What it makes opens with the same aad only: name there what the secret is for.
func (k *ClusterKey) Seal(plain, aad []byte) ([]byte, error) {
	return k.aead.Seal([]byte{sealVersion}, nil, plain, aad), nil
}

// Open is the inverse of Seal.
func (k *ClusterKey) Open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, errors.New("not sealed by this version of the cluster key")
	}
	plain, err := k.aead.Open(nil, nil, sealed[1:], aad)
	if err != nil {
		return nil, errors.New("not sealed by this cluster key")
	}
	return plain, nil
}

func newClusterKeyPEM() ([]byte, error) {
	raw := make([]byte, clusterKeyBytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	return encodeClusterKey(raw), nil
}

func encodeClusterKey(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemClusterKey, Bytes: raw})
}
