package state

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestPutNode(t *testing.T) {
	h := newHistory(t)
	node := func() *api.Node {
		n := apitest.Node(t)
		n.Ordinal, n.CreateIndex, n.ModifyIndex, n.Events = 77, 77, 77, []api.NodeEvent{{Message: "forged"}}
		return n
	}
	if got, want := h.do(PutNode{node()}), (NodeResult{Ordinal: 1, ModifyIndex: 1, Changed: true}); got != want {
		t.Errorf("a new node: %+v, want %+v", got, want)
	}
	if got, want := h.do(PutNode{node()}), (NodeResult{Ordinal: 1, ModifyIndex: 1}); got != want {
		t.Errorf("the same again: %+v, want %+v", got, want)
	}
	if at := h.snap().TableIndex(Nodes); at != 1 {
		t.Errorf("the same again moved the table to %d", at)
	}
	h.do(NodeStatus{IDs: []string{node().ID, "stranger"}, Status: api.NodeStatusDown, Description: "no link for 4s"})
	quiet := node()
	quiet.Status, quiet.Attributes["new"] = "", "fact"
	if got, want := h.do(PutNode{quiet}), (NodeResult{Ordinal: 1, ModifyIndex: 4, Changed: true}); got != want {
		t.Errorf("with a new fact: %+v, want %+v", got, want)
	}
	n := h.snap().Node(node().ID)
	if n.Status != api.NodeStatusDown || n.StatusDescription != "no link for 4s" || n.Attributes["new"] != "fact" || n.CreateIndex != 1 {
		t.Errorf("a node that names no status became %s, %q, created at %d", n.Status, n.StatusDescription, n.CreateIndex)
	}
	if n.StatusUpdatedAt != testStart/1e9+3 {
		t.Errorf("status updated at %d, want the time of the change in seconds", n.StatusUpdatedAt)
	}
	h.do(PutNode{node()})
	var messages []string
	for _, e := range h.snap().Node(node().ID).Events {
		messages = append(messages, e.Message)
	}
	if diff := cmp.Diff([]string{"node registered", "node is down: no link for 4s", "node is ready"}, messages); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	h.do(DeleteNodes{IDs: []string{node().ID}})
	if got := h.do(PutNode{node()}).(NodeResult); got.Ordinal != 2 {
		t.Errorf("after a deletion the ordinal is %d, want a new one", got.Ordinal)
	}
}

func TestNodeStatusNamesWhatChanged(t *testing.T) {
	h := newHistory(t)
	h.addNodes(2)
	a, b := testID("node", 0).String(), testID("node", 1).String()
	eval := h.newEval()
	if got := h.do(NodeStatus{IDs: []string{a, "stranger"}, Status: api.NodeStatusDown, Evals: []*api.Evaluation{eval}}).([]string); len(got) != 1 || got[0] != a {
		t.Errorf("changed %v, want %s", got, a)
	}
	if got := h.do(NodeStatus{IDs: []string{a, b}, Status: api.NodeStatusDown}).([]string); len(got) != 1 || got[0] != b {
		t.Errorf("changed %v, want %s", got, b)
	}
	if h.snap().Eval(eval.ID) == nil {
		t.Error("its evaluation was not added")
	}
	for n := range h.snap().Nodes("") {
		for range 2 * maxNodeEvents {
			h.do(NodeStatus{IDs: []string{n.ID}, Status: api.NodeStatusReady})
			h.do(NodeStatus{IDs: []string{n.ID}, Status: api.NodeStatusDown})
		}
		if got := len(h.snap().Node(n.ID).Events); got != maxNodeEvents {
			t.Errorf("%d events are kept, want %d", got, maxNodeEvents)
		}
	}
}

func TestUseJoinToken(t *testing.T) {
	hash, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	expired := int64(testStart + 2e9) // the time of the second entry
	for _, tc := range []struct {
		rule  string
		token api.JoinToken
		use   UseJoinToken
		want  bool
		left  int // uses; -1: the token is gone
	}{
		{"a use is counted", api.JoinToken{Uses: 2}, UseJoinToken{ID: "t", SecretHash: hash}, true, 1},
		{"the last use spends it", api.JoinToken{Uses: 1}, UseJoinToken{ID: "t", SecretHash: hash, Role: "agent"}, true, -1},
		{"another secret is denied", api.JoinToken{Uses: 1}, UseJoinToken{ID: "t", SecretHash: other}, false, 1},
		{"no secret is denied", api.JoinToken{Uses: 1}, UseJoinToken{ID: "t"}, false, 1},
		{"another role is denied", api.JoinToken{Uses: 1}, UseJoinToken{ID: "t", SecretHash: hash, Role: "hub"}, false, 1},
		{"another id is denied", api.JoinToken{Uses: 1}, UseJoinToken{ID: "u", SecretHash: hash}, false, 1},
		{"an expired one is denied", api.JoinToken{Uses: 1, Expires: expired}, UseJoinToken{ID: "t", SecretHash: hash}, false, 1},
		{"it lasts until it expires", api.JoinToken{Uses: 1, Expires: expired + 1}, UseJoinToken{ID: "t", SecretHash: hash}, true, -1},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			h := newHistory(t)
			token := tc.token
			token.ID, token.Role, token.SecretHash = "t", "agent", hash
			if token.Expires == 0 {
				token.Expires = testStart + 1e18
			}
			h.do(PutJoinToken{&token})
			got, err := h.try(tc.use)
			if tc.want && (err != nil || got != "agent") || !tc.want && (!errors.Is(err, api.ErrDenied) || got != nil) {
				t.Errorf("answer %v, %v", got, err)
			}
			left := -1
			if k := h.snap().JoinToken("t"); k != nil {
				left = k.Uses
			}
			if left != tc.left {
				t.Errorf("%d uses are left, want %d", left, tc.left)
			}
		})
	}
}

