package server

import (
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/server/state"
)

// agentRoutes are what a hub says of itself and of the cluster, and who may join it.
var agentRoutes = []route{
	{path: "/v1/agent/self", get: readSelf},
	{path: "/v1/agent/members", get: readMembers},
	{path: "/v1/agent/servers", get: readServers, put: notBuilt},
	{path: "/v1/agent/health", get: readHealth, open: true},
	{path: "/v1/status/leader", get: readLeader},
	{path: "/v1/status/peers", get: readPeers},
	{path: "/v1/regions", get: readRegions},
	{path: "/v1/operator/raft/configuration", get: readRaft},
	{path: "/v1/join-tokens", get: reads(query{keys: tableKeys(state.JoinTokens), find: listJoinTokens}), put: createJoinToken},
}

// now answers a read that does not come from the replicated state.
func (h *Hub) now(w http.ResponseWriter, r *http.Request, v any) error {
	h.stamp(w, answer{index: h.store.Snapshot().Index()})
	return writeJSON(w, r, v)
}

func readSelf(h *Hub, w http.ResponseWriter, r *http.Request) error {
	rpc, _ := h.leader()
	lead := strconv.FormatBool(h.isLeader())
	self := map[string]any{
		"config": map[string]any{
			"Region": h.cfg.Region, "Datacenter": h.cfg.Datacenter, "Name": h.cfg.Name,
			"Version": map[string]any{"Version": api.CompatVersion, "VersionPrerelease": "", "VersionMetadata": "brume", "Revision": ""},
			"UI":      map[string]any{"Enabled": false, "ShowCLIHints": false},
			"Server":  map[string]any{"Enabled": true},
			"Client":  map[string]any{"Enabled": false},
			"ACL":     map[string]any{"Enabled": !h.cfg.Dev},
		},
		"member": h.selfMember(),
		"stats": map[string]map[string]string{
			"nomad": {"server": "true", "leader": lead, "leader_addr": rpc, "bootstrap": "false", "known_regions": "1"},
			"raft":  h.raft.Stats(),
			"serf":  {"members": strconv.Itoa(len(h.members()))},
			"runtime": {"version": runtime.Version(), "arch": runtime.GOARCH, "kernel.name": runtime.GOOS,
				"goroutines": strconv.Itoa(runtime.NumGoroutine()), "cpu_count": strconv.Itoa(runtime.NumCPU())},
		},
	}
	return h.now(w, r, self)
}

// member turns a gossip member into the API's.
func (h *Hub) member(m gossip.Member) *api.Member {
	host, port, _ := net.SplitHostPort(m.Addr) // gossip gives host:port
	n, _ := strconv.ParseUint(port, 10, 16)
	status := "alive"
	if !m.Alive {
		status = string(m.Status)
	}
	tags := map[string]string{"region": m.Meta.Region, "dc": h.cfg.Datacenter, "id": m.Meta.NodeID, "build": api.CompatVersion, "port": strconv.Itoa(int(m.Meta.RPCPort))}
	name := m.Name
	if m.Meta.Role == "hub" {
		name += "." + m.Meta.Region
		tags["role"] = api.MemberRoleHub
		tags["rpc_addr"] = net.JoinHostPort(host, strconv.Itoa(int(m.Meta.RPCPort)))
		tags["vsn"], tags["raft_vsn"], tags["expect"] = "1", "3", "1"
	} else {
		tags["role"] = m.Meta.Role
	}
	return &api.Member{Name: name, Addr: host, Port: uint16(n), Tags: tags, Status: status,
		ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2, DelegateMin: 2, DelegateMax: 5, DelegateCur: 4}
}

func (h *Hub) selfMember() *api.Member {
	for _, m := range h.members() {
		if m.Meta.NodeID == h.key.NodeID() {
			return h.member(m)
		}
	}
	return &api.Member{Name: h.cfg.Name + "." + h.cfg.Region, Status: "alive", Tags: map[string]string{}}
}

func readMembers(h *Hub, w http.ResponseWriter, r *http.Request) error {
	out := &api.Members{ServerName: h.cfg.Name, ServerRegion: h.cfg.Region, ServerDC: h.cfg.Datacenter, Members: []*api.Member{}}
	for _, m := range h.members() {
		out.Members = append(out.Members, h.member(m))
	}
	slices.SortFunc(out.Members, func(a, b *api.Member) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return h.now(w, r, out)
}

func readServers(h *Hub, w http.ResponseWriter, r *http.Request) error { return h.now(w, r, h.peers()) }

// health answers probes of load balancers: 500 while no leader is known.
type health struct {
	Server healthOf `json:"server"`
}

type healthOf struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"`
}

func readHealth(h *Hub, w http.ResponseWriter, r *http.Request) error {
	if _, known := h.leader(); !known {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		return writeJSON(w, r, health{healthOf{false, api.ErrNoLeader.Error()}})
	}
	return writeJSON(w, r, health{healthOf{true, "ok"}})
}

func readLeader(h *Hub, w http.ResponseWriter, r *http.Request) error {
	rpc, known := h.leader()
	if !known {
		return api.ErrNoLeader
	}
	return h.now(w, r, rpc)
}

func readPeers(h *Hub, w http.ResponseWriter, r *http.Request) error { return h.now(w, r, h.peers()) }

func readRegions(h *Hub, w http.ResponseWriter, r *http.Request) error {
	return h.now(w, r, []string{h.cfg.Region})
}

// raftConfiguration answers /v1/operator/raft/configuration.
type raftConfiguration struct {
	Servers []raftServer
	Index   uint64
}

type raftServer struct {
	ID, Node, Address string
	Leader, Voter     bool
	RaftProtocol      string
}

func readRaft(h *Hub, w http.ResponseWriter, r *http.Request) error {
	f := h.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return noLeader(err)
	}
	out := raftConfiguration{Servers: []raftServer{}, Index: f.Index()}
	leader, _ := h.leader()
	for _, s := range f.Configuration().Servers {
		out.Servers = append(out.Servers, raftServer{ID: string(s.ID), Node: h.memberName(string(s.ID)), Address: string(s.Address),
			Leader: string(s.Address) == leader, Voter: s.Suffrage == 0, RaftProtocol: "3"})
	}
	return h.now(w, r, out)
}

func (h *Hub) memberName(id string) string {
	for _, m := range h.members() {
		if m.Meta.NodeID == id {
			return m.Name + "." + m.Meta.Region
		}
	}
	return "(unknown)"
}

func listJoinTokens(_ *Hub, snap *state.Snapshot, _ *read) (answer, error) {
	tokens := []*api.JoinToken{}
	now := time.Now().UnixNano()
	for t := range snap.JoinTokens() {
		if t.Uses > 0 && t.Expires > now {
			tokens = append(tokens, t)
		}
	}
	return answer{body: tokens, index: snap.TableIndex(state.JoinTokens)}, nil
}

func createJoinToken(h *Hub, w http.ResponseWriter, r *http.Request) error {
	var req api.JoinTokenRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	reply, err := h.createJoinToken(r.Context(), req)
	if err != nil {
		return err
	}
	return writeIndexed(w, r, h.store.Snapshot().Index(), reply)
}
