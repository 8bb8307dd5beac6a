package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
)

const joinTimeout = 15 * time.Second

const (
	rpcPort    = "4647"
	gossipPort = "4648"
)

// withPort completes addresses that are only a host.
func withPort(addrs []string, port string) []string {
	out := make([]string, len(addrs))
	for i, addr := range addrs {
		out[i] = addr
		if _, _, err := net.SplitHostPort(addr); err != nil {
			out[i] = net.JoinHostPort(strings.Trim(addr, "[]"), port)
		}
	}
	return out
}

// backoff is how long to wait before try n (from 0) again: doubling from 100 ms to limit, and up to as much again at
// random, so that agents that lost the same hub do not come back together.
func backoff(n int, limit time.Duration) time.Duration {
	d := min(100*time.Millisecond<<min(n, 20), limit)
	return d + rand.N(d)
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// join asks the hubs in cfg.Join in turn for admission until one grants it. A hub that refuses the token ends it: asking
// again would not help. The token is not in any error or log line.
func join(ctx context.Context, cfg Config, key *identity.Key) (*api.JoinReply, error) {
	token, err := identity.ParseJoinToken(cfg.JoinToken)
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	csr, err := key.CSR(cfg.Name)
	if err != nil {
		return nil, err
	}
	addrs := withPort(cfg.Join, rpcPort)
	req := api.JoinRequest{TokenID: token.ID, Secret: token.Secret, Role: string(identity.RoleAgent), Name: cfg.Name, CSR: string(csr)}
	for try := 0; ; try++ {
		addr := addrs[try%len(addrs)]
		reply, err := askToJoin(ctx, cfg, addr, token.CAHash, req)
		switch {
		case err == nil:
			return reply, nil
		case errors.Is(err, api.ErrDenied), errors.Is(err, api.ErrInvalid):
			return nil, fmt.Errorf("join: hub %s refused: %w", addr, err)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		wait := backoff(try/len(addrs), 10*time.Second)
		cfg.Log.Warn("join a hub", "hub", addr, "err", err, "again", wait)
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

func askToJoin(ctx context.Context, cfg Config, addr, caHash string, req api.JoinRequest) (*api.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return link.DialTLS(ctx, addr, identity.JoinConfig(caHash), cfg.Wires.Dial)
		},
		DisableKeepAlives: true,
	}
	reply := new(api.JoinReply)
	return reply, exchange(ctx, transport, http.MethodPut, addr, api.JoinPath, req, reply)
}

// exchange sends one JSON request to host over transport and decodes the answer; a refusal is one of api's kinds of error.
func exchange(ctx context.Context, transport http.RoundTripper, method, host, path string, body, reply any) error {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	_, err = io.Copy(io.Discard, resp.Body) // so that the stream can be used again
	return err
}

// refused is a hub's answer that is not 200: the link works, the hub does not want or is not able.
type refused struct {
	kind error // one of api's kinds, or nil
	text string
}

func (e *refused) Error() string { return e.text }
func (e *refused) Unwrap() error { return e.kind }

// refusal makes an error of an answer that is not 200.
func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return &refused{
		kind: api.KindOfName(resp.Header.Get(api.HeaderError)),
		text: fmt.Sprintf("%s (status %d)", bytes.TrimSpace(text), resp.StatusCode),
	}
}
