package plugins

import "github.com/brumehq/brume/plugins/wire"

// The two directions of each conversion stand side by side; TestWireRoundTrip holds them together.

func (c *TaskConfig) toWire() *wire.TaskConfig {
	if c == nil {
		return nil
	}
	w := &wire.TaskConfig{
		Id: c.ID, Name: c.Name, MsgpackDriverConfig: c.DriverConfig, Env: c.Env, DeviceEnv: c.DeviceEnv,
		Resources: c.Resources.toWire(), User: c.User, AllocDir: c.AllocDir,
		StdoutPath: c.StdoutPath, StderrPath: c.StderrPath, TaskGroupName: c.GroupName, JobName: c.JobName,
		AllocId: c.AllocID, NetworkIsolationSpec: c.Network.toWire(), JobId: c.JobID, Namespace: c.Namespace,
		NodeName: c.NodeName, NodeId: c.NodeID, ParentJobId: c.ParentJobID,
	}
	for _, m := range c.Mounts {
		w.Mounts = append(w.Mounts, &wire.Mount{
			TaskPath: m.TaskPath, HostPath: m.HostPath, Readonly: m.ReadOnly, PropagationMode: m.Propagation,
			SelinuxLabel: m.SELinuxLabel, RequestName: m.RequestName,
		})
	}
	for _, d := range c.Devices {
		w.Devices = append(w.Devices, &wire.Device{
			TaskPath: d.TaskPath, HostPath: d.HostPath, CgroupPermissions: d.Permissions,
		})
	}
	if d := c.DNS; d != nil {
		w.Dns = &wire.DNSConfig{Servers: d.Servers, Searches: d.Searches, Options: d.Options}
	}
	return w
}

func taskConfigFromWire(w *wire.TaskConfig) *TaskConfig {
	if w == nil {
		return nil
	}
	c := &TaskConfig{
		ID: w.GetId(), Name: w.GetName(), DriverConfig: w.GetMsgpackDriverConfig(), Env: w.GetEnv(),
		DeviceEnv: w.GetDeviceEnv(), Resources: resourcesFromWire(w.GetResources()), User: w.GetUser(),
		AllocDir: w.GetAllocDir(), StdoutPath: w.GetStdoutPath(), StderrPath: w.GetStderrPath(),
		GroupName: w.GetTaskGroupName(), JobName: w.GetJobName(), AllocID: w.GetAllocId(),
		Network: networkFromWire(w.GetNetworkIsolationSpec()), JobID: w.GetJobId(), Namespace: w.GetNamespace(),
		NodeName: w.GetNodeName(), NodeID: w.GetNodeId(), ParentJobID: w.GetParentJobId(),
	}
	for _, m := range w.GetMounts() {
		c.Mounts = append(c.Mounts, Mount{
			TaskPath: m.GetTaskPath(), HostPath: m.GetHostPath(), ReadOnly: m.GetReadonly(),
			Propagation: m.GetPropagationMode(), SELinuxLabel: m.GetSelinuxLabel(), RequestName: m.GetRequestName(),
		})
	}
	for _, d := range w.GetDevices() {
		c.Devices = append(c.Devices, Device{d.GetTaskPath(), d.GetHostPath(), d.GetCgroupPermissions()})
	}
	if d := w.GetDns(); d != nil {
		c.DNS = &DNS{Servers: d.GetServers(), Searches: d.GetSearches(), Options: d.GetOptions()}
	}
	return c
}

// toWire fills all three messages of resources: plugins read them without asking whether they are there.
func (r *Resources) toWire() *wire.Resources {
	allocated := &wire.AllocatedTaskResources{
		Cpu:    &wire.AllocatedCpu{CpuShares: r.CPUShares},
		Memory: &wire.AllocatedMemory{MemoryMb: r.MemoryMB, MemoryMaxMb: r.MemoryMaxMB},
	}
	for _, n := range r.Networks {
		allocated.Networks = append(allocated.Networks, &wire.NetworkResource{
			Device: n.Device, Cidr: n.CIDR, Ip: n.IP, Mbits: int32(n.MBits),
			ReservedPorts: portsToWire(n.ReservedPorts), DynamicPorts: portsToWire(n.DynamicPorts),
		})
	}
	w := &wire.Resources{
		AllocatedResources: allocated,
		LinuxResources: &wire.LinuxResources{
			CpuShares: r.CPUShares, MemoryLimitBytes: max(r.MemoryMB, r.MemoryMaxMB) << 20, OomScoreAdj: r.OOMScoreAdj,
			CpusetCpus: r.CPUSet, PercentTicks: r.PercentTicks, CpusetCgroup: r.CPUSetCgroup,
		},
		Ports: []*wire.PortMapping{},
	}
	for _, p := range r.Ports {
		w.Ports = append(w.Ports, &wire.PortMapping{
			Label: p.Label, Value: int32(p.Value), To: int32(p.To), HostIp: p.HostIP,
		})
	}
	return w
}