func TestJoinTokenIDsAreUnique(t *testing.T) {
	h := newHistory(t)
	token := func() *api.JoinToken {
		return &api.JoinToken{ID: "t", Uses: 1, SecretHash: make([]byte, 32)}
	}
	h.do(PutJoinToken{token()})
	if _, err := h.try(PutJoinToken{token()}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("the same id again: %v, want conflict", err)
	}
	h.do(GC{JoinTokens: []string{"t", "u"}})
	if h.snap().JoinToken("t") != nil {
		t.Error("a collected token is still there")
	}
}

func TestBootstrapHappensOnce(t *testing.T) {
	h := newHistory(t)
	token := func(n byte) PutToken {
		return PutToken{Token: Token{AccessorID: "a", Name: "admin", Type: TokenManagement, SecretHash: bytes.Repeat([]byte{n}, 32)}, Bootstrap: true}
	}
	h.do(token(1))
	want := Token{AccessorID: "a", Name: "admin", Type: TokenManagement, SecretHash: bytes.Repeat([]byte{1}, 32), CreateTime: testStart + 1e9, CreateIndex: 1, ModifyIndex: 1}
	if diff := cmp.Diff(&want, h.snap().Token(want.SecretHash)); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
	_, err := h.try(token(2))
	if !errors.Is(err, api.ErrInvalid) || err.Error() != "ACL bootstrap already done (reset index: 1)" {
		t.Errorf("a second bootstrap: %v", err)
	}
	again := token(1)
	again.Bootstrap = false
	if _, err := h.try(again); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a secret in use: %v, want conflict", err)
	}
	if h.snap().Token(bytes.Repeat([]byte{2}, 32)) != nil {
		t.Error("the refused token is there")
	}
}

func TestClusterIsMadeOnce(t *testing.T) {
	h := newHistory(t)
	c := Cluster{ID: "c1", Region: "global", CACert: []byte("ca"), SealedCAKey: []byte("key"), SealedKeys: []byte("keys")}
	h.do(ClusterMeta{c})
	c.CreateIndex, c.CreateTime = 1, testStart+1e9
	if diff := cmp.Diff(&c, h.snap().Cluster()); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
	if _, err := h.try(ClusterMeta{Cluster{ID: "c2"}}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a second cluster: %v, want conflict", err)
	}
}

func TestCommandVersion(t *testing.T) {
	h := newHistory(t)
	h.do(HubVersions{ID: "a", Min: 1, Max: 1})
	h.do(HubVersions{ID: "b", Min: 1, Max: 200})
	h.do(HubVersions{ID: "new", Min: 150, Max: 200})
	h.do(HubVersions{ID: "gone", Min: 1, Max: 1})
	h.do(HubVersions{ID: "gone", Gone: true})
	for _, tc := range []struct {
		rule string
		hubs []string
		want uint8
		ok   bool
	}{
		{"never above what this hub writes", []string{"b"}, Version, true},
		{"what all read", []string{"a", "b"}, 1, true},
		{"none that all read", []string{"a", "new"}, Version, false},
		{"a hub that has not said", []string{"a", "c"}, 0, false},
		{"a hub that left", []string{"gone"}, 0, false},
	} {
		if got, ok := h.snap().CommandVersion(tc.hubs); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %d, %t, want %d, %t", tc.rule, got, ok, tc.want, tc.ok)
		}
	}
}

func TestGCPassesOverWhatLives(t *testing.T) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	evalID := h.register(apitest.Job(t)).EvalID
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}})
	all := GC{Evals: []string{evalID}, Allocs: []ID{g.Rows[0].ID}, Jobs: []JobName{{"default", "web"}}}
	h.do(all)
	if s := h.snap(); s.Eval(evalID) == nil || s.Row(g.Rows[0].ID) == nil || h.job() == nil {
		t.Error("something that lives was collected")
	}
	h.do(PutEvals{[]*api.Evaluation{{ID: evalID, Namespace: "default", JobID: "web", Status: api.EvalStatusComplete}}})
	h.do(AllocStatuses{Statuses: []*api.AllocStatus{ended(g.Rows[0].ID, testStart, 0)}})
	h.do(all)
	if s := h.snap(); s.Eval(evalID) != nil || s.Row(g.Rows[0].ID) != nil || h.job() != nil || s.versions.len() != 0 {
		t.Error("something that is done was not collected")
	}
}
