package compat

import (
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// Nodes.
var nodeRows = []row{
	read("GET /v1/nodes", func(w *world) ([]*public.NodeListStub, *public.QueryMeta, error) {
		return w.Nodes().List(nil)
	}, func(t *testing.T, w *world, got []*public.NodeListStub) []*public.NodeListStub {
		return []*public.NodeListStub{w.nodeStub(t, at(got, 0))}
	}),
	read("GET /v1/nodes", func(w *world) ([]*public.NodeListStub, *public.QueryMeta, error) {
		return w.Nodes().List(&public.QueryOptions{Params: map[string]string{"resources": "true", "os": "true"}})
	}, func(t *testing.T, w *world, got []*public.NodeListStub) []*public.NodeListStub {
		want := w.nodeStub(t, at(got, 0))
		full, _, err := w.plain.Nodes().Info(w.node.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		want.NodeResources, want.ReservedResources = full.NodeResources, full.ReservedResources
		want.Attributes = map[string]string{"os.name": full.Attributes["os.name"], "os.version": full.Attributes["os.version"]}
		return []*public.NodeListStub{want}
	}).as("with resources and os"),
	read("GET /v1/node/{id}", func(w *world) (*public.Node, *public.QueryMeta, error) {
		return w.Nodes().Info(w.node.ID, nil)
	}, func(t *testing.T, w *world, got *public.Node) *public.Node { return w.wholeNode(t, got) }),
	absent("GET /v1/node/{id}", "node not found", func(w *world) error { return fails(w.Nodes().Info(noID, nil)) }),
	read("GET /v1/node/{id}/allocations", func(w *world) ([]*public.Allocation, *public.QueryMeta, error) {
		all, meta, err := w.Nodes().Allocations(w.node.ID, nil)
		return slices.DeleteFunc(all, func(a *public.Allocation) bool { return a.ID != w.alloc.ID }), meta, err
	}, func(t *testing.T, w *world, got []*public.Allocation) []*public.Allocation {
		return []*public.Allocation{w.allocation(t, at(got, 0))}
	}),
}

// What a hub says of itself and of the cluster.
var agentRows = []row{
	read("GET /v1/agent/self", func(w *world) (*public.AgentSelf, *public.QueryMeta, error) {
		return noMeta(w.Agent().Self())
	}, wholeSelf),
	read("GET /v1/agent/members", func(w *world) (*public.ServerMembers, *public.QueryMeta, error) {
		return noMeta(w.Agent().Members())
	}, func(t *testing.T, w *world, got *public.ServerMembers) *public.ServerMembers {
		return &public.ServerMembers{ServerName: "dev", ServerRegion: "global", ServerDC: "dc1", Members: []*public.AgentMember{
			w.nodeMember(at(got.Members, 0)), w.hubMember(t, at(got.Members, 1)),
		}}
	}),
	read("GET /v1/agent/servers", func(w *world) ([]string, *public.QueryMeta, error) {
		return noMeta(w.Agent().Servers())
	}, func(_ *testing.T, w *world, _ []string) []string { return []string{w.rpc} }),
	answer("GET /v1/agent/health", func(w *world) (*public.AgentHealthResponse, error) { return w.Agent().Health() },
		is(&public.AgentHealthResponse{Server: &public.AgentHealth{Ok: true, Message: "ok"}})),
	read("GET /v1/status/leader", func(w *world) (string, *public.QueryMeta, error) {
		return noMeta(w.Status().Leader())
	}, func(_ *testing.T, w *world, _ string) string { return w.rpc }),
	read("GET /v1/status/peers", func(w *world) ([]string, *public.QueryMeta, error) {
		return noMeta(w.Status().Peers())
	}, func(_ *testing.T, w *world, _ []string) []string { return []string{w.rpc} }),
	read("GET /v1/regions", func(w *world) ([]string, *public.QueryMeta, error) {
		return noMeta(w.Regions().List())
	}, is([]string{"global"})),
	read("GET /v1/operator/raft/configuration", func(w *world) (*public.RaftConfiguration, *public.QueryMeta, error) {
		return noMeta(w.Operator().RaftGetConfiguration(nil))
	}, func(t *testing.T, w *world, _ *public.RaftConfiguration) *public.RaftConfiguration {
		return &public.RaftConfiguration{Servers: []*public.RaftServer{{
			ID: w.hubID(t), Node: "dev.global", Address: w.rpc, Leader: true, Voter: true, RaftProtocol: "3",
		}}}
	}),
	write("PUT /v1/join-tokens", func(w *world) (joinTokenReply, *public.WriteMeta, error) {
		var reply joinTokenReply
		meta, err := w.Raw().Write("/v1/join-tokens", map[string]any{"Role": "agent", "Uses": 2, "TTL": time.Hour}, &reply, nil)
		w.token = reply
		return reply, meta, err
	}, func(t *testing.T, w *world, got joinTokenReply) joinTokenReply {
		parts := strings.Split(got.Token, ".")
		if len(parts) != 3 || parts[0] != got.ID || len(parts[1]) < 20 || len(parts[2]) < 20 {
			t.Errorf("token %q of id %q, want id.secret.cahash", got.Token, got.ID)
		}
		w.recent(t, "Expires", got.Expires-int64(time.Hour))
		return got
	}),
	read("GET /v1/join-tokens", func(w *world) ([]joinToken, *public.QueryMeta, error) {
		return raw[[]joinToken](w, "/v1/join-tokens")
	}, func(t *testing.T, w *world, got []joinToken) []joinToken { // dev's own was used up
		want := joinToken{ID: w.token.ID, Role: "agent", Uses: 2, Expires: w.token.Expires}
		if len(got) > 0 {
			want.CreateIndex, want.ModifyIndex = since(t, "CreateIndex", got[0].CreateIndex, 1), got[0].CreateIndex
		}
		return []joinToken{want}
	}),
}

// joinTokenReply carries a new token, joinToken lists one without its secret.
type (
	joinTokenReply struct {
		Token, ID string
		Expires   int64
	}
	joinToken struct {
		ID, Role                 string
		Uses                     int
		Expires                  int64
		CreateIndex, ModifyIndex uint64
	}
)

func (w *world) nodeStub(t *testing.T, got *public.NodeListStub) *public.NodeListStub {
	t.Helper()
	if net.ParseIP(got.Address) == nil {
		t.Errorf("address %q is no IP address", got.Address)
	}
	if !version.MatchString(got.Version) {
		t.Errorf("version %q does not read as one", got.Version)
	}
	return &public.NodeListStub{
		ID: w.node.ID, Name: "dev", Datacenter: "dc1", NodePool: "default", Address: got.Address, Version: got.Version,
		SchedulingEligibility: "eligible", Status: "ready", Drivers: w.drivers(t, got.Drivers),
		CreateIndex: since(t, "CreateIndex", got.CreateIndex, 1),
		ModifyIndex: since(t, "ModifyIndex", got.ModifyIndex, got.CreateIndex),
	}
}

var version = regexp.MustCompile(`^\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)

func (w *world) drivers(t *testing.T, got map[string]*public.DriverInfo) map[string]*public.DriverInfo {
	t.Helper()
	if got["raw_exec"] == nil {
		t.Fatalf("no driver raw_exec among %d", len(got))
	}
	return map[string]*public.DriverInfo{"raw_exec": {
		Attributes: map[string]string{"driver.raw_exec": "1", "driver.raw_exec.limits_enforced": "false"},
		Detected:   true, Healthy: true, HealthDescription: "tasks run without isolation; their resources are not enforced",
		UpdateTime: w.about(t, "UpdateTime", got["raw_exec"].UpdateTime),
	}}
}

// attributes are those that constraints of job files in the wild name, and every Linux machine has.
var attributes = []string{
	"cpu.arch", "cpu.frequency", "cpu.numcores", "cpu.totalcompute", "driver.raw_exec", "kernel.arch", "kernel.name", "kernel.version",
	"memory.totalbytes", "nomad.service_discovery", "nomad.version", "os.name", "os.signals", "unique.hostname",
	"unique.network.ip-address", "unique.storage.bytesfree", "unique.storage.bytestotal", "unique.storage.volume",
}

// wholeNode is the node of this machine. What the machine has is checked to be said, and taken as it is said.
func (w *world) wholeNode(t *testing.T, got *public.Node) *public.Node {
	t.Helper()
	for _, name := range attributes {
		if got.Attributes[name] == "" {
			t.Errorf("attribute %s is missing", name)
		}
	}
	r := got.NodeResources
	if r == nil || r.Cpu.CpuShares <= 0 || r.Cpu.TotalCpuCores == 0 || r.Memory.MemoryMB <= 0 || r.Disk.DiskMB <= 0 || len(r.Networks) == 0 {
		t.Fatalf("resources %+v, want some of each", r)
	}
	if at := time.Unix(got.StatusUpdatedAt, 0); at.Before(w.started.Add(-patience)) || at.After(time.Now()) {
		t.Errorf("status of %s, want of this test, in seconds", at)
	}
	event := at(got.Events, 0)
	return &public.Node{
		ID: w.node.ID, Name: "dev", Datacenter: "dc1", NodePool: "default", HTTPAddr: strings.TrimPrefix(w.address, "http://"),
		Attributes: got.Attributes, Drivers: w.drivers(t, got.Drivers), Status: "ready", SchedulingEligibility: "eligible",
		NodeResources: &public.NodeResources{
			Cpu: r.Cpu, Memory: r.Memory, Disk: r.Disk, Networks: r.Networks, MinDynamicPort: 20000, MaxDynamicPort: 32000,
		},
		ReservedResources: &public.NodeReservedResources{}, StatusUpdatedAt: got.StatusUpdatedAt,
		Events: []*public.NodeEvent{{
			Message: "node registered", Subsystem: "Cluster", Timestamp: w.about(t, "event", event.Timestamp), CreateIndex: w.node.CreateIndex,
		}},
		CreateIndex: w.node.CreateIndex, ModifyIndex: since(t, "ModifyIndex", got.ModifyIndex, w.node.CreateIndex),
	}
}

// wholeSelf is what the hub says of itself. Counters of Raft and of the runtime are checked to be there.
func wholeSelf(t *testing.T, w *world, got *public.AgentSelf) *public.AgentSelf {
	t.Helper()
	if got.Stats["raft"]["state"] != "Leader" || got.Stats["raft"]["commit_index"] == "" || got.Stats["runtime"]["goroutines"] == "" {
		t.Errorf("stats of Raft %v, of the runtime %v", got.Stats["raft"], got.Stats["runtime"])
	}
	return &public.AgentSelf{
		Config: map[string]any{
			"Region": "global", "Datacenter": "dc1", "Name": "dev",
			"Version": map[string]any{"Version": "1.11.0", "VersionPrerelease": "", "VersionMetadata": "brume", "Revision": ""},
			"UI":      map[string]any{"Enabled": false, "ShowCLIHints": false},
			"Server":  map[string]any{"Enabled": true}, "Client": map[string]any{"Enabled": false}, "ACL": map[string]any{"Enabled": false},
		},
		Member: *w.hubMember(t, &got.Member),
		Stats: map[string]map[string]string{
			"nomad": {"server": "true", "leader": "true", "leader_addr": w.rpc, "bootstrap": "false", "known_regions": "1"},
			"serf":  {"members": "2"}, "raft": got.Stats["raft"], "runtime": got.Stats["runtime"],
		},
	}
}

// hubMember is the hub among the members of the gossip.
func (w *world) hubMember(t *testing.T, got *public.AgentMember) *public.AgentMember {
	t.Helper()
	_, port, err := net.SplitHostPort(w.rpc)
	if err != nil {
		t.Fatal(err)
	}
	want := member("dev.global", got)
	want.Tags = map[string]string{
		"role": "nomad", "region": "global", "dc": "dc1", "build": "1.11.0", "id": w.hubID(t), "port": port, "rpc_addr": w.rpc,
		"vsn": "1", "raft_vsn": "3", "expect": "1",
	}
	return want
}

// nodeMember is the node among them.
func (w *world) nodeMember(got *public.AgentMember) *public.AgentMember {
	want := member("dev-"+w.node.ID[:8], got)
	want.Tags = map[string]string{"role": "agent", "region": "global", "dc": "dc1", "build": "1.11.0", "id": w.node.ID, "port": "0"}
	return want
}

func member(name string, got *public.AgentMember) *public.AgentMember {
	return &public.AgentMember{
		Name: name, Addr: "127.0.0.1", Port: max(got.Port, 1), Status: "alive",
		ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2, DelegateMin: 2, DelegateMax: 5, DelegateCur: 4,
	}
}

// hubID is the id of the hub's key, as the configuration of Raft names it.
func (w *world) hubID(t *testing.T) string {
	t.Helper()
	conf, err := w.plain.Operator().RaftGetConfiguration(nil)
	if err != nil || len(conf.Servers) != 1 {
		t.Fatalf("configuration %+v, error %v, want one hub", conf, err)
	}
	return conf.Servers[0].ID
}
