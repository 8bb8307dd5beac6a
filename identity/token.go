package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
)

const (
	tokenIDBytes = 8
	secretBytes  = 32
)

// JoinToken lets its holder ask for a certificate, and tell the cluster's hubs from others: "id.secret.cahash", each
// in lower-case hex.
type JoinToken struct {
	ID     string // names the token; not secret
	Secret string
	CAHash string // Authority.Hash of the cluster
}

// NewJoinToken makes a random token for the cluster whose authority hashes to caHash.
func NewJoinToken(caHash string) JoinToken {
	return JoinToken{ID: randomHex(tokenIDBytes), Secret: NewSecret(), CAHash: caHash}
}

// ParseJoinToken reads what String made; white space around it is dropped. The error never holds any part of it.
func ParseJoinToken(s string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 3 || !isHex(parts[0], tokenIDBytes) || !isHex(parts[1], secretBytes) || !isHex(parts[2], sha256.Size) {
		return JoinToken{}, errors.New(`not a join token: want "id.secret.cahash"`)
	}
	return JoinToken{ID: parts[0], Secret: parts[1], CAHash: parts[2]}, nil
}

// String returns the whole token, its secret included.
func (t JoinToken) String() string { return t.ID + "." + t.Secret + "." + t.CAHash }

// LogValue keeps the secret out of logs.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.ID) }

// NewSecret returns 32 random bytes in hex.
func NewSecret() string { return randomHex(secretBytes) }

// HashSecret returns the SHA-256 of a secret: what is kept of one. Secrets are random, so no salt is needed.
func HashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// SecretMatches tells, in time that does not depend on either, whether hash is that of secret.
func SecretMatches(secret string, hash []byte) bool {
	return subtle.ConstantTimeCompare(HashSecret(secret), hash) == 1
}

// NewGossipKey makes the 32-byte key of the cluster's gossip.
func NewGossipKey() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return key
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// isHex tells whether s is n bytes in lower-case hex.
func isHex(s string, n int) bool {
	return len(s) == 2*n && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	})
}
