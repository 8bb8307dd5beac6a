// Package client speaks the HTTP API in api's types: for the CLI, the agent and tests.
//
// It owns the mapping of requests, query parameters, headers and errors; an error that a hub answered with is one of the
// five kinds of package api again (errors.Is). It keeps no state beyond its configuration, retries nothing and never
// logs: callers decide. A Client is safe for concurrent use.
package client
