package sim

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
	"github.com/brumehq/brume/identity"
)

// certificateLife is how long the certificates of members are good; they are renewed after two thirds of it.
const certificateLife = 7 * 24 * time.Hour

func TestJoinIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		token func(t *testing.T, c *Cluster) string
		want  string
	}{
		"with a token that is used up": {func(t *testing.T, c *Cluster) string {
			token := c.JoinToken(api.JoinTokenRequest{Uses: 1})
			first := c.NewAgent()
			first.Config.JoinToken = token
			first.Start().Await()
			return token
		}, "unknown, used up or expired"},
		"with a token that has expired": {func(_ *testing.T, c *Cluster) string {
			token := c.JoinToken(api.JoinTokenRequest{Uses: 5, TTL: int64(time.Minute)})
			c.Settle(time.Minute)
			return token
		}, "is expired"},
		"with another token's secret": {func(_ *testing.T, c *Cluster) string {
			mine, other := strings.Split(c.JoinToken(api.JoinTokenRequest{}), "."), strings.Split(c.JoinToken(api.JoinTokenRequest{}), ".")
			return strings.Join([]string{mine[0], other[1], mine[2]}, ".")
		}, "unknown, used up or expired"},
		"without a token": {func(*testing.T, *Cluster) string { return "" }, "give a join token"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 0, func(t *testing.T, c *Cluster) {
				token := tt.token(t, c)
				a := c.NewAgent()
				a.Config.JoinToken = token
				err := a.Run(context.Background())
				if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, api.ErrDenied) != (token != "") {
					t.Errorf("Run: %v, want denied: %q", err, tt.want)
				}
				if err != nil && token != "" && strings.Contains(err.Error(), strings.Split(token, ".")[1]) {
					t.Error("the error holds the secret")
				}
				a.Config.JoinToken = c.token // a good one mends it
				a.Start().Await()
			})
		})
	}
}

// A hub of another cluster gets nothing from who holds a token of this one: it is not the authority that the token names.
func TestAgentJoinsTheTokensClusterOnly(t *testing.T) {
	bubble(t, 0, func(t *testing.T, c *Cluster) {
		parts := strings.Split(c.token, ".")
		a := c.NewAgent()
		a.Config.JoinToken = strings.Join([]string{parts[0], parts[1], strings.Repeat("0", len(parts[2]))}, ".")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v, want it to try until it is told to end", err)
		}
		tokens, err := c.API.JoinTokens(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(tokens) != 1 || tokens[0].Uses != tokenUses {
			t.Errorf("tokens %+v: want one, not used", tokens)
		}
	})
}

// Roles that this version does not admit get no token.
func TestTokensAreForAgents(t *testing.T) {
	bubble(t, 0, func(t *testing.T, c *Cluster) {
		for _, role := range []identity.Role{identity.RoleHub, "admin"} {
			if _, err := c.API.CreateJoinToken(context.Background(), api.JoinTokenRequest{Role: string(role)}); !errors.Is(err, api.ErrInvalid) {
				t.Errorf("token for role %q: %v, want invalid", role, err)
			}
		}
	})
}

// certificate is what the agent keeps.
func certificate(t *testing.T, a *Agent) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.Config.DataDir, "node", "admission.json"))
	if err != nil {
		t.Fatal(err)
	}
	var have struct{ Certificate string }
	if err := json.Unmarshal(raw, &have); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(have.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Certificates are renewed after two thirds of their life, over the link as it is: neither link nor tasks notice. The days
// between are spent with all programs stopped, since gossip's ticks would make them long.
func TestCertificatesAreRenewedInTime(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(4)))
		c.Settle(15 * time.Second)
		before := runIDs(c.Ledger.Running())
		for range 3 { // more than two whole lives of a certificate
			for _, a := range c.agents {
				a.Stop()
				a.Config.JoinToken = ""
			}
			c.StopHub()
			old := certificate(t, c.agents[0])
			due := old.NotBefore.Add(old.NotAfter.Sub(old.NotBefore) * 2 / 3)
			c.Settle(time.Until(due) - time.Minute)
			c.StartHub()
			for _, a := range c.agents {
				a.Start().Await()
			}
			dials := c.dials()
			c.Settle(30 * time.Second)
			if !certificate(t, c.agents[0]).Equal(old) {
				t.Error("the certificate is renewed before two thirds of its life are over")
			}
			c.Settle(time.Minute)
			if got := time.Until(certificate(t, c.agents[0]).NotAfter); got < certificateLife-2*time.Minute || got > certificateLife {
				t.Errorf("the certificate is good for %s after it was renewed, want about %s", got, certificateLife)
			}
			if n := c.dials() - dials; n != 0 {
				t.Errorf("%d new links, want the old ones kept", n)
			}
		}
		if diff := cmp.Diff(before, runIDs(c.Ledger.Running())); diff != "" {
			t.Errorf("what runs (-before +after):\n%s", diff)
		}
		if n := len(c.Allocs("web", Running)); n != 4 || len(c.Allocs("web")) != 4 {
			t.Errorf("%d of %d allocations run, want 4 of 4", n, len(c.Allocs("web")))
		}
	})
}

// A machine that was off for longer than its certificate's life is told so, and joins again with a token as the node that
// it was.
func TestExpiredCertificateNeedsATokenAgain(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *Cluster) {
		a := c.agents[0]
		id := a.ID
		a.Stop()
		c.StopHub()
		c.Settle(certificateLife + time.Hour)
		c.StartHub()
		a.Config.JoinToken = ""
		if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "join again with a token") {
			t.Errorf("Run: %v, want to be told to join again", err)
		}
		a.Config.JoinToken = c.token
		a.Start().Await()
		c.Settle(time.Second)
		if n := c.Node(a); a.ID != id || n.Status != api.NodeStatusReady {
			t.Errorf("node %s is %s, want %s ready", a.ID, n.Status, id)
		}
	})
}
