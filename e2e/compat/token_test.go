package compat

import (
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	public "github.com/hashicorp/nomad/api"

	"github.com/brumehq/brume/server"
)

// open are the routes that need no token: probes, and what proves the identity of others.
var open = []string{"GET /v1/agent/health", "GET /.well-known/jwks.json", "GET /.well-known/openid-configuration"}

var wildcard = regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)

// Where a cluster has tokens, nothing is answered without one: neither a header that is missing nor one that is wrong.
func TestTheAPINeedsAToken(t *testing.T) {
	t.Parallel()
	c := newSecure(t).cluster
	const denied, unknown = "Permission denied", "ACL token not found"
	for _, route := range server.Routes() {
		method, pattern, _ := strings.Cut(route, " ")
		want := http.StatusForbidden
		for _, o := range open {
			if route == o {
				want = http.StatusOK
			}
		}
		got := c.do(method, wildcard.ReplaceAllString(pattern, "x"), "{}")
		if want == http.StatusOK {
			if got.status == http.StatusForbidden {
				t.Errorf("%s: refused without a token", route)
			}
			continue
		}
		if got.status != want || got.body != denied || got.header.Get("X-Brume-Error") != "denied" {
			t.Errorf("%s: answered %d %q, want %d %q", route, got.status, got.body, want, denied)
		}
	}
	for _, tt := range []struct {
		rule    string
		headers []string
		status  int
		body    string
	}{
		{"token", []string{"X-Nomad-Token", c.token}, 200, "[]\n"},
		{"bearer", []string{"Authorization", "Bearer " + c.token}, 200, "[]\n"},
		{"wrong token", []string{"X-Nomad-Token", noID}, 403, unknown},
		{"wrong bearer", []string{"Authorization", "Bearer " + noID}, 403, unknown},
		{"not a bearer", []string{"Authorization", "Basic " + c.token}, 403, denied},
		{"token before bearer", []string{"X-Nomad-Token", c.token, "Authorization", "Bearer " + noID}, 200, "[]\n"},
		{"wrong token before bearer", []string{"X-Nomad-Token", noID, "Authorization", "Bearer " + c.token}, 403, unknown},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c.t = t
			if got := c.do("GET", "/v1/jobs", "", tt.headers...); got.status != tt.status || got.body != tt.body {
				t.Errorf("answered %d %q, want %d %q", got.status, got.body, tt.status, tt.body)
			}
		})
	}
	t.Run("token of a request", func(t *testing.T) {
		if err := fails(c.Jobs().List(&public.QueryOptions{AuthToken: noID})); err == nil || err.Error() != "Unexpected response code: 403 ("+unknown+")" {
			t.Errorf("error %v, want 403: %s", err, unknown)
		}
	})
	c.t = t
	if got := c.do("PATCH", "/v1/jobs", ""); got.status != 403 {
		t.Errorf("a wrong method without a token: answered %d, want 403", got.status)
	}
}

// In dev, which has no tokens, one that a client sends does no harm.
func TestDevIgnoresTokens(t *testing.T) {
	t.Parallel()
	c := hub(t)
	if got := c.do("GET", "/v1/jobs", "", "X-Nomad-Token", noID); got.status != 200 {
		t.Errorf("answered %d %q, want 200", got.status, got.body)
	}
}

// The public client reaches a cluster by its own TLS configuration, by the names that it asks for, and no other way.
func TestTheClientsTLS(t *testing.T) {
	t.Parallel()
	s := newSecure(t)
	for _, tt := range []struct {
		rule string
		tls  public.TLSConfig
		ok   bool
	}{
		{"authority in a file", public.TLSConfig{CACert: filepath.Join(s.dir, "hub", server.CAFile)}, true},
		{"authority as text", public.TLSConfig{CACertPEM: s.ca}, true},
		{"by the name of a hub", public.TLSConfig{CACertPEM: s.ca, TLSServerName: "server.global.nomad"}, true},
		{"by the name of a node", public.TLSConfig{CACertPEM: s.ca, TLSServerName: "client.global.nomad"}, true},
		{"by another name", public.TLSConfig{CACertPEM: s.ca, TLSServerName: "hub.example"}, false},
		{"by the system's authorities", public.TLSConfig{}, false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			client, err := public.NewClient(&public.Config{Address: s.address, SecretID: s.token, TLSConfig: &tt.tls})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Agent().Self(); (err == nil) != tt.ok {
				t.Errorf("error %v, want success: %t", err, tt.ok)
			}
		})
	}
	plain, err := public.NewClient(&public.Config{Address: strings.Replace(s.address, "https", "http", 1), SecretID: s.token})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var un public.UnexpectedResponseError
	if _, err := plain.Agent().Members(); !errors.As(err, &un) || un.StatusCode() != 400 {
		t.Errorf("without TLS: error %v, want status 400", err)
	}
}
