package taskenv

import (
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/brumehq/brume/api"
)

// Params is what an environment is computed from.
type Params struct {
	Node   *api.Node
	Region string
	Alloc  *api.Allocation // with its Job
	Group  *api.Group
	Task   *api.Task
	Dirs   Dirs
	Host   map[string]string // of the agent's own environment, see HostEnv; nil for drivers that run images
}

// Dirs are an allocation's directories as the task sees them.
type Dirs struct{ Alloc, Task, Secrets string }

// Env is the surroundings of one task.
type Env struct {
	env   map[string]string // what the task's process gets
	facts map[string]string // attr.…, meta.… and node.…, for interpolation only
}

// New computes the surroundings of a task. Values of meta and env may refer to everything but to each other.
func New(p Params) *Env {
	e := &Env{env: make(map[string]string), facts: facts(p.Node, p.Region)}
	maps.Copy(e.env, p.Host)
	e.identify(p)
	e.limits(p)
	e.ports(p.Alloc.AllocatedResources)
	base := e.clone()
	for k, v := range mergedMeta(p) {
		v = base.Replace(v)
		e.set("META_"+clean(k), v)
		e.set("META_"+strings.ToUpper(clean(k)), v)
	}
	base = e.clone()
	for k, v := range p.Task.Env {
		e.env[base.Replace(k)] = base.Replace(v)
	}
	return e
}

// Map returns a copy of the environment of the task's process.
func (e *Env) Map() map[string]string { return maps.Clone(e.env) }

// Vars returns a copy of everything that ${...} may name: environment, attributes, metadata and node.
func (e *Env) Vars() map[string]string {
	all := maps.Clone(e.facts)
	maps.Copy(all, e.env)
	return all
}

var reference = regexp.MustCompile(`\$\{\s*([^{}]+?)\s*\}`)

// Replace puts values in the place of ${name} and ${env["NAME"]}. What it does not know stays as it is written.
func (e *Env) Replace(s string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if v, ok := e.lookup(reference.FindStringSubmatch(ref)[1]); ok {
			return v
		}
		return ref
	})
}

func (e *Env) lookup(name string) (string, bool) {
	if v, ok := e.env[name]; ok {
		return v, true
	}
	if v, ok := e.facts[name]; ok {
		return v, true
	}
	if key, ok := strings.CutPrefix(name, "env."); ok {
		v, ok := e.env[key]
		return v, ok
	}
	if key, ok := strings.CutPrefix(name, `env["`); ok {
		if key, ok = strings.CutSuffix(key, `"]`); ok {
			v, ok := e.env[key]
			return v, ok
		}
	}
	return "", false
}

func (e *Env) clone() *Env { return &Env{env: maps.Clone(e.env), facts: e.facts} }

func (e *Env) set(name, value string) { e.env[api.EnvPrefix+name] = value }

func (e *Env) identify(p Params) {
	a, j := p.Alloc, p.Alloc.Job
	e.set("ALLOC_ID", a.ID)
	e.set("SHORT_ALLOC_ID", a.ID[:min(8, len(a.ID))])
	e.set("ALLOC_NAME", a.Name)
	e.set("ALLOC_INDEX", index(a.Name))
	e.set("GROUP_NAME", p.Group.Name)
	e.set("TASK_NAME", p.Task.Name)
	e.set("JOB_ID", j.ID)
	e.set("JOB_NAME", j.Name)
	if j.ParentID != "" {
		e.set("JOB_PARENT_ID", j.ParentID)
	}
	e.set("NAMESPACE", a.Namespace)
	e.set("DC", p.Node.Datacenter)
	e.set("REGION", p.Region)
	e.set("ALLOC_DIR", p.Dirs.Alloc)
	e.set("TASK_DIR", p.Dirs.Task)
	e.set("SECRETS_DIR", p.Dirs.Secrets)
}

func (e *Env) limits(p Params) {
	if p.Alloc.AllocatedResources == nil {
		return
	}
	r := p.Alloc.AllocatedResources.Tasks[p.Task.Name]
	if r == nil {
		return
	}
	e.set("CPU_LIMIT", strconv.FormatInt(r.Cpu.CpuShares, 10))
	e.set("MEMORY_LIMIT", strconv.FormatInt(r.Memory.MemoryMB, 10))
	if r.Memory.MemoryMaxMB > 0 {
		e.set("MEMORY_MAX_LIMIT", strconv.FormatInt(r.Memory.MemoryMaxMB, 10))
	}
}

// ports names each port three ways: PORT_ is where the task itself listens, HOST_… what others reach, ALLOC_… the
// address inside the allocation's network, which is the node's own as long as there is only mode "host".
func (e *Env) ports(r *api.AllocatedResources) {
	if r == nil {
		return
	}
	for _, p := range r.Shared.Ports {
		label, host := clean(p.Label), strconv.Itoa(p.Value)
		inside := host
		if p.To > 0 {
			inside = strconv.Itoa(p.To)
		}
		e.set("IP_"+label, p.HostIP)
		e.set("PORT_"+label, inside)
		e.set("ADDR_"+label, net.JoinHostPort(p.HostIP, host))
		e.set("HOST_IP_"+label, p.HostIP)
		e.set("HOST_PORT_"+label, host)
		e.set("HOST_ADDR_"+label, net.JoinHostPort(p.HostIP, host))
		e.set("ALLOC_IP_"+label, p.HostIP)
		e.set("ALLOC_PORT_"+label, inside)
		e.set("ALLOC_ADDR_"+label, net.JoinHostPort(p.HostIP, inside))
	}
}

// HostEnv picks from an environment ("NAME=value") what tasks that run on the host's own file system may see: never a
// token, and nothing of the agent's user when the task runs as another.
func HostEnv(environ []string, user string) map[string]string {
	allowed := map[string]bool{"PATH": true, "LANG": true, "TZ": true, "SHELL": true}
	if user == "" {
		for _, name := range []string{"HOME", "USER", "LOGNAME"} {
			allowed[name] = true
		}
	}
	out := make(map[string]string)
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && (allowed[name] || strings.HasPrefix(name, "LC_")) {
			out[name] = value
		}
	}
	return out
}

// facts are the names of a node's properties, as job files write them.
func facts(n *api.Node, region string) map[string]string {
	f := map[string]string{
		"node.unique.id":   n.ID,
		"node.unique.name": n.Name,
		"node.class":       n.NodeClass,
		"node.pool":        n.NodePool,
		"node.datacenter":  n.Datacenter,
		"node.region":      region,
	}
	for k, v := range n.Attributes {
		f["attr."+k] = v
	}
	for k, v := range n.Meta {
		f["meta."+k] = v
	}
	return f
}

func mergedMeta(p Params) map[string]string {
	m := make(map[string]string)
	maps.Copy(m, p.Alloc.Job.Meta)
	maps.Copy(m, p.Group.Meta)
	maps.Copy(m, p.Task.Meta)
	return m
}

// index is the number in an allocation's name "job.group[3]".
func index(name string) string {
	open := strings.LastIndexByte(name, '[')
	if open < 0 || !strings.HasSuffix(name, "]") {
		return ""
	}
	return name[open+1 : len(name)-1]
}

// clean makes a name fit for an environment variable.
func clean(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
