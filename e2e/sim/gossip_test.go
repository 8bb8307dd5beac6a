package sim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// quiet runs a job, does what f does, and fails the test if any task, allocation or node noticed.
func quiet(t *testing.T, f func(t *testing.T, c *Cluster)) {
	t.Helper()
	bubble(t, 3, func(t *testing.T, c *Cluster) {
		c.Register(apitest.Job(t, forever, apitest.Count(6)))
		c.Settle(15 * time.Second)
		before, dials := runIDs(c.Ledger.Running()), c.dials()
		f(t, c)
		if diff := cmp.Diff(before, runIDs(c.Ledger.Running())); diff != "" {
			t.Errorf("what runs (-before +after):\n%s", diff)
		}
		if n := len(c.Allocs("web")); n != 6 || len(c.Allocs("web", Running)) != 6 {
			t.Errorf("%d allocations, %d run: want 6 of each", n, len(c.Allocs("web", Running)))
		}
		for _, a := range c.agents {
			if n := c.Node(a); n.Status != api.NodeStatusReady {
				t.Errorf("%s is %s, want ready", a.Name, n.Status)
			}
		}
		if n := c.dials() - dials; n != 0 {
			t.Errorf("%d new links were made, want none", n)
		}
	})
}

// dials is how often agents have dialled the hub.
func (c *Cluster) dials() int {
	n := 0
	for _, a := range c.agents {
		n += a.Dials()
	}
	return n
}

func TestLinkedAgentsNeedNoGossip(t *testing.T) {
	quiet(t, func(t *testing.T, c *Cluster) {
		for _, a := range c.agents {
			a.CutGossip()
		}
		c.Settle(2 * time.Minute) // all call each other dead
		members := membersOf(t, c)
		for _, a := range c.agents {
			if members[a.Name] == "alive" {
				t.Errorf("the hub's gossip shows %s alive, so it was not cut", a.Name)
			}
			a.HealGossip()
		}
		c.Settle(2 * time.Minute)
		members = membersOf(t, c)
		for _, a := range c.agents {
			if members[a.Name] != "alive" {
				t.Errorf("the hub's gossip shows %s %s after it was healed, want alive", a.Name, members[a.Name])
			}
		}
	})
}

func TestForgedDeathsStopNothing(t *testing.T) {
	quiet(t, func(t *testing.T, c *Cluster) {
		key, err := c.agents[0].GossipKey()
		if err != nil {
			t.Fatal(err)
		}
		forger := c.Gossip.Transport("10.66.0.1:4648")
		targets := []string{HubGossip}
		names := []string{"hub"}
		for _, a := range c.agents {
			targets = append(targets, a.gossipAddr())
			names = append(names, a.memberName())
		}
		failed := false
		for round := range 20 {
			for _, name := range names {
				death := forgeDeath(t, key, name, names[0], 100+round)
				for _, to := range targets {
					if _, err := forger.WriteTo(death, to); err != nil {
						t.Fatal(err)
					}
				}
			}
			c.Settle(0)
			failed = failed || membersOf(t, c)[c.agents[1].Name] == "failed"
			c.Settle(time.Second)
		}
		if !failed {
			t.Error("the hub's gossip never showed a forged death, so nothing was tried")
		}
	})
}

// forgeDeath encodes what any holder of the gossip key can send: memberlist's message that a member is dead.
func forgeDeath(t *testing.T, key []byte, node, from string, incarnation int) []byte {
	t.Helper()
	var msg []byte
	err := codec.NewEncoderBytes(&msg, &codec.MsgpackHandle{}).Encode(map[string]any{
		"Incarnation": incarnation, "Node": node, "From": from,
	})
	if err != nil {
		t.Fatal(err)
	}
	msg = append([]byte{5}, msg...) // memberlist's deadMsg
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 13) // version 1, then the nonce
	out[0] = 1
	rand.Read(out[1:])
	return gcm.Seal(out, out[1:13], msg, nil)
}

// membersOf is what the hub's API shows of gossip: status by the agents' names.
func membersOf(t *testing.T, c *Cluster) map[string]string {
	t.Helper()
	got, err := c.API.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status := make(map[string]string)
	for _, m := range got.Members {
		for _, a := range c.agents {
			if m.Name == a.memberName() {
				status[a.Name] = m.Status
			}
		}
	}
	return status
}

// An agent that was admitted before finds the hub through any member, though it remembers none.
func TestAnyMembersAddressFindsTheHub(t *testing.T) {
	for name, leaf := range map[string]bool{"as a member": false, "as a leaf": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, c *Cluster) {
				c.Register(apitest.Job(t, forever, apitest.Count(2)))
				c.Settle(15 * time.Second)
				before := runIDs(c.Ledger.Running())
				a, other := c.agents[0], c.agents[1]
				a.Stop()
				if err := os.Remove(filepath.Join(a.Config.DataDir, "node", "members.json")); err != nil {
					t.Fatal(err)
				}
				a.Config.Join, a.Config.JoinToken, a.Config.Leaf = []string{other.gossipAddr()}, "", leaf
				a.Start()
				c.Settle(api.NodeGrace - time.Second)
				if n := c.Node(a); n.Status != api.NodeStatusReady {
					t.Errorf("node is %s, want ready", n.Status)
				}
				a.Await()
				c.Settle(time.Minute)
				if diff := cmp.Diff(before, runIDs(c.Ledger.Running())); diff != "" {
					t.Errorf("what runs (-before +after):\n%s", diff)
				}
			})
		})
	}
}

// A hub that is started again where its members remember it finds them, and they find it, without any flag.
func TestHubFindsItsMembersAgain(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *Cluster) {
		c.Settle(10 * time.Second)
		c.KillHub()
		for _, a := range c.agents {
			a.Stop()
			a.Config.Join, a.Config.JoinToken = nil, ""
		}
		c.Settle(time.Minute)
		for _, a := range c.agents {
			a.Start()
		}
		c.StartHub()
		c.Settle(time.Minute)
		for _, a := range c.agents {
			if n := c.Node(a); n.Status != api.NodeStatusReady {
				t.Errorf("%s is %s, want ready", a.Name, n.Status)
			}
			if s := membersOf(t, c)[a.Name]; s != "alive" {
				t.Errorf("the hub's gossip shows %s %q, want alive", a.Name, s)
			}
		}
	})
}
