package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/server/state"
)

// Hub is a running hub. HTTP routes and link routes are its methods; they read h.store and write through h.apply.
type Hub struct {
	cfg   Config // complete: no field is empty
	log   *slog.Logger
	store *state.Store
	raft  *raft.Raft
	key   *identity.Key
	creds *identity.Credentials
	seal  *identity.ClusterKey
	links *links                      // live links of agents, by node
	pool  atomic.Pointer[gossip.Pool] // nil until the gossip key is known
	term  atomic.Pointer[term]        // the leader's loops, nil while this hub does not lead
	addrs Addrs                       // as bound; set before anything is served
	start time.Time
}

// For the routes (http*.go, route*.go), which are to be served by:
//
//	func (h *Hub) routes() http.Handler
//	func writeError(w http.ResponseWriter, err error)   // status, X-Brume-Error and text of reference B.1

// token says whether secret may use the API: api.ErrDenied if not. In dev every caller may.
func (h *Hub) token(secret string) error { panic("written in auth.go") }

// isLeader reports whether this hub takes writes.
func (h *Hub) isLeader() bool { panic("written in raft.go") }

// leader returns the leader's addresses; known is false while there is none.
func (h *Hub) leader() (rpcAddr, httpAddr string, known bool) { panic("written in raft.go") }

// lastContact is how long ago this hub heard of the leader: 0 on the leader.
func (h *Hub) lastContact() time.Duration { panic("written in raft.go") }

// peers returns the RPC addresses of the Raft voters, sorted.
func (h *Hub) peers() []string { panic("written in raft.go") }

// members returns the gossip members that this hub knows, itself included; empty before gossip runs.
func (h *Hub) members() []gossip.Member { panic("written in gossip.go") }

// nodeTransport returns the transport that reaches a node's agent through its live link: api.ErrNotFound if no link.
func (h *Hub) nodeTransport(nodeID string) (http.RoundTripper, error) { panic("written in links.go") }

// apply commits a command and waits until this hub's state has it; result is what the state says of it. It fails with
// api.ErrNoLeader where this hub does not lead (then forward), and with the command's own error (api.ErrConflict, …).
func (h *Hub) apply(ctx context.Context, cmd state.Command) (index uint64, result any, err error) {
	panic("written in raft.go")
}

// registerJob validates a job, fills its defaults and commits it with an evaluation.
func (h *Hub) registerJob(ctx context.Context, req *api.JobRegisterRequest) (*api.JobRegisterResponse, error) {
	panic("written in jobs.go")
}

// deregistration asks for a job to be stopped, and forgotten if Purge.
type deregistration struct {
	Namespace, ID string
	Purge         bool
	EvalPriority  int // 0: the job's
}

// deregisterJob commits that the job is stopped.
func (h *Hub) deregisterJob(ctx context.Context, d deregistration) (*api.JobRegisterResponse, error) {
	panic("written in jobs.go")
}

// stopAlloc stops one allocation; the job gets another one.
func (h *Hub) stopAlloc(ctx context.Context, allocID string) (*api.AllocStopResponse, error) {
	panic("written in jobs.go")
}

// createJoinToken makes a join token; its secret is in the reply only.
func (h *Hub) createJoinToken(ctx context.Context, req api.JoinTokenRequest) (api.JoinTokenReply, error) {
	panic("written in join.go")
}
