package api

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// Unbuilt is a field of the vocabulary of job files that is known and not built yet. Decoders refuse it with "not
// supported yet" unless its value says nothing: empty, or Default, which clients send when the user wrote nothing. When
// a field is built its line here goes.
type Unbuilt struct {
	Field   string // Go name and JSON key; "" if job files alone know it
	HCL     string // name in job files; "" if JSON alone knows it
	Block   bool   // in job files it is a block, always refused there
	Default string // JSON text of the value that changes nothing; "" for none but empty values
}

// Accepts reports whether a value, in JSON, changes nothing: it is empty or the default.
func (u Unbuilt) Accepts(value []byte) bool {
	switch string(value) {
	case "false", "0", `""`, "[]", "{}", u.Default:
		return true
	}
	got := significant(value)
	return got == nil || u.Default != "" && reflect.DeepEqual(got, significant([]byte(u.Default)))
}

// significant decodes a JSON value without what is empty in it; nil when nothing is left.
func significant(raw []byte) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(raw) // no JSON: surely something
	}
	return prune(v)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e = prune(e); e == nil {
				delete(v, k)
			} else {
				v[k] = e
			}
		}
		if len(v) > 0 {
			return v
		}
	case []any:
		if len(v) > 0 {
			return v
		}
	case string:
		if v != "" {
			return v
		}
	case json.Number:
		if f, err := v.Float64(); err != nil || f != 0 {
			return v
		}
	case bool:
		if v {
			return v
		}
	}
	return nil
}

// UnbuiltIn returns the unbuilt fields of a model struct, nil for a type that has none.
func UnbuiltIn(t reflect.Type) []Unbuilt { return unbuilt[t] }

const (
	defaultMigrate = `{"MaxParallel":1,"HealthCheck":"checks","MinHealthyTime":10000000000,"HealthyDeadline":300000000000}`
	defaultOnCheck = `"require_healthy"`
)

