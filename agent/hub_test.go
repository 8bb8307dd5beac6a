package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
)

// fakeHub is a hub's end of the link, in memory: it admits who has its token, and wants of each node what a test says.
type fakeHub struct {
	t      *testing.T
	addr   string
	ca     *identity.Authority
	creds  *identity.Credentials
	token  identity.JoinToken
	gossip []byte
	ttl    time.Duration // of the certificates it signs

	mu       sync.Mutex
	refuse   int // answer so many requests with an error
	nodes    map[string]*api.Node
	joins    int
	renewals int
	index    uint64
	allocs   []*api.Allocation
	jobs     []*api.Job
	changed  chan struct{} // closed when allocs changes
	latest   map[string]*api.AllocStatus
	sessions []*link.Session
}

func newFakeHub(t *testing.T, net *link.Memory, addr string) (hub *fakeHub, stop func()) {
	t.Helper()
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{t: t, addr: addr, ca: ca, token: identity.NewJoinToken(ca.Hash()), gossip: identity.NewGossipKey(), ttl: 24 * time.Hour, index: 1,
		nodes: make(map[string]*api.Node), changed: make(chan struct{}), latest: make(map[string]*api.AllocStatus)}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.CSR("hub")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, identity.Grant{Role: identity.RoleHub, Name: "hub", Region: "global", NotBefore: time.Now(), TTL: 8760 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if h.creds, err = identity.NewCredentials(key, cert, ca.CertPEM()); err != nil {
		t.Fatal(err)
	}
	return h, h.serve(net)
}

// serve listens until stop is called; a hub that is stopped may serve again.
func (h *fakeHub) serve(net *link.Memory) (stop func()) {
	ln, err := net.Listen(h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	mux := link.Listen(ln, h.creds.ServerConfig(), slog.New(slog.DiscardHandler))
	mux.Handle(link.ALPNJoin, h.serveJoin)
	mux.Handle(link.ALPNAgent, h.serveAgent)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		mux.Serve(ctx)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (h *fakeHub) sign(csr string) string {
	cert, err := h.ca.Sign([]byte(csr), identity.Grant{Role: identity.RoleAgent, Name: "n1", Region: "global", NotBefore: time.Now(), TTL: h.ttl})
	if err != nil {
		h.t.Error(err)
	}
	return string(cert)
}

func (h *fakeHub) serveJoin(_ context.Context, conn *tls.Conn) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	w := httptest.NewRecorder()
	var req api.JoinRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != api.JoinPath {
		h.t.Errorf("join: %s, %v", r.URL.Path, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joins++
	switch {
	case h.refuse > 0:
		h.refuse--
		w.Header().Set(api.HeaderError, "no-leader")
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
	case req.TokenID != h.token.ID || req.Secret != h.token.Secret:
		w.Header().Set(api.HeaderError, "denied")
		http.Error(w, "join token: unknown, used up or expired", http.StatusForbidden)
	default:
		json.NewEncoder(w).Encode(api.JoinReply{Certificate: h.sign(req.CSR), CA: string(h.ca.CertPEM()), GossipKey: h.gossip,
			Region: "global", Hubs: []api.HubAddr{{Name: "hub", RPC: h.addr}}})
	}
	w.Result().Write(conn)
}

func (h *fakeHub) serveAgent(ctx context.Context, conn *tls.Conn) {
	session, err := link.Accept(conn)
	if err != nil {
		return
	}
	defer session.Close()
	h.mu.Lock()
	h.sessions = append(h.sessions, session)
	h.mu.Unlock()
	id := session.Peer().NodeID
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+api.LinkNodePath, func(w http.ResponseWriter, r *http.Request) {
		var n api.Node
		json.NewDecoder(r.Body).Decode(&n)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuse > 0 {
			h.refuse--
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return
		}
		h.nodes[id] = &n
		json.NewEncoder(w).Encode(api.NodeReply{Hubs: []api.HubAddr{{Name: "hub", RPC: h.addr}}})
	})
	mux.HandleFunc("GET "+api.LinkAllocsPath, h.watch)
	mux.HandleFunc("PUT "+api.LinkStatusesPath, func(w http.ResponseWriter, r *http.Request) {
		var report api.StatusReport
		json.NewDecoder(r.Body).Decode(&report)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuse > 0 {
			h.refuse--
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return
		}
		for _, s := range report.Allocs {
			h.latest[s.ID] = s
		}
		json.NewEncoder(w).Encode(api.WriteReply{})
	})
	mux.HandleFunc("PUT "+api.LinkCertificatePath, func(w http.ResponseWriter, r *http.Request) {
		var req api.CertificateRequest
		json.NewDecoder(r.Body).Decode(&req)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.renewals++
		json.NewEncoder(w).Encode(api.CertificateReply{Certificate: h.sign(req.CSR), CA: string(h.ca.CertPEM())})
	})
	session.Serve(ctx, mux)
}

func (h *fakeHub) watch(w http.ResponseWriter, r *http.Request) {
	for {
		h.mu.Lock()
		changed := h.changed
		n := api.NodeAllocs{Index: h.index, Full: r.FormValue("index") == "0", Allocs: h.allocs, Jobs: h.jobs}
		for _, j := range h.jobs {
			n.Versions = append(n.Versions, j.Version)
		}
		h.mu.Unlock()
		if n.Full || r.FormValue("index") != jsonText(n.Index) {
			json.NewEncoder(w).Encode(n)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func jsonText(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

// want replaces what the hub wants of the one node.
func (h *fakeHub) want(allocs ...*api.Allocation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index++
	h.allocs, h.jobs = nil, nil
	for _, a := range allocs {
		c := *a
		c.Job, c.AllocModifyIndex = nil, h.index
		h.allocs, h.jobs = append(h.allocs, &c), append(h.jobs, a.Job)
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// hangUp closes the links of the moment.
func (h *fakeHub) hangUp() {
	h.mu.Lock()
	sessions := h.sessions
	h.sessions = nil
	h.mu.Unlock()
	for _, s := range sessions {
		s.Close()
	}
}

func (h *fakeHub) status(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.latest[id]; s != nil {
		return s.ClientStatus
	}
	return ""
}

// on calls f with the hub's state.
func (h *fakeHub) on(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}
