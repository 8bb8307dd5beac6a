package server

import (
	"testing"

	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
)

// A hub that nobody hears when it says goodbye has stopped well all the same.
func TestStopThatNobodyHearsIsNoError(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.gossip.Settle()
		keys, err := w.hub.keys(w.hub.store.Snapshot().Cluster())
		if err != nil {
			t.Fatal(err)
		}
		other, err := gossip.New(gossip.Config{
			Name: "n1", Key: keys.Gossip, Meta: gossip.Meta{Role: string(identity.RoleAgent)}, Log: testLog(t),
			Transport: w.gossip.Transport("10.0.0.2:4648"),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := other.Join([]string{"10.0.0.1:4648"}); err != nil {
			t.Fatal(err)
		}
		w.gossip.Cut("10.0.0.1:4648")
		w.stop()
	})
}