// unbuilt is fixed: what the model knows by name only.
var unbuilt = map[reflect.Type][]Unbuilt{
	reflect.TypeFor[Job](): {
		{Field: "AllAtOnce", HCL: "all_at_once"},
		{Field: "Affinities", HCL: "affinity", Block: true},
		{Field: "Spreads", HCL: "spread", Block: true},
		{Field: "Migrate", HCL: "migrate", Block: true, Default: defaultMigrate},
		{Field: "Periodic", HCL: "periodic", Block: true},
		{Field: "ParameterizedJob", HCL: "parameterized", Block: true},
		{Field: "Multiregion", HCL: "multiregion", Block: true},
		{Field: "UI", HCL: "ui", Block: true},
		{HCL: "vault", Block: true},
		{HCL: "secret", Block: true},
		{HCL: "consul", Block: true},
		{Field: "ConsulNamespace", HCL: "consul_namespace"},
		{Field: "VaultNamespace", HCL: "vault_namespace"},
		{HCL: "consul_token"},
		{HCL: "vault_token"},
		{Field: "Dispatched"},
		{Field: "Payload"},
		{Field: "VersionTag"},
	},
	reflect.TypeFor[Group](): {
		{Field: "Affinities", HCL: "affinity", Block: true},
		{Field: "Spreads", HCL: "spread", Block: true},
		{Field: "Volumes", HCL: "volume", Block: true},
		{Field: "Migrate", HCL: "migrate", Block: true, Default: defaultMigrate},
		{Field: "Disconnect", HCL: "disconnect", Block: true, Default: `{"Replace":true,"Reconcile":"best_score"}`},
		{Field: "Scaling", HCL: "scaling", Block: true},
		{Field: "Consul", HCL: "consul", Block: true, Default: `{"Cluster":"default"}`},
		{HCL: "vault", Block: true},
		{HCL: "secret", Block: true},
		{Field: "MaxRunDuration", HCL: "max_run_duration"},
		{Field: "StopAfterClientDisconnect", HCL: "stop_after_client_disconnect"},
		{Field: "MaxClientDisconnect", HCL: "max_client_disconnect"},
		{Field: "PreventRescheduleOnLost", HCL: "prevent_reschedule_on_lost"},
	},
	reflect.TypeFor[Task](): {
		{Field: "Lifecycle", HCL: "lifecycle", Block: true},
		{Field: "Affinities", HCL: "affinity", Block: true},
		{Field: "Artifacts", HCL: "artifact", Block: true},
		{Field: "Templates", HCL: "template", Block: true},
		{Field: "VolumeMounts", HCL: "volume_mount", Block: true},
		{Field: "CSIPluginConfig", HCL: "csi_plugin", Block: true},
		{Field: "DispatchPayload", HCL: "dispatch_payload", Block: true},
		{Field: "Vault", HCL: "vault", Block: true},
		{Field: "Consul", HCL: "consul", Block: true, Default: `{"Cluster":"default"}`},
		{Field: "Identity", Default: `{"Name":"default","Audience":["nomadproject.io"]}`},
		{Field: "Identities", HCL: "identity", Block: true},
		{Field: "Secrets", HCL: "secret", Block: true},
		{Field: "Actions", HCL: "action", Block: true},
		{Field: "ScalingPolicies", HCL: "scaling", Block: true},
		{Field: "Schedule", HCL: "schedule", Block: true},
		{Field: "Kind", HCL: "kind"},
	},
	reflect.TypeFor[Resources](): {
		{Field: "Cores", HCL: "cores"},
		{Field: "MemoryMaxMB", HCL: "memory_max"},
		{Field: "DiskMB", HCL: "disk"},
		{Field: "IOPS", HCL: "iops"},
		{Field: "SecretsMB", HCL: "secrets"},
		{Field: "Devices", HCL: "device", Block: true},
		{Field: "NUMA", HCL: "numa", Block: true, Default: `{"Affinity":"none"}`},
		{Field: "Networks", HCL: "network", Block: true},
	},
	reflect.TypeFor[Network](): {
		{Field: "Hostname", HCL: "hostname"},
		{Field: "DNS", HCL: "dns", Block: true},
		{Field: "CNI", HCL: "cni", Block: true},
		{Field: "MBits", HCL: "mbits"},
		{Field: "Device", HCL: "device"},
		{Field: "CIDR", HCL: "cidr"},
		{Field: "IP", HCL: "ip"},
		{HCL: "reserved_ports", Block: true},
	},
	reflect.TypeFor[Port](): {
		{Field: "HostNetwork", HCL: "host_network", Default: `"default"`},
		{Field: "IgnoreCollision", HCL: "ignore_collision"},
	},
	reflect.TypeFor[Restart](): {
		{Field: "RenderTemplates", HCL: "render_templates"},
	},
	reflect.TypeFor[EphemeralDisk](): {
		{Field: "Sticky", HCL: "sticky"},
		{Field: "Migrate", HCL: "migrate"},
	},
	reflect.TypeFor[Update](): {
		{Field: "Stagger", HCL: "stagger", Default: `30000000000`},
		{Field: "HealthCheck", HCL: "health_check", Default: `"checks"`},
		{Field: "HealthyDeadline", HCL: "healthy_deadline", Default: `300000000000`},
		{Field: "ProgressDeadline", HCL: "progress_deadline", Default: `600000000000`},
		{Field: "Canary", HCL: "canary"},
		{Field: "AutoRevert", HCL: "auto_revert"},
		{Field: "AutoPromote", HCL: "auto_promote"},
	},
	reflect.TypeFor[Service](): {
		{Field: "CanaryTags", HCL: "canary_tags"},
		{Field: "CanaryMeta", HCL: "canary_meta", Block: true},
		{Field: "EnableTagOverride", HCL: "enable_tag_override"},
		{Field: "TaggedAddresses", HCL: "tagged_addresses", Block: true},
		{Field: "CheckRestart", HCL: "check_restart", Block: true},
		{Field: "Connect", HCL: "connect", Block: true},
		{Field: "Identity", HCL: "identity", Block: true},
		{Field: "Weights", HCL: "weights", Block: true, Default: `{"Passing":1,"Warning":1}`},
		{Field: "OnUpdate", HCL: "on_update", Default: defaultOnCheck},
		{Field: "Cluster", HCL: "cluster", Default: `"default"`},
		{Field: "Kind", HCL: "kind"},
	},
	reflect.TypeFor[ServiceCheck](): {
		{Field: "AddressMode", HCL: "address_mode"},
		{Field: "Advertise", HCL: "advertise"},
		{Field: "CheckRestart", HCL: "check_restart", Block: true},
		{Field: "Expose", HCL: "expose"},
		{Field: "FailuresBeforeCritical", HCL: "failures_before_critical"},
		{Field: "FailuresBeforeWarning", HCL: "failures_before_warning"},
		{Field: "GRPCService", HCL: "grpc_service"},
		{Field: "GRPCUseTLS", HCL: "grpc_use_tls"},
		{Field: "InitialStatus", HCL: "initial_status"},
		{Field: "Notes", HCL: "notes"},
		{Field: "OnUpdate", HCL: "on_update", Default: defaultOnCheck},
		{Field: "SuccessBeforePassing", HCL: "success_before_passing"},
		{Field: "TLSServerName", HCL: "tls_server_name"},
		{Field: "TLSSkipVerify", HCL: "tls_skip_verify"},
	},
}
