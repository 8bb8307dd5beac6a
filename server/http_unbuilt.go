package server

import (
	"net/http"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// unbuiltRoutes are the known paths of the API that have nothing behind them yet: reads answer their shape, so that
// clients work; writes and streams are refused.
var unbuiltRoutes = []route{
	{path: "/v1/job/{id}/plan", put: notBuilt},
	{path: "/v1/job/{id}/deployments", get: ofJob([]any{})},
	{path: "/v1/job/{id}/deployment", get: ofJob(nil)},
	{path: "/v1/job/{id}/scale", get: notBuilt, put: notBuilt},
	{path: "/v1/job/{id}/services", get: ofJob([]any{})},
	{path: "/v1/job/{id}/submission", get: missing("job source not found")},
	{path: "/v1/job/{id}/actions", get: ofJob([]any{})},
	{path: "/v1/job/{id}/action", get: notBuilt},
	{path: "/v1/job/{id}/evaluate", put: notBuilt},
	{path: "/v1/job/{id}/dispatch", put: notBuilt},
	{path: "/v1/job/{id}/revert", put: notBuilt},
	{path: "/v1/job/{id}/stable", put: notBuilt},
	{path: "/v1/job/{id}/periodic/force", put: notBuilt},
	{path: "/v1/job/{id}/versions/{tag}/tag", put: notBuilt, del: notBuilt},
	{path: "/v1/jobs/statuses", get: constant([]any{}), put: notBuilt},

	{path: "/v1/deployments", get: constant([]any{})},
	{path: "/v1/deployment/{id}", get: missing("deployment not found")},
	{path: "/v1/deployment/allocations/{id}", get: constant([]any{})},
	{path: "/v1/deployment/{verb}/{id}", put: notBuilt},

	{path: "/v1/allocation/{id}/services", get: constant([]any{})},
	{path: "/v1/client/stats", get: notBuilt},
	{path: "/v1/client/gc", get: notBuilt, put: notBuilt},
	{path: "/v1/client/metadata", get: notBuilt, put: notBuilt},
	{path: "/v1/client/identity", get: notBuilt},
	{path: "/v1/client/identity/renew", put: notBuilt},

	{path: "/v1/node/{id}/drain", put: notBuilt},
	{path: "/v1/node/{id}/eligibility", put: notBuilt},
	{path: "/v1/node/{id}/evaluate", put: notBuilt},
	{path: "/v1/node/{id}/purge", put: notBuilt},
	{path: "/v1/node/pools", get: constant(nodePools), put: notBuilt},
	{path: "/v1/node/pool/{name}", get: nodePool, put: notBuilt, del: notBuilt},
	{path: "/v1/node/pool/{name}/jobs", get: constant([]any{})},
	{path: "/v1/node/pool/{name}/nodes", get: constant([]any{})},

	{path: "/v1/agent/host", get: notBuilt},
	{path: "/v1/agent/join", put: notBuilt},
	{path: "/v1/agent/force-leave", put: notBuilt},
	{path: "/v1/agent/reload", put: notBuilt},
	{path: "/v1/agent/schedulers", get: notBuilt, put: notBuilt},
	{path: "/v1/agent/schedulers/config", get: notBuilt, put: notBuilt},
	{path: "/v1/agent/keyring/{verb}", get: notBuilt, put: notBuilt},
	{path: "/v1/agent/monitor", get: notBuilt},
	{path: "/v1/agent/monitor/export", get: notBuilt},
	{path: "/v1/agent/pprof/{name}", get: notBuilt},

	{path: "/v1/operator/raft/peer", del: notBuilt},
	{path: "/v1/operator/raft/transfer-leadership", put: notBuilt},
	{path: "/v1/operator/snapshot", get: notBuilt, put: notBuilt},
	{path: "/v1/operator/scheduler/configuration", get: notBuilt, put: notBuilt},
	{path: "/v1/operator/autopilot/configuration", get: notBuilt, put: notBuilt},
	{path: "/v1/operator/autopilot/health", get: notBuilt},
	{path: "/v1/operator/upgrade-check/vault-workload-identity", get: notBuilt},
	{path: "/v1/operator/keyring/keys", get: constant([]any{})},
	{path: "/v1/operator/keyring/rotate", put: notBuilt},
	{path: "/v1/operator/keyring/key/{id}", del: notBuilt},
	{path: "/v1/operator/utilization", put: elsewhere},
	{path: "/v1/operator/license", get: elsewhere, put: elsewhere},
	{path: "/v1/system/gc", put: notBuilt},
	{path: "/v1/system/reconcile/summaries", put: notBuilt},
	{path: "/v1/metrics", get: constant(noMetrics)},
	{path: "/.well-known/jwks.json", get: constant(map[string]any{"keys": []any{}}), open: true},
	{path: "/.well-known/openid-configuration", get: missing("OIDC issuer not configured"), open: true},
	{path: "/v1/search", put: notBuilt},
	{path: "/v1/search/fuzzy", put: notBuilt},
	{path: "/v1/event/stream", get: notBuilt},

	{path: "/v1/namespaces", get: constant([]namespace{defaultNamespace}), put: notBuilt},
	{path: "/v1/namespace", put: notBuilt},
	{path: "/v1/namespace/{name}", get: oneNamespace, put: notBuilt, del: notBuilt},
	{path: "/v1/vars", get: constant([]any{})},
	{path: "/v1/var/{path...}", get: missing("variable not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/services", get: constant([]any{})},
	{path: "/v1/service/{name}", get: constant([]any{})},
	{path: "/v1/service/{name}/{id}", del: notBuilt},
	{path: "/v1/scaling/policies", get: constant([]any{})},
	{path: "/v1/scaling/policy/{id}", get: missing("policy not found")},
	{path: "/v1/volumes", get: constant([]any{}), put: notBuilt},
	{path: "/v1/volumes/external", get: constant(map[string]any{"Volumes": []any{}})},
	{path: "/v1/volumes/snapshot", get: constant(map[string]any{"Snapshots": []any{}}), put: notBuilt, del: notBuilt},
	{path: "/v1/volumes/claims", get: constant([]any{})},
	{path: "/v1/volumes/claim/{id}", del: notBuilt},
	{path: "/v1/volume/csi/{id}", get: missing("volume not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/volume/csi/{id}/{verb}", put: notBuilt, del: notBuilt},
	{path: "/v1/volume/host/{id}", get: missing("volume not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/plugins", get: constant([]any{})},
	{path: "/v1/plugin/csi/{id}", get: missing("plugin not found")},

	{path: "/v1/acl/bootstrap", put: notBuilt},
	{path: "/v1/acl/tokens", get: constant([]any{})},
	{path: "/v1/acl/token", put: notBuilt},
	{path: "/v1/acl/token/{id}", get: missing("ACL token not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/acl/token/onetime/exchange", put: notBuilt},
	{path: "/v1/acl/policies", get: constant([]any{})},
	{path: "/v1/acl/policy/self", get: constant([]any{})},
	{path: "/v1/acl/policy/{name}", get: missing("ACL policy not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/acl/roles", get: constant([]any{})},
	{path: "/v1/acl/role", put: notBuilt},
	{path: "/v1/acl/role/{id}", get: missing("ACL role not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/acl/role/name/{name}", get: missing("ACL role not found")},
	{path: "/v1/acl/auth-methods", get: constant([]any{})},
	{path: "/v1/acl/auth-method", put: notBuilt},
	{path: "/v1/acl/auth-method/{name}", get: missing("ACL auth-method not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/acl/binding-rules", get: constant([]any{})},
	{path: "/v1/acl/binding-rule", put: notBuilt},
	{path: "/v1/acl/binding-rule/{id}", get: missing("ACL binding rule not found"), put: notBuilt, del: notBuilt},
	{path: "/v1/acl/identity/client-introduction-token", put: notBuilt},
	{path: "/v1/acl/login", put: notBuilt},
	{path: "/v1/acl/oidc/{verb}", put: notBuilt},

	{path: "/v1/quotas", get: elsewhere},
	{path: "/v1/quota-usages", get: elsewhere},
	{path: "/v1/quota", put: elsewhere},
	{path: "/v1/quota/{name}", get: elsewhere, put: elsewhere, del: elsewhere},
	{path: "/v1/quota/usage/{name}", get: elsewhere},
	{path: "/v1/sentinel/policies", get: elsewhere},
	{path: "/v1/sentinel/policy/{name}", get: elsewhere, put: elsewhere, del: elsewhere},
	{path: "/v1/recommendations", get: elsewhere},
	{path: "/v1/recommendations/apply", put: elsewhere},
	{path: "/v1/recommendation", put: elsewhere},
	{path: "/v1/recommendation/{id}", get: elsewhere, del: elsewhere},
}

// notBuilt refuses what the API knows and Brume does not do yet.
func notBuilt(_ *Hub, _ http.ResponseWriter, r *http.Request) error {
	return withStatus(http.StatusNotImplemented, api.E(api.ErrInvalid, r.Method+" "+r.URL.Path+": not supported yet"))
}

// optionNotBuilt refuses a request for an option that Brume does not do yet: to ignore it would do something else than
// was asked for.
func optionNotBuilt(name string) error {
	return withStatus(http.StatusNotImplemented, api.E(api.ErrInvalid, name+": not supported yet"))
}

// elsewhere refuses what no free server of this API does, in the words that clients know.
func elsewhere(*Hub, http.ResponseWriter, *http.Request) error {
	return withStatus(http.StatusNotImplemented, api.E(api.ErrInvalid, api.TextEnterpriseOnly))
}

// constant answers every read with v. Nothing can change it, so a blocking query waits its time out.
func constant(v any) endpoint {
	return reads(query{
		keys: func(*read) []state.Key { return nil },
		find: func(_ *Hub, _ *state.Snapshot, _ *read) (answer, error) { return answer{body: v, index: 1}, nil },
	})
}

// missing says that there is no such object, since there can be none: at once, or to a blocking query when its time is
// over, so that clients that wait for one do not spin.
func missing(text string) endpoint {
	never := query{
		keys: func(*read) []state.Key { return nil },
		find: func(*Hub, *state.Snapshot, *read) (answer, error) { return answer{index: 1}, nil },
	}
	return func(h *Hub, w http.ResponseWriter, r *http.Request) error {
		rd, err := parseRead(r)
		if err != nil {
			return err
		}
		a, err := h.await(r.Context(), never, rd)
		if err != nil {
			return err
		}
		h.stamp(w, a)
		return api.E(api.ErrNotFound, text)
	}
}

// ofJob is constant for a job that exists.
func ofJob(v any) endpoint {
	return reads(query{keys: jobKeys, find: func(_ *Hub, snap *state.Snapshot, q *read) (answer, error) {
		job, err := findJob(snap, q)
		if err != nil {
			return answer{}, err
		}
		return answer{body: v, index: job.ModifyIndex}, nil
	}})
}

// pool is a node pool as clients decode it.
type pool struct {
	Name, Description        string
	Meta                     map[string]string
	CreateIndex, ModifyIndex uint64
}

var nodePools = []pool{
	{Name: "all", Description: "Every node.", CreateIndex: 1, ModifyIndex: 1},
	{Name: api.DefaultNodePool, Description: "Nodes that name no other pool.", CreateIndex: 1, ModifyIndex: 1},
}

func nodePool(h *Hub, w http.ResponseWriter, r *http.Request) error {
	for _, p := range nodePools {
		if p.Name == r.PathValue("name") {
			return constant(p)(h, w, r)
		}
	}
	return api.E(api.ErrNotFound, "node pool not found")
}

// namespace is a namespace as clients decode it.
type namespace struct {
	Name, Description, Quota string
	Meta                     map[string]string
	CreateIndex, ModifyIndex uint64
}

var defaultNamespace = namespace{Name: api.DefaultNamespace, Description: "Default shared namespace", CreateIndex: 1, ModifyIndex: 1}

func oneNamespace(h *Hub, w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("name") != api.DefaultNamespace {
		return api.E(api.ErrNotFound, "Namespace not found")
	}
	return constant(defaultNamespace)(h, w, r)
}

// noMetrics is the shape of an answer without metrics.
var noMetrics = map[string]any{"Timestamp": "", "Gauges": []any{}, "Points": []any{}, "Counters": []any{}, "Samples": []any{}}
