package state

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/brumehq/brume/api"
)

func newJoinTokens() *table[api.JoinToken] {
	return newTable(order[api.JoinToken]{less: func(a, b *api.JoinToken) bool { return a.ID < b.ID }})
}

// PutJoinToken adds a join token; an id that is taken is refused with api.ErrConflict. There is no result.
type PutJoinToken struct{ Token *api.JoinToken }

func (c PutJoinToken) kind() kind { return kindPutJoinToken }

func (c PutJoinToken) encode(e *encoder) error {
	if err := checkJoinToken(c.Token); err != nil {
		return err
	}
	return e.object(c.Token)
}

func checkJoinToken(k *api.JoinToken) error {
	if k == nil || k.ID == "" || len(k.SecretHash) != sha256.Size {
		return fmt.Errorf("join token without id or hash: %w", api.ErrInvalid)
	}
	return nil
}

func decodePutJoinToken(d *decoder) Command { return PutJoinToken{d.joinToken()} }

func (d *decoder) joinToken() *api.JoinToken {
	k := new(api.JoinToken)
	d.object(k)
	d.check(checkJoinToken(k))
	return k
}

func (c PutJoinToken) apply(t *txn) (any, error) {
	if t.joinTokens.get(c.Token) != nil {
		return nil, fmt.Errorf("join token %s exists already: %w", c.Token.ID, api.ErrConflict)
	}
	c.Token.CreateIndex, c.Token.ModifyIndex = t.index, t.index
	t.joinTokens.put(t.index, c.Token)
	t.touch(TableKey(JoinTokens))
	return nil, nil
}

// UseJoinToken spends one use of a join token, and forgets it after the last. It is refused with api.ErrDenied if the
// token is not known, expired by the entry's time, of another role or if the hash of its secret differs. The result is
// the token's role.
type UseJoinToken struct {
	ID         string
	Role       string // wanted; "": any
	SecretHash []byte // SHA-256
}

func (c UseJoinToken) kind() kind { return kindUseJoinToken }

func (c UseJoinToken) encode(e *encoder) error {
	e.text(c.ID)
	e.text(c.Role)
	e.bytes(c.SecretHash)
	return nil
}

func (c UseJoinToken) apply(t *txn) (any, error) {
	old := t.joinTokens.get(&api.JoinToken{ID: c.ID})
	if old == nil || subtle.ConstantTimeCompare(old.SecretHash, c.SecretHash) != 1 {
		return nil, fmt.Errorf("join token: %w", api.ErrDenied)
	}
	if old.Expires <= t.time || old.Uses <= 0 {
		return nil, fmt.Errorf("join token %s is expired: %w", c.ID, api.ErrDenied)
	}
	if c.Role != "" && c.Role != old.Role {
		return nil, fmt.Errorf("join token %s is for role %s: %w", c.ID, old.Role, api.ErrDenied)
	}
	n := *old
	n.Uses--
	n.ModifyIndex = t.index
	if n.Uses > 0 {
		t.joinTokens.put(t.index, &n)
	} else {
		t.joinTokens.remove(t.index, old)
	}
	t.touch(TableKey(JoinTokens))
	return n.Role, nil
}

// TokenManagement is the type of a token that may do everything.
const TokenManagement = "management"

// Token admits callers of the HTTP API. Its secret is known to its holder alone.
type Token struct {
	AccessorID  string
	Name        string
	Type        string // TokenManagement
	SecretHash  []byte // SHA-256 of the secret
	CreateTime  int64  // unix nanoseconds
	CreateIndex uint64
	ModifyIndex uint64
}

func newTokens() *table[Token] {
	return newTable(order[Token]{less: func(a, b *Token) bool { return bytes.Compare(a.SecretHash, b.SecretHash) < 0 }})
}

// PutToken adds a token; times and indexes are filled. With Bootstrap it is the first management token of a cluster and
// is refused with api.ErrInvalid if there was one before. A secret that is in use is api.ErrConflict. There is no result.
type PutToken struct {
	Token     Token
	Bootstrap bool
}

func (c PutToken) kind() kind { return kindPutToken }

func (c PutToken) encode(e *encoder) error {
	e.bool(c.Bootstrap)
	e.token(&c.Token)
	return c.Token.check()
}

func (k *Token) check() error {
	if len(k.SecretHash) != sha256.Size || k.AccessorID == "" {
		return fmt.Errorf("token without accessor or hash: %w", api.ErrInvalid)
	}
	return nil
}

func (e *encoder) token(k *Token) {
	e.text(k.AccessorID)
	e.text(k.Name)
	e.text(k.Type)
	e.bytes(k.SecretHash)
	e.int(k.CreateTime)
	e.uint(k.CreateIndex)
	e.uint(k.ModifyIndex)
}

func (d *decoder) token() Token {
	k := Token{AccessorID: d.text(), Name: d.text(), Type: d.text(), SecretHash: d.bytes(), CreateTime: d.int(),
		CreateIndex: d.uint(), ModifyIndex: d.uint()}
	d.check(k.check())
	return k
}

func decodePutToken(d *decoder) Command { return PutToken{Bootstrap: d.bool(), Token: d.token()} }

func (c PutToken) apply(t *txn) (any, error) {
	k := c.Token
	if c.Bootstrap && t.bootstrap > 0 {
		return nil, api.E(api.ErrInvalid, fmt.Sprintf("ACL bootstrap already done (reset index: %d)", t.bootstrap))
	}
	if t.tokens.get(&k) != nil {
		return nil, fmt.Errorf("token %s exists already: %w", k.AccessorID, api.ErrConflict)
	}
	if c.Bootstrap {
		t.bootstrap = t.index
	}
	k.CreateIndex, k.ModifyIndex, k.CreateTime = t.index, t.index, t.time
	t.tokens.put(t.index, &k)
	t.touch(TableKey(Tokens))
	return nil, nil
}
