package client

import (
	"context"
	"net/url"

	"github.com/brumehq/brume/api"
)

// Allocations lists allocations of all jobs.
func (c *Client) Allocations(ctx context.Context, q Query) ([]*api.AllocationListStub, Meta, error) {
	var out []*api.AllocationListStub
	meta, err := c.get(ctx, "/v1/allocations", q, &out)
	return out, meta, err
}

// Allocation reads one allocation, its job included.
func (c *Client) Allocation(ctx context.Context, id string, q Query) (*api.Allocation, Meta, error) {
	var out api.Allocation
	meta, err := c.get(ctx, "/v1/allocation/"+url.PathEscape(id), q, &out)
	return &out, meta, err
}

// StopAllocation stops an allocation; the scheduler places another if its job still asks for it.
func (c *Client) StopAllocation(ctx context.Context, id string, q Query) (*api.AllocStopResponse, error) {
	var out api.AllocStopResponse
	return &out, c.put(ctx, "/v1/allocation/"+url.PathEscape(id)+"/stop", q, nil, &out)
}

// Evaluations lists evaluations.
func (c *Client) Evaluations(ctx context.Context, q Query) ([]*api.Evaluation, Meta, error) {
	var out []*api.Evaluation
	meta, err := c.get(ctx, "/v1/evaluations", q, &out)
	return out, meta, err
}

// Evaluation reads one evaluation.
func (c *Client) Evaluation(ctx context.Context, id string, q Query) (*api.Evaluation, Meta, error) {
	var out api.Evaluation
	meta, err := c.get(ctx, "/v1/evaluation/"+url.PathEscape(id), q, &out)
	return &out, meta, err
}

// EvaluationAllocations lists what an evaluation placed or stopped.
func (c *Client) EvaluationAllocations(ctx context.Context, id string, q Query) ([]*api.AllocationListStub, Meta, error) {
	var out []*api.AllocationListStub
	meta, err := c.get(ctx, "/v1/evaluation/"+url.PathEscape(id)+"/allocations", q, &out)
	return out, meta, err
}

// Nodes lists nodes.
func (c *Client) Nodes(ctx context.Context, q Query) ([]*api.NodeListStub, Meta, error) {
	var out []*api.NodeListStub
	meta, err := c.get(ctx, "/v1/nodes", q, &out)
	return out, meta, err
}

// Node reads one node.
func (c *Client) Node(ctx context.Context, id string, q Query) (*api.Node, Meta, error) {
	var out api.Node
	meta, err := c.get(ctx, "/v1/node/"+url.PathEscape(id), q, &out)
	return &out, meta, err
}

// NodeAllocations lists a node's allocations, whole.
func (c *Client) NodeAllocations(ctx context.Context, id string, q Query) ([]*api.Allocation, Meta, error) {
	var out []*api.Allocation
	meta, err := c.get(ctx, "/v1/node/"+url.PathEscape(id)+"/allocations", q, &out)
	return out, meta, err
}
