package client

import (
	"context"

	"github.com/brumehq/brume/api"
)

// AgentSelf is what a hub says of itself.
type AgentSelf struct {
	Config map[string]any               `json:"config"`
	Member api.Member                   `json:"member"`
	Stats  map[string]map[string]string `json:"stats"`
}

// AgentSelf asks the hub for its configuration and counters.
func (c *Client) AgentSelf(ctx context.Context) (*AgentSelf, error) {
	var out AgentSelf
	_, err := c.get(ctx, "/v1/agent/self", Query{}, &out)
	return &out, err
}

// Members lists the gossip members that the hub knows.
func (c *Client) Members(ctx context.Context) (*api.Members, error) {
	var out api.Members
	_, err := c.get(ctx, "/v1/agent/members", Query{}, &out)
	return &out, err
}

// Leader returns the leader's RPC address, "" if there is none.
func (c *Client) Leader(ctx context.Context) (string, error) {
	var out string
	_, err := c.get(ctx, "/v1/status/leader", Query{}, &out)
	return out, err
}

// Peers returns the RPC addresses of all hubs.
func (c *Client) Peers(ctx context.Context) ([]string, error) {
	var out []string
	_, err := c.get(ctx, "/v1/status/peers", Query{}, &out)
	return out, err
}

// Regions lists the known regions.
func (c *Client) Regions(ctx context.Context) ([]string, error) {
	var out []string
	_, err := c.get(ctx, "/v1/regions", Query{}, &out)
	return out, err
}

// CreateJoinToken makes a token that admits hubs or agents; the answer is the only place where its secret is shown.
func (c *Client) CreateJoinToken(ctx context.Context, req api.JoinTokenRequest) (*api.JoinTokenReply, error) {
	var out api.JoinTokenReply
	return &out, c.put(ctx, "/v1/join-tokens", Query{}, req, &out)
}

// JoinTokens lists the tokens that still admit somebody.
func (c *Client) JoinTokens(ctx context.Context) ([]*api.JoinToken, error) {
	var out []*api.JoinToken
	_, err := c.get(ctx, "/v1/join-tokens", Query{}, &out)
	return out, err
}