func resourcesFromWire(w *wire.Resources) Resources {
	a, l := w.GetAllocatedResources(), w.GetLinuxResources()
	r := Resources{
		CPUShares: a.GetCpu().GetCpuShares(), MemoryMB: a.GetMemory().GetMemoryMb(),
		MemoryMaxMB: a.GetMemory().GetMemoryMaxMb(), PercentTicks: l.GetPercentTicks(), CPUSet: l.GetCpusetCpus(),
		CPUSetCgroup: l.GetCpusetCgroup(), OOMScoreAdj: l.GetOomScoreAdj(),
	}
	for _, n := range a.GetNetworks() {
		r.Networks = append(r.Networks, Network{
			Device: n.GetDevice(), CIDR: n.GetCidr(), IP: n.GetIp(), MBits: int(n.GetMbits()),
			ReservedPorts: portsFromWire(n.GetReservedPorts()), DynamicPorts: portsFromWire(n.GetDynamicPorts()),
		})
	}
	for _, p := range w.GetPorts() {
		r.Ports = append(r.Ports, PortMapping{p.GetLabel(), int(p.GetValue()), int(p.GetTo()), p.GetHostIp()})
	}
	return r
}

func portsToWire(ports []Port) []*wire.NetworkPort {
	var w []*wire.NetworkPort
	for _, p := range ports {
		w = append(w, &wire.NetworkPort{Label: p.Label, Value: int32(p.Value)})
	}
	return w
}

func portsFromWire(w []*wire.NetworkPort) []Port {
	var ports []Port
	for _, p := range w {
		ports = append(ports, Port{p.GetLabel(), int(p.GetValue())})
	}
	return ports
}

func (n *NetworkIsolation) toWire() *wire.NetworkIsolationSpec {
	if n == nil {
		return nil
	}
	w := &wire.NetworkIsolationSpec{Mode: wire.NetworkMode(n.Mode), Path: n.Path, Labels: n.Labels}
	if n.Hostname != "" || n.Address != "" {
		w.HostsConfig = &wire.HostsConfig{Hostname: n.Hostname, Address: n.Address}
	}
	return w
}

func networkFromWire(w *wire.NetworkIsolationSpec) *NetworkIsolation {
	if w == nil {
		return nil
	}
	return &NetworkIsolation{
		Mode: NetworkMode(w.GetMode()), Path: w.GetPath(), Labels: w.GetLabels(),
		Hostname: w.GetHostsConfig().GetHostname(), Address: w.GetHostsConfig().GetAddress(),
	}
}

func (h *TaskHandle) toWire() *wire.TaskHandle {
	if h == nil {
		return nil
	}
	return &wire.TaskHandle{
		Version: int32(h.Version), Config: h.Config.toWire(), State: wire.TaskState(h.State), DriverState: h.DriverState,
	}
}

func handleFromWire(w *wire.TaskHandle) *TaskHandle {
	if w == nil {
		return nil
	}
	return &TaskHandle{
		Version: int(w.GetVersion()), Config: taskConfigFromWire(w.GetConfig()), State: TaskState(w.GetState()),
		DriverState: w.GetDriverState(),
	}
}

func (o *NetworkOverride) toWire() *wire.NetworkOverride {
	if o == nil {
		return nil
	}
	w := &wire.NetworkOverride{Addr: o.Addr, AutoAdvertise: o.AutoAdvertise}
	for label, port := range o.PortMap {
		if w.PortMap == nil {
			w.PortMap = make(map[string]int32, len(o.PortMap))
		}
		w.PortMap[label] = int32(port)
	}
	return w
}

func overrideFromWire(w *wire.NetworkOverride) *NetworkOverride {
	if w == nil {
		return nil
	}
	o := &NetworkOverride{Addr: w.GetAddr(), AutoAdvertise: w.GetAutoAdvertise()}
	for label, port := range w.GetPortMap() {
		if o.PortMap == nil {
			o.PortMap = make(map[string]int, len(w.GetPortMap()))
		}
		o.PortMap[label] = int(port)
	}
	return o
}
