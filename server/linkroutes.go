package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// Limits on what an agent may send in one request, in bytes.
const (
	maxNodeBody   = 1 << 20
	maxReportBody = 4 << 20
	maxCSRBody    = 64 << 10
)

// maxWatch is how long a watch is held.
const maxWatch = 5 * time.Minute

// linkRoutes are the paths of api/link.go for the agent at the other end of a. They are served on its link only, and
// each acts for that agent's node alone.
func (h *Hub) linkRoutes(a *agentLink) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*agentLink, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			reply, err := a.take(r, f)
			if err != nil {
				writeError(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(reply) // what fails is the link, whose own loop sees it
		})
	}
	handle("PUT "+api.LinkNodePath, h.linkNode)
	handle("GET "+api.LinkAllocsPath, h.linkAllocs)
	handle("PUT "+api.LinkStatusesPath, h.linkStatuses)
	handle("PUT "+api.LinkCertificatePath, h.linkCertificate)
	handle("GET "+api.LinkHubsPath, func(*agentLink, *http.Request) (any, error) {
		return api.HubList{Hubs: h.hubs()}, nil
	})
	return mux
}

// take answers one request of the agent's. One that carries a body waits until few others do.
func (a *agentLink) take(r *http.Request, f func(*agentLink, *http.Request) (any, error)) (any, error) {
	if r.Method == http.MethodPut {
		select {
		case a.writes <- struct{}{}:
			defer func() { <-a.writes }()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return f(a, r)
}

// decodeBody reads a JSON body of at most limit bytes into v.
func decodeBody(r *http.Request, limit int64, v any) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if int64(len(raw)) > limit {
		return api.E(api.ErrInvalid, fmt.Sprintf("body: larger than %d bytes", limit))
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return api.E(api.ErrInvalid, "body: "+err.Error())
	}
	return nil
}

// linkNode registers the node, or what has changed of it. The agent says what the machine is; its status is the hub's.
// What is known already costs no log entry, so that a storm of reconnecting agents is cheap.
func (h *Hub) linkNode(a *agentLink, r *http.Request) (any, error) {
	var n api.Node
	if err := decodeBody(r, maxNodeBody, &n); err != nil {
		return nil, err
	}
	if n.ID != a.nodeID {
		return nil, api.E(api.ErrDenied, fmt.Sprintf("node %q: the certificate is for %s", n.ID, a.nodeID))
	}
	if len(n.Name) > maxName || strings.ContainsFunc(n.Name, unicode.IsControl) {
		return nil, api.E(api.ErrInvalid, fmt.Sprintf("node name: want at most %d bytes without control characters", maxName))
	}
	h.adopt(&n, a.session.Peer().Name)
	snap := h.store.Snapshot()
	index := snap.Index()
	if known := snap.Node(n.ID); known == nil || !sameNode(n, known) {
		var err error
		if index, _, err = h.apply(r.Context(), state.PutNode{Node: &n}); err != nil {
			return nil, err
		}
	}
	a.registered.Store(true)
	h.links.note()
	return api.NodeReply{Index: index, Hubs: h.hubs()}, nil
}

// adopt fills what the hub says of a node.
func (h *Hub) adopt(n *api.Node, name string) {
	n.Name = cmp.Or(n.Name, name)
	n.Datacenter = cmp.Or(n.Datacenter, api.DefaultDatacenter)
	n.NodePool = cmp.Or(n.NodePool, api.DefaultNodePool)
	n.HTTPAddr, n.TLSEnabled = h.public.HTTP, !h.cfg.Dev
	n.Status, n.StatusDescription = api.NodeStatusReady, ""
	n.Events, n.Drain, n.SchedulingEligibility = nil, false, ""
	n.ComputedClass = n.Class()
}

// sameNode reports whether a registration says nothing that is not known.
func sameNode(n api.Node, known *api.Node) bool {
	n.Events, n.Drain, n.SchedulingEligibility = known.Events, known.Drain, known.SchedulingEligibility
	n.Ordinal, n.CreateIndex, n.ModifyIndex, n.StatusUpdatedAt = known.Ordinal, known.CreateIndex, known.ModifyIndex, known.StatusUpdatedAt
	return reflect.DeepEqual(&n, known)
}

// linkAllocs parks until the hubs have changed something of the node's allocations after index, and answers with it.
func (h *Hub) linkAllocs(a *agentLink, r *http.Request) (any, error) {
	query := r.URL.Query()
	index, err := strconv.ParseUint(cmp.Or(query.Get("index"), "0"), 10, 64)
	if err != nil {
		return nil, api.E(api.ErrInvalid, "index: "+err.Error())
	}
	wait := maxWatch
	if s := query.Get("wait"); s != "" {
		if wait, err = time.ParseDuration(s); err != nil {
			return nil, api.E(api.ErrInvalid, "wait: "+err.Error())
		}
		wait = min(max(wait, 0), maxWatch)
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		node := h.store.Snapshot().Node(a.nodeID)
		if node == nil { // an empty answer would tell the agent to stop all that it runs
			return nil, api.E(api.ErrConflict, "node is not registered")
		}
		changed, cancel := h.store.Watch(state.NodeDesired(node.Ordinal))
		reply := nodeAllocs(h.store.Snapshot(), node.Ordinal, index)
		if reply.Full || len(reply.Allocs) > 0 {
			cancel()
			return reply, nil
		}
		select {
		case <-changed:
			cancel()
			continue
		case <-timeout.C:
		case <-r.Context().Done():
		}
		cancel()
		return reply, nil
	}
}

// nodeAllocs is what a node's agent is to know beyond index.
func nodeAllocs(snap *state.Snapshot, ordinal uint32, index uint64) *api.NodeAllocs {
	if index > snap.Index() { // of a state that was lost: begin anew
		index = 0
	}
	reply := &api.NodeAllocs{
		Index: snap.Index(), Full: index == 0, Allocs: []*api.Allocation{}, Versions: []uint64{}, Jobs: []*api.Job{},
	}
	jobs := map[*api.Job]bool{}
	for row := range snap.RowsOfNode(ordinal, index) {
		if reply.Full && row.ClientTerminal() {
			continue
		}
		alloc := snap.Allocation(row)
		alloc.Job, alloc.Metrics = nil, nil
		reply.Allocs = append(reply.Allocs, alloc)
		reply.Versions = append(reply.Versions, row.Job().Version)
		if j := row.Job(); !jobs[j] {
			jobs[j] = true
			reply.Jobs = append(reply.Jobs, j)
		}
	}
	return reply
}
