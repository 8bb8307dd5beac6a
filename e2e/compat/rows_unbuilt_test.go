package compat

import (
	"net/http"
	"strings"
	"time"

	public "github.com/hashicorp/nomad/api"
)

// noID is the id of nothing.
const noID = "00000000-0000-4000-8000-000000000000"

// absent is a row for reading one object that is not there.
func absent(route, text string, call func(*world) error) row {
	return refusal(route, http.StatusNotFound, text, call).as("of nothing")
}

// What has nothing behind it yet: lists are empty, single objects are not found, writes and streams are refused.
var unbuiltRows = []row{
	unbuilt("PUT /v1/job/{id}/plan", func(w *world) error { return fails(w.Jobs().Plan(w.web.job, true, nil)) }),
	read("GET /v1/job/{id}/deployments", func(w *world) ([]*public.Deployment, *public.QueryMeta, error) {
		return w.Jobs().Deployments("web", true, nil)
	}, is([]*public.Deployment{})),
	read("GET /v1/job/{id}/deployment", func(w *world) (*public.Deployment, *public.QueryMeta, error) {
		return w.Jobs().LatestDeployment("web", nil)
	}, is[*public.Deployment](nil)),
	unbuilt("GET /v1/job/{id}/scale", func(w *world) error { return fails(w.Jobs().ScaleStatus("web", nil)) }),
	unbuilt("PUT /v1/job/{id}/scale", func(w *world) error {
		return fails(w.Jobs().Scale("web", "g", new(3), "more", false, nil, nil))
	}),
	read("GET /v1/job/{id}/services", func(w *world) ([]*public.ServiceRegistration, *public.QueryMeta, error) {
		return w.Jobs().Services("web", nil)
	}, is([]*public.ServiceRegistration{})),
	absent("GET /v1/job/{id}/submission", "job source not found", func(w *world) error {
		return fails(w.Jobs().Submission("web", 0, nil))
	}),
	read("GET /v1/job/{id}/actions", func(w *world) ([]any, *public.QueryMeta, error) {
		return raw[[]any](w, "/v1/job/web/actions")
	}, is([]any{})),
	unbuilt("GET /v1/job/{id}/action", func(w *world) error { return fails(raw[any](w, "/v1/job/web/action?action=a")) }),
	unbuilt("PUT /v1/job/{id}/evaluate", func(w *world) error { return fails(w.Jobs().ForceEvaluate("web", nil)) }),
	unbuilt("PUT /v1/job/{id}/dispatch", func(w *world) error {
		return fails(w.Jobs().Dispatch("web", nil, []byte("payload"), "", nil))
	}),
	unbuilt("PUT /v1/job/{id}/revert", func(w *world) error { return fails(w.Jobs().Revert("web", 0, nil, nil, "", "")) }),
	unbuilt("PUT /v1/job/{id}/stable", func(w *world) error { return fails(w.Jobs().Stable("web", 0, true, nil)) }),
	unbuilt("PUT /v1/job/{id}/periodic/force", func(w *world) error { return fails(w.Jobs().PeriodicForce("web", nil)) }),
	unbuilt("PUT /v1/job/{id}/versions/{tag}/tag", func(w *world) error {
		return fails(w.Jobs().TagVersion("web", 0, "golden", "", nil))
	}),
	unbuilt("DELETE /v1/job/{id}/versions/{tag}/tag", func(w *world) error { return fails(w.Jobs().UntagVersion("web", "golden", nil)) }),
	read("GET /v1/jobs/statuses", func(w *world) ([]any, *public.QueryMeta, error) {
		return raw[[]any](w, "/v1/jobs/statuses")
	}, is([]any{})),
	unbuilt("PUT /v1/jobs/statuses", func(w *world) error { return put(w, "/v1/jobs/statuses", &public.JobStatusesRequest{}) }),

	unbuilt("DELETE /v1/evaluations", func(w *world) error { return fails(w.Evaluations().Delete([]string{noID}, nil)) }),
	read("GET /v1/deployments", func(w *world) ([]*public.Deployment, *public.QueryMeta, error) {
		return w.Deployments().List(nil)
	}, is([]*public.Deployment{})),
	absent("GET /v1/deployment/{id}", "deployment not found", func(w *world) error { return fails(w.Deployments().Info(noID, nil)) }),
	read("GET /v1/deployment/allocations/{id}", func(w *world) ([]*public.AllocationListStub, *public.QueryMeta, error) {
		return w.Deployments().Allocations(noID, nil)
	}, is([]*public.AllocationListStub{})),
	unbuilt("PUT /v1/deployment/{verb}/{id}", func(w *world) error { return fails(w.Deployments().PromoteAll(noID, nil)) }),

	read("GET /v1/allocation/{id}/services", func(w *world) ([]*public.ServiceRegistration, *public.QueryMeta, error) {
		return w.Allocations().Services(w.alloc.ID, nil)
	}, is([]*public.ServiceRegistration{})),
	unbuilt("GET /v1/client/stats", func(w *world) error { return fails(w.Nodes().Stats(w.node.ID, nil)) }),
	unbuilt("GET /v1/client/gc", func(w *world) error { return w.Nodes().GC(w.node.ID, nil) }),
	unbuilt("PUT /v1/client/gc", func(w *world) error { return put(w, "/v1/client/gc", nil) }),
	unbuilt("GET /v1/client/metadata", func(w *world) error { return fails(w.Nodes().Meta().Read(w.node.ID, nil)) }),
	unbuilt("PUT /v1/client/metadata", func(w *world) error {
		return fails(w.Nodes().Meta().Apply(&public.NodeMetaApplyRequest{NodeID: w.node.ID}, nil))
	}),
	unbuilt("GET /v1/client/identity", func(w *world) error {
		return fails(w.Nodes().Identity().Get(&public.NodeIdentityGetRequest{NodeID: w.node.ID}, nil))
	}),
	unbuilt("PUT /v1/client/identity/renew", func(w *world) error {
		return fails(w.Nodes().Identity().Renew(&public.NodeIdentityRenewRequest{NodeID: w.node.ID}, nil))
	}),

	unbuilt("PUT /v1/node/{id}/drain", func(w *world) error {
		return fails(w.Nodes().UpdateDrain(w.node.ID, &public.DrainSpec{Deadline: time.Hour}, false, nil))
	}),
	unbuilt("PUT /v1/node/{id}/eligibility", func(w *world) error { return fails(w.Nodes().ToggleEligibility(w.node.ID, false, nil)) }),
	unbuilt("PUT /v1/node/{id}/evaluate", func(w *world) error { return fails(w.Nodes().ForceEvaluate(w.node.ID, nil)) }),
	unbuilt("PUT /v1/node/{id}/purge", func(w *world) error { return fails(w.Nodes().Purge(w.node.ID, nil)) }),
	read("GET /v1/node/pools", func(w *world) ([]*public.NodePool, *public.QueryMeta, error) {
		return w.NodePools().List(nil)
	}, is([]*public.NodePool{poolAll, poolDefault})),
	unbuilt("PUT /v1/node/pools", func(w *world) error { return fails(w.NodePools().Register(&public.NodePool{Name: "gpu"}, nil)) }),
	read("GET /v1/node/pool/{name}", func(w *world) (*public.NodePool, *public.QueryMeta, error) {
		return w.NodePools().Info("default", nil)
	}, is(poolDefault)),
	absent("GET /v1/node/pool/{name}", "node pool not found", func(w *world) error { return fails(w.NodePools().Info("gpu", nil)) }),
	unbuilt("PUT /v1/node/pool/{name}", func(w *world) error { return put(w, "/v1/node/pool/gpu", &public.NodePool{Name: "gpu"}) }),
	unbuilt("DELETE /v1/node/pool/{name}", func(w *world) error { return fails(w.NodePools().Delete("gpu", nil)) }),
	read("GET /v1/node/pool/{name}/jobs", func(w *world) ([]*public.JobListStub, *public.QueryMeta, error) {
		return w.NodePools().ListJobs("default", nil)
	}, is([]*public.JobListStub{})),
	read("GET /v1/node/pool/{name}/nodes", func(w *world) ([]*public.NodeListStub, *public.QueryMeta, error) {
		return w.NodePools().ListNodes("default", nil)
	}, is([]*public.NodeListStub{})),

	unbuilt("PUT /v1/agent/servers", func(w *world) error { return w.Agent().SetServers([]string{"127.0.0.1:4647"}) }),
	unbuilt("GET /v1/agent/host", func(w *world) error { return fails(w.Agent().Host("", "", nil)) }),
	row{route: "PUT /v1/agent/join", try: wrapped("failed joining: ", func(w *world) error { return fails(w.Agent().Join("127.0.0.1:4648")) })},
	unbuilt("PUT /v1/agent/force-leave", func(w *world) error { return w.Agent().ForceLeave("h2") }),
	unbuilt("PUT /v1/agent/reload", func(w *world) error { return w.Agent().Reload(nil, nil) }),
	unbuilt("GET /v1/agent/schedulers", func(w *world) error { return fails(w.Agent().GetSchedulerWorkersInfo(nil)) }),
	unbuilt("PUT /v1/agent/schedulers", func(w *world) error { return put(w, "/v1/agent/schedulers", nil) }),
	unbuilt("GET /v1/agent/schedulers/config", func(w *world) error { return fails(w.Agent().GetSchedulerWorkerConfig(nil)) }),
	unbuilt("PUT /v1/agent/schedulers/config", func(w *world) error {
		return fails(w.Agent().SetSchedulerWorkerConfig(public.SchedulerWorkerPoolArgs{NumSchedulers: 1}, nil))
	}),
	unbuilt("GET /v1/agent/keyring/{verb}", func(w *world) error { return fails(w.Agent().ListKeys()) }),
	unbuilt("PUT /v1/agent/keyring/{verb}", func(w *world) error { return fails(w.Agent().InstallKey("key")) }),
	unbuilt("GET /v1/agent/monitor", func(w *world) error { return first(w.Agent().Monitor(nil, nil)) }),
	unbuilt("GET /v1/agent/monitor/export", func(w *world) error { return first(w.Agent().MonitorExport(nil, nil)) }),
	unbuilt("GET /v1/agent/pprof/{name}", func(w *world) error { return fails(w.Agent().Lookup("heap", public.PprofOptions{}, nil)) }),

	unbuilt("DELETE /v1/operator/raft/peer", func(w *world) error { return w.Operator().RaftRemovePeerByID(noID, nil) }),
	unbuilt("PUT /v1/operator/raft/transfer-leadership", func(w *world) error {
		return w.Operator().RaftTransferLeadershipByID(noID, nil)
	}),
	unbuilt("GET /v1/operator/snapshot", func(w *world) error { return fails(w.Operator().Snapshot(nil)) }),
	unbuilt("PUT /v1/operator/snapshot", func(w *world) error {
		return fails(w.Operator().SnapshotRestore(strings.NewReader("archive"), nil))
	}),
	unbuilt("GET /v1/operator/scheduler/configuration", func(w *world) error { return fails(w.Operator().SchedulerGetConfiguration(nil)) }),
	unbuilt("PUT /v1/operator/scheduler/configuration", func(w *world) error {
		return fails(w.Operator().SchedulerSetConfiguration(&public.SchedulerConfiguration{}, nil))
	}),
	unbuilt("GET /v1/operator/autopilot/configuration", func(w *world) error { return fails(w.Operator().AutopilotGetConfiguration(nil)) }),
	unbuilt("PUT /v1/operator/autopilot/configuration", func(w *world) error {
		return fails(w.Operator().AutopilotSetConfiguration(&public.AutopilotConfiguration{}, nil))
	}),
	unbuilt("GET /v1/operator/autopilot/health", func(w *world) error { return fails(w.Operator().AutopilotServerHealth(nil)) }),
	unbuilt("GET /v1/operator/upgrade-check/vault-workload-identity", func(w *world) error {
		return fails(w.Operator().UpgradeCheckVaultWorkloadIdentity(nil))
	}),
	read("GET /v1/operator/keyring/keys", func(w *world) ([]*public.RootKeyMeta, *public.QueryMeta, error) {
		return w.Keyring().List(nil)
	}, is([]*public.RootKeyMeta{})),
	unbuilt("PUT /v1/operator/keyring/rotate", func(w *world) error { return fails(w.Keyring().Rotate(nil, nil)) }),
	unbuilt("DELETE /v1/operator/keyring/key/{id}", func(w *world) error {
		return fails(w.Keyring().Delete(&public.KeyringDeleteOptions{KeyID: noID}, nil))
	}),
	paid("PUT /v1/operator/utilization", func(w *world) error {
		return fails(w.Operator().Utilization(&public.OperatorUtilizationOptions{}, nil))
	}),
	paid("GET /v1/operator/license", func(w *world) error { return fails(w.Operator().LicenseGet(nil)) }),
	paid("PUT /v1/operator/license", func(w *world) error { return fails(w.Operator().LicensePut("license", nil)) }),
	unbuilt("PUT /v1/system/gc", func(w *world) error { return w.System().GarbageCollect() }),
	unbuilt("PUT /v1/system/reconcile/summaries", func(w *world) error { return w.System().ReconcileSummaries() }),
	read("GET /v1/metrics", func(w *world) (*public.MetricsSummary, *public.QueryMeta, error) {
		return w.Operator().MetricsSummary(nil)
	}, is(&public.MetricsSummary{
		Gauges: []public.GaugeValue{}, Points: []public.PointValue{}, Counters: []public.SampledValue{}, Samples: []public.SampledValue{},
	})),
	read("GET /.well-known/jwks.json", func(w *world) (map[string][]any, *public.QueryMeta, error) {
		return raw[map[string][]any](w, "/.well-known/jwks.json")
	}, is(map[string][]any{"keys": {}})),
	absent("GET /.well-known/openid-configuration", "OIDC issuer not configured", func(w *world) error {
		return fails(raw[any](w, "/.well-known/openid-configuration"))
	}),
	unbuilt("PUT /v1/search", func(w *world) error { return fails(w.Search().PrefixSearch("web", "jobs", nil)) }),
	unbuilt("PUT /v1/search/fuzzy", func(w *world) error { return fails(w.Search().FuzzySearch("web", "jobs", nil)) }),
	unbuilt("GET /v1/event/stream", func(w *world) error { return fails(w.EventStream().Stream(w.t.Context(), nil, 0, nil)) }),

	read("GET /v1/namespaces", func(w *world) ([]*public.Namespace, *public.QueryMeta, error) {
		return w.Namespaces().List(nil)
	}, is([]*public.Namespace{namespaceDefault})),
	unbuilt("PUT /v1/namespaces", func(w *world) error { return put(w, "/v1/namespaces", &public.Namespace{Name: "dev"}) }),
	unbuilt("PUT /v1/namespace", func(w *world) error { return fails(w.Namespaces().Register(&public.Namespace{Name: "dev"}, nil)) }),
	read("GET /v1/namespace/{name}", func(w *world) (*public.Namespace, *public.QueryMeta, error) {
		return w.Namespaces().Info("default", nil)
	}, is(namespaceDefault)),
	absent("GET /v1/namespace/{name}", "Namespace not found", func(w *world) error { return fails(w.Namespaces().Info("dev", nil)) }),
	unbuilt("PUT /v1/namespace/{name}", func(w *world) error { return put(w, "/v1/namespace/dev", &public.Namespace{Name: "dev"}) }),
	unbuilt("DELETE /v1/namespace/{name}", func(w *world) error { return fails(w.Namespaces().Delete("dev", nil)) }),
	read("GET /v1/vars", func(w *world) ([]*public.VariableMetadata, *public.QueryMeta, error) {
		return w.Variables().List(nil)
	}, is([]*public.VariableMetadata{})),
	read("GET /v1/var/{path...}", func(w *world) (*public.Variable, *public.QueryMeta, error) {
		return w.Variables().Peek("a/b", nil)
	}, is[*public.Variable](nil)),
	unbuilt("PUT /v1/var/{path...}", func(w *world) error {
		return fails(w.Variables().Create(&public.Variable{Path: "a/b", Items: public.VariableItems{"k": "v"}}, nil))
	}),
	unbuilt("DELETE /v1/var/{path...}", func(w *world) error { return fails(w.Variables().Delete("a/b", nil)) }),
	read("GET /v1/services", func(w *world) ([]*public.ServiceRegistrationListStub, *public.QueryMeta, error) {
		return w.Services().List(nil)
	}, is([]*public.ServiceRegistrationListStub{})),
	read("GET /v1/service/{name}", func(w *world) ([]*public.ServiceRegistration, *public.QueryMeta, error) {
		return w.Services().Get("web", nil)
	}, is([]*public.ServiceRegistration{})),
	unbuilt("DELETE /v1/service/{name}/{id}", func(w *world) error { return fails(w.Services().Delete("web", noID, nil)) }),
	read("GET /v1/scaling/policies", func(w *world) ([]*public.ScalingPolicyListStub, *public.QueryMeta, error) {
		return w.Scaling().ListPolicies(nil)
	}, is([]*public.ScalingPolicyListStub{})),
	absent("GET /v1/scaling/policy/{id}", "policy not found", func(w *world) error { return fails(w.Scaling().GetPolicy(noID, nil)) }),

	read("GET /v1/volumes", func(w *world) ([]*public.CSIVolumeListStub, *public.QueryMeta, error) {
		return w.CSIVolumes().List(nil)
	}, is([]*public.CSIVolumeListStub{})),
	unbuilt("PUT /v1/volumes", func(w *world) error { return put(w, "/v1/volumes", &public.CSIVolumeRegisterRequest{}) }),
	read("GET /v1/volumes/external", func(w *world) (*public.CSIVolumeListExternalResponse, *public.QueryMeta, error) {
		return w.CSIVolumes().ListExternal("plugin", &public.QueryOptions{})
	}, is(&public.CSIVolumeListExternalResponse{Volumes: []*public.CSIVolumeExternalStub{}})),
	read("GET /v1/volumes/snapshot", func(w *world) (*public.CSISnapshotListResponse, *public.QueryMeta, error) {
		return w.CSIVolumes().ListSnapshotsOpts(&public.CSISnapshotListRequest{PluginID: "plugin"})
	}, is(&public.CSISnapshotListResponse{Snapshots: []*public.CSISnapshot{}})),
	unbuilt("PUT /v1/volumes/snapshot", func(w *world) error {
		return fails(w.CSIVolumes().CreateSnapshot(&public.CSISnapshot{SourceVolumeID: "v"}, nil))
	}),
	unbuilt("DELETE /v1/volumes/snapshot", func(w *world) error {
		return w.CSIVolumes().DeleteSnapshot(&public.CSISnapshot{ID: "s", PluginID: "plugin"}, nil)
	}),
	read("GET /v1/volumes/claims", func(w *world) ([]*public.TaskGroupHostVolumeClaim, *public.QueryMeta, error) {
		return w.TaskGroupHostVolumeClaims().List(nil, nil)
	}, is([]*public.TaskGroupHostVolumeClaim{})),
	unbuilt("DELETE /v1/volumes/claim/{id}", func(w *world) error { return fails(w.TaskGroupHostVolumeClaims().Delete(noID, nil)) }),
	absent("GET /v1/volume/csi/{id}", "volume not found", func(w *world) error { return fails(w.CSIVolumes().Info("v", nil)) }),
	unbuilt("PUT /v1/volume/csi/{id}", func(w *world) error { return fails(w.CSIVolumes().Register(&public.CSIVolume{ID: "v"}, nil)) }),
	unbuilt("DELETE /v1/volume/csi/{id}", func(w *world) error { return w.CSIVolumes().Deregister("v", false, nil) }),
	unbuilt("PUT /v1/volume/csi/{id}/{verb}", func(w *world) error { return fails(w.CSIVolumes().Create(&public.CSIVolume{ID: "v"}, nil)) }),
	unbuilt("DELETE /v1/volume/csi/{id}/{verb}", func(w *world) error { return w.CSIVolumes().Delete("v", nil) }),
	absent("GET /v1/volume/host/{id}", "volume not found", func(w *world) error { return fails(w.HostVolumes().Get(noID, nil)) }),
	unbuilt("PUT /v1/volume/host/{id}", func(w *world) error {
		return fails(w.HostVolumes().Create(&public.HostVolumeCreateRequest{Volume: &public.HostVolume{Name: "v"}}, nil))
	}),
	unbuilt("DELETE /v1/volume/host/{id}", func(w *world) error {
		return fails(w.HostVolumes().Delete(&public.HostVolumeDeleteRequest{ID: noID}, nil))
	}),
	read("GET /v1/plugins", func(w *world) ([]*public.CSIPluginListStub, *public.QueryMeta, error) {
		return w.CSIPlugins().List(nil)
	}, is([]*public.CSIPluginListStub{})),
	absent("GET /v1/plugin/csi/{id}", "plugin not found", func(w *world) error { return fails(w.CSIPlugins().Info("p", nil)) }),
}

// The pools and the namespace that every cluster has.
var (
	poolAll          = &public.NodePool{Name: "all", Description: "Every node.", CreateIndex: 1, ModifyIndex: 1}
	poolDefault      = &public.NodePool{Name: "default", Description: "Nodes that name no other pool.", CreateIndex: 1, ModifyIndex: 1}
	namespaceDefault = &public.Namespace{Name: "default", Description: "Default shared namespace", CreateIndex: 1, ModifyIndex: 1}
)
