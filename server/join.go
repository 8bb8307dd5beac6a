package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/server/state"
)

const (
	maxJoinBody   = 64 << 10 // bytes
	joinTimeout   = 10 * time.Second
	maxTokenUses  = 10_000
	tokenLifetime = 24 * time.Hour // of a token that is asked for without one
	maxTokenLife  = 366 * 24 * time.Hour
)

// createJoinToken makes a join token; its secret is in the reply only.
func (h *Hub) createJoinToken(ctx context.Context, req api.JoinTokenRequest) (api.JoinTokenReply, error) {
	var none api.JoinTokenReply
	if req.Role == "" {
		req.Role = string(identity.RoleAgent)
	}
	if req.Role != string(identity.RoleAgent) {
		return none, errRole(req.Role)
	}
	if req.Uses == 0 {
		req.Uses = 1
	}
	if req.Uses < 0 || req.Uses > maxTokenUses {
		return none, api.E(api.ErrInvalid, fmt.Sprintf("uses: want 1 to %d", maxTokenUses))
	}
	if req.TTL == 0 {
		req.TTL = int64(tokenLifetime)
	}
	if req.TTL < 0 || req.TTL > int64(maxTokenLife) {
		return none, api.E(api.ErrInvalid, fmt.Sprintf("lifetime: want at most %s", maxTokenLife))
	}
	ca, err := h.authority()
	if err != nil {
		return none, err
	}
	secret := identity.NewJoinToken(ca.Hash())
	token := &api.JoinToken{
		ID: secret.ID, Role: req.Role, Uses: req.Uses,
		Expires: time.Now().UnixNano() + req.TTL, SecretHash: identity.HashSecret(secret.Secret),
	}
	if _, _, err := h.apply(ctx, state.PutJoinToken{Token: token}); err != nil {
		return none, err
	}
	h.log.Info("join token made", "token", token.ID, "role", token.Role, "uses", token.Uses)
	return api.JoinTokenReply{Token: secret.String(), ID: token.ID, Expires: token.Expires}, nil
}

func errRole(role string) error {
	if role == string(identity.RoleHub) {
		return api.E(api.ErrInvalid, "a second hub cannot join yet: this version runs one hub a cluster")
	}
	return api.E(api.ErrInvalid, fmt.Sprintf("role %q: want agent", role))
}

// serveJoin answers the one request of a machine that has a join token and no certificate yet.
func (h *Hub) serveJoin(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	if !h.awaitState(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	body := bufio.NewReader(io.LimitReader(conn, 2*maxJoinBody)) // head and body
	r, err := http.ReadRequest(body)
	if err != nil {
		return
	}
	reply, err := h.join(ctx, r)
	if err != nil {
		h.log.Warn("refuse join", "remote", conn.RemoteAddr().String(), "err", err)
	}
	if err := joinResponse(reply, err).Write(conn); err != nil {
		h.log.Debug("answer join", "err", err)
	}
}

// joinResponse is the answer to a join: the reply, or the error as the HTTP API writes it.
func joinResponse(reply *api.JoinReply, err error) *http.Response {
	resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: http.Header{}}
	resp.Header.Set("Content-Type", "application/json")
	var body []byte
	if err == nil {
		body, err = json.Marshal(reply)
	}
	if err != nil {
		resp.StatusCode, body = joinStatus(err), []byte(err.Error())
		resp.Header.Set("Content-Type", "text/plain; charset=utf-8")
		resp.Header.Set(api.HeaderError, api.KindName(err))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp
}

func joinStatus(err error) int {
	switch {
	case errors.Is(err, api.ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, api.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, api.ErrNotFound):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// join admits a machine. The token is looked at before anything costly is done for a stranger, and its use is committed
// before the certificate leaves the hub.
func (h *Hub) join(ctx context.Context, r *http.Request) (*api.JoinReply, error) {
	if r.URL.Path != api.JoinPath || (r.Method != http.MethodPut && r.Method != http.MethodPost) {
		return nil, api.E(api.ErrNotFound, "want PUT "+api.JoinPath)
	}
	var req api.JoinRequest
	if err := decodeBody(r, maxJoinBody, &req); err != nil {
		return nil, err
	}
	snap := h.store.Snapshot()
	token := snap.JoinToken(req.TokenID)
	if token == nil || !identity.SecretMatches(req.Secret, token.SecretHash) {
		return nil, api.E(api.ErrDenied, "join token: unknown, used up or expired")
	}
	if req.Role != string(identity.RoleAgent) {
		return nil, errRole(req.Role)
	}
	cert, ca, err := h.signAgent(req.CSR, req.Name)
	if err != nil {
		return nil, err
	}
	keys, err := h.keys(snap.Cluster())
	if err != nil {
		return nil, err
	}
	use := state.UseJoinToken{ID: req.TokenID, Role: req.Role, SecretHash: identity.HashSecret(req.Secret)}
	if _, _, err := h.apply(ctx, use); err != nil {
		return nil, err
	}
	h.log.Info("node admitted", "node", cert.nodeID, "name", req.Name, "token", req.TokenID)
	return &api.JoinReply{
		Certificate: cert.pem, CA: ca, GossipKey: keys.Gossip, Region: h.cfg.Region,
		Hubs: h.hubs(), Gossip: h.gossipAddrs(),
	}, nil
}

// gossipAddrs are members through which a joining machine finds all others.
func (h *Hub) gossipAddrs() []string {
	addrs := []string{h.public.Gossip}
	for _, m := range h.members() {
		if m.Alive && m.Meta.Role == string(identity.RoleHub) && m.Addr != h.public.Gossip {
			addrs = append(addrs, m.Addr)
		}
	}
	return addrs
}
