package taskenv_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/agent/taskenv"
	"github.com/brumehq/brume/api"
)

// params returns a whole set of valid parameters.
func params() taskenv.Params {
	task := &api.Task{Name: "server", Meta: map[string]string{"tier": "front"}}
	group := &api.Group{Name: "api", Tasks: []*api.Task{task}, Meta: map[string]string{"tier": "group", "owner": "ops"}}
	job := &api.Job{ID: "web", Name: "web", Namespace: "default", TaskGroups: []*api.Group{group}, Meta: map[string]string{"owner": "job", "build-id": "7"}}
	return taskenv.Params{
		Node: &api.Node{
			ID: "5c2f7bd1-0000-8000-8000-000000000000", Name: "n1", Datacenter: "dc1", NodePool: "default", NodeClass: "big",
			Attributes: map[string]string{"kernel.name": "linux", "unique.hostname": "host1"}, Meta: map[string]string{"rack": "r7"},
		},
		Region: "global",
		Alloc: &api.Allocation{
			ID: "0b4ffd6e-8a1c-4d9a-9d6e-aaaaaaaaaaaa", Namespace: "default", Name: "web.api[3]", JobID: "web", Job: job, TaskGroup: "api",
			AllocatedResources: &api.AllocatedResources{
				Tasks: map[string]*api.AllocatedTaskResources{"server": {
					Cpu: api.AllocatedCPU{CpuShares: 250}, Memory: api.AllocatedMemory{MemoryMB: 64, MemoryMaxMB: 128}}},
				Shared: api.AllocatedSharedResources{Ports: []api.PortMapping{{Label: "http", Value: 21000, To: 8080, HostIP: "10.0.0.5"}}},
			},
		},
		Group: group, Task: task,
		Dirs: taskenv.Dirs{Alloc: "/d/alloc", Task: "/d/server/local", Secrets: "/d/server/secrets"},
	}
}

func TestNewTellsATaskWhoAndWhereItIs(t *testing.T) {
	got := taskenv.New(params()).Map()
	want := map[string]string{
		"NOMAD_ALLOC_ID": "0b4ffd6e-8a1c-4d9a-9d6e-aaaaaaaaaaaa", "NOMAD_SHORT_ALLOC_ID": "0b4ffd6e",
		"NOMAD_ALLOC_NAME": "web.api[3]", "NOMAD_ALLOC_INDEX": "3", "NOMAD_GROUP_NAME": "api", "NOMAD_TASK_NAME": "server",
		"NOMAD_JOB_ID": "web", "NOMAD_JOB_NAME": "web", "NOMAD_NAMESPACE": "default", "NOMAD_DC": "dc1", "NOMAD_REGION": "global",
		"NOMAD_CPU_LIMIT": "250", "NOMAD_MEMORY_LIMIT": "64", "NOMAD_MEMORY_MAX_LIMIT": "128",
		"NOMAD_ALLOC_DIR": "/d/alloc", "NOMAD_TASK_DIR": "/d/server/local", "NOMAD_SECRETS_DIR": "/d/server/secrets",
		"NOMAD_IP_http": "10.0.0.5", "NOMAD_PORT_http": "8080", "NOMAD_ADDR_http": "10.0.0.5:21000",
		"NOMAD_HOST_IP_http": "10.0.0.5", "NOMAD_HOST_PORT_http": "21000", "NOMAD_HOST_ADDR_http": "10.0.0.5:21000",
		"NOMAD_ALLOC_IP_http": "10.0.0.5", "NOMAD_ALLOC_PORT_http": "8080", "NOMAD_ALLOC_ADDR_http": "10.0.0.5:8080",
		"NOMAD_META_tier": "front", "NOMAD_META_TIER": "front", "NOMAD_META_owner": "ops", "NOMAD_META_OWNER": "ops",
		"NOMAD_META_build_id": "7", "NOMAD_META_BUILD_ID": "7",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestReplaceKnowsEveryScope(t *testing.T) {
	p := params()
	p.Host = map[string]string{"PATH": "/bin"}
	p.Task.Env = map[string]string{"MODE": "fast"}
	e := taskenv.New(p)
	for in, want := range map[string]string{
		"plain": "plain",
		"${attr.kernel.name}/${attr.unique.hostname}": "linux/host1",
		"${node.unique.id}":                           "5c2f7bd1-0000-8000-8000-000000000000",
		"${node.unique.name} ${node.class}":           "n1 big",
		"${node.pool} ${node.datacenter}":             "default dc1",
		"${node.region}":                              "global",
		"${meta.rack}":                                "r7",
		"${NOMAD_PORT_http}":                          "8080",
		"${ NOMAD_ALLOC_INDEX }":                      "3",
		"${env[\"PATH\"]} ${env.PATH} ${PATH}":        "/bin /bin /bin",
		"${MODE}":                                     "fast",
		"${NOMAD_META_TIER}":                          "front",
		"${attr.no.such}":                             "${attr.no.such}",
		"${unclosed":                                  "${unclosed",
		"$${NOMAD_DC}":                                "$dc1",
		"${attr.kernel.name":                          "${attr.kernel.name",
		"a${NOMAD_DC}b${NOMAD_REGION}c":               "adc1bglobalc",
	} {
		if got := e.Replace(in); got != want {
			t.Errorf("Replace(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTaskEnvAndMetaAreInterpolated(t *testing.T) {
	p := params()
	p.Task.Env = map[string]string{"LISTEN": ":${NOMAD_PORT_http}", "X_${node.class}": "${meta.rack}", "TIER": "${NOMAD_META_tier}"}
	p.Task.Meta = map[string]string{"tier": "${node.class}-${NOMAD_ALLOC_INDEX}"}
	got := taskenv.New(p).Map()
	for name, want := range map[string]string{"LISTEN": ":8080", "X_big": "r7", "TIER": "big-3", "NOMAD_META_TIER": "big-3"} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
}

func TestJobEnvOverridesTheHosts(t *testing.T) {
	p := params()
	p.Host = map[string]string{"LANG": "C", "PATH": "/bin"}
	p.Task.Env = map[string]string{"PATH": "/opt/bin:${PATH}"}
	if got := taskenv.New(p).Map()["PATH"]; got != "/opt/bin:/bin" {
		t.Errorf("PATH = %q, want /opt/bin:/bin", got)
	}
}

func TestHostEnvPassesNoSecretOn(t *testing.T) {
	environ := []string{"PATH=/bin", "HOME=/root", "LC_ALL=C", "LANG=C", "BRUME_TOKEN=s", "BRUME_JOIN_TOKEN=s", "NOMAD_TOKEN=s", "AWS_SECRET_ACCESS_KEY=s", "bad"}
	for _, tt := range []struct {
		name, user string
		want       map[string]string
	}{
		{"the agent's own user", "", map[string]string{"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "LANG": "C"}},
		{"another user has another home", "nobody", map[string]string{"PATH": "/bin", "LC_ALL": "C", "LANG": "C"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, taskenv.HostEnv(environ, tt.user)); diff != "" {
				t.Errorf("HostEnv (-want +got):\n%s", diff)
			}
		})
	}
}
