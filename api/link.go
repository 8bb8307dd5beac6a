package api

// What hubs and agents say to each other over a link. Paths are served on the link only, never on the HTTP port:
//
//	PUT  /link/v1/node               Node                -> NodeReply   register, and every change of the fingerprint
//	GET  /link/v1/allocs?index&wait                      -> NodeAllocs  blocking watch of the node's own allocations
//	PUT  /link/v1/statuses           StatusReport        -> WriteReply
//	PUT  /link/v1/certificate        CertificateRequest  -> CertificateReply
//	GET  /link/v1/hubs                                   -> HubList
//
// and, from hub to agent, the /v1/client/… paths of the HTTP API.
const (
	LinkNodePath        = "/link/v1/node"
	LinkAllocsPath      = "/link/v1/allocs"
	LinkStatusesPath    = "/link/v1/statuses"
	LinkCertificatePath = "/link/v1/certificate"
	LinkHubsPath        = "/link/v1/hubs"
	JoinPath            = "/join/v1" // served under ALPN brume-join/1 only
)

// NodeAllocs answers an agent's watch. With index 0 it holds every allocation of the node that is not terminal on the
// node, and Full is true: what the agent runs beyond it is to be stopped and forgotten. With an index it holds those
// whose AllocModifyIndex is greater. Allocations carry no Job: Jobs holds each (namespace, id, version) once, and
// Versions[i] is the version of the job of Allocs[i].
type NodeAllocs struct {
	Index    uint64
	Full     bool
	Allocs   []*Allocation
	Versions []uint64
	Jobs     []*Job
}

// NodeReply answers a registration.
type NodeReply struct {
	Index uint64
	Hubs  []HubAddr
}

// HubAddr names a hub and its addresses (host:port).
type HubAddr struct {
	Name string
	RPC  string
	HTTP string
}

// HubList is the hubs that a member knows.
type HubList struct{ Hubs []HubAddr }

// StatusReport carries a node's changed allocation statuses, the newest state of each.
type StatusReport struct{ Allocs []*AllocStatus }

// WriteReply answers a write that made no object.
type WriteReply struct{ Index uint64 }

// JoinRequest asks for a certificate with a join token. CSR is PEM, signed by the key that is to be certified.
type JoinRequest struct {
	TokenID string
	Secret  string
	Role    string // "hub" or "agent"
	Name    string
	CSR     string
}

// JoinReply admits a member: its certificate, the cluster's CA, the gossip key and where the hubs are.
type JoinReply struct {
	Certificate string // PEM
	CA          string // PEM
	GossipKey   []byte
	Region      string
	Hubs        []HubAddr
	Gossip      []string // gossip addresses to join
}

// CertificateRequest asks for a fresh certificate for the same key.
type CertificateRequest struct{ CSR string }

// CertificateReply carries it.
type CertificateReply struct {
	Certificate string
	CA          string
}

// JoinToken is how a join token is listed: never its secret.
type JoinToken struct {
	ID          string
	Role        string
	Uses        int // left
	Expires     int64
	SecretHash  []byte `json:"-"` // SHA-256
	CreateIndex uint64
	ModifyIndex uint64
}

// JoinTokenRequest makes a token (PUT /v1/join-tokens); TTL in nanoseconds.
type JoinTokenRequest struct {
	Role string
	Uses int
	TTL  int64
}

// JoinTokenReply carries the whole token once: "id.secret.cahash".
type JoinTokenReply struct {
	Token   string
	ID      string
	Expires int64
}
