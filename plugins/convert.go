package plugins

import (
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brumehq/brume/plugins/wire"
)

func (c Capabilities) toWire() *wire.DriverCapabilities {
	w := &wire.DriverCapabilities{
		SendSignals: c.SendSignals, Exec: c.Exec, FsIsolation: wire.FSIsolation(c.FSIsolation),
		MustCreateNetwork: c.MakesNetwork, DisableLogCollection: c.CollectsLogs, DynamicWorkloadUsers: c.DynamicUserName,
	}
	if c.NoMounts {
		w.MountConfigs = wire.MountConfigs_MOUNT_CONFIGS_NONE
	}
	for _, m := range c.NetworkModes {
		w.NetworkIsolationModes = append(w.NetworkIsolationModes, wire.NetworkMode(m))
	}
	return w
}

func capabilitiesFromWire(w *wire.DriverCapabilities) Capabilities {
	c := Capabilities{
		SendSignals: w.GetSendSignals(), Exec: w.GetExec(), FSIsolation: FSIsolation(w.GetFsIsolation()),
		MakesNetwork: w.GetMustCreateNetwork(), NoMounts: w.GetMountConfigs() == wire.MountConfigs_MOUNT_CONFIGS_NONE,
		CollectsLogs: w.GetDisableLogCollection(), DynamicUserName: w.GetDynamicWorkloadUsers(),
	}
	for _, m := range w.GetNetworkIsolationModes() {
		c.NetworkModes = append(c.NetworkModes, NetworkMode(m))
	}
	return c
}

func (f Fingerprint) toWire() *wire.FingerprintResponse {
	w := &wire.FingerprintResponse{
		Attributes: make(map[string]*wire.Attribute, len(f.Attributes)), Health: wire.Health(f.Health),
		HealthDescription: f.Description,
	}
	for k, v := range f.Attributes {
		w.Attributes[k] = &wire.Attribute{Value: &wire.Attribute_StringVal{StringVal: v}}
	}
	if f.Err != nil {
		w.Health, w.Err = wire.Health_HEALTH_UNHEALTHY, f.Err.Error()
	}
	return w
}

// maxAttributes bounds what a plugin can put on a node, which is replicated to all hubs.
const (
	maxAttributes     = 512
	maxAttributeBytes = 1 << 10
)

func fingerprintFromWire(w *wire.FingerprintResponse) Fingerprint {
	f := Fingerprint{
		Attributes: make(map[string]string, min(len(w.GetAttributes()), maxAttributes)),
		Health:     Health(w.GetHealth()), Description: clip(w.GetHealthDescription(), maxErrorText),
	}
	for k, v := range w.GetAttributes() {
		if len(f.Attributes) == maxAttributes {
			break
		}
		if len(k) <= maxAttributeBytes {
			f.Attributes[clip(k, maxAttributeBytes)] = clip(attributeText(v), maxAttributeBytes)
		}
	}
	if f.Health < Undetected || f.Health > Healthy {
		f.Health = Unhealthy
	}
	if w.GetErr() != "" {
		f.Health, f.Err = Unhealthy, fromText(w.GetErr())
	}
	return f
}

// attributeText is an attribute as nodes keep it: value and unit.
func attributeText(a *wire.Attribute) string {
	var text string
	switch v := a.GetValue().(type) {
	case *wire.Attribute_BoolVal:
		text = strconv.FormatBool(v.BoolVal)
	case *wire.Attribute_IntVal:
		text = strconv.FormatInt(v.IntVal, 10)
	case *wire.Attribute_FloatVal:
		text = strconv.FormatFloat(v.FloatVal, 'g', -1, 64)
	case *wire.Attribute_StringVal:
		text = v.StringVal
	}
	if a.GetUnit() != "" {
		text += " " + a.GetUnit()
	}
	return text
}

func (r ExitResult) toWire() *wire.ExitResult {
	return &wire.ExitResult{ExitCode: int32(r.ExitCode), Signal: int32(r.Signal), OomKilled: r.OOMKilled}
}

func exitFromWire(w *wire.ExitResult) ExitResult {
	return ExitResult{ExitCode: int(w.GetExitCode()), Signal: int(w.GetSignal()), OOMKilled: w.GetOomKilled()}
}

func (s *TaskStatus) toWire() *wire.InspectTaskResponse {
	w := &wire.InspectTaskResponse{
		Task: &wire.TaskStatus{
			Id: s.ID, Name: s.Name, State: wire.TaskState(s.State),
			StartedAt: timestamppb.New(s.StartedAt), CompletedAt: timestamppb.New(s.CompletedAt),
		},
		Driver:          &wire.TaskDriverStatus{Attributes: s.Attributes},
		NetworkOverride: s.Network.toWire(),
	}
	if s.Exit != nil {
		w.Task.Result = s.Exit.toWire()
	}
	return w
}

func statusFromWire(w *wire.InspectTaskResponse) *TaskStatus {
	t := w.GetTask()
	s := &TaskStatus{
		ID: t.GetId(), Name: t.GetName(), State: TaskState(t.GetState()), StartedAt: timeFromWire(t.GetStartedAt()),
		CompletedAt: timeFromWire(t.GetCompletedAt()), Attributes: w.GetDriver().GetAttributes(),
		Network: overrideFromWire(w.GetNetworkOverride()),
	}
	if r := t.GetResult(); r != nil {
		exit := exitFromWire(r)
		s.Exit = &exit
	}
	return s
}

// timeFromWire gives the zero time for the zero time, which travels as the year 1, and for nonsense.
func timeFromWire(t *timestamppb.Timestamp) time.Time {
	if t == nil || t.CheckValid() != nil || t.AsTime().IsZero() {
		return time.Time{}
	}
	return t.AsTime()
}

func (e TaskEvent) toWire() *wire.DriverTaskEvent {
	return &wire.DriverTaskEvent{
		TaskId: e.TaskID, AllocId: e.AllocID, TaskName: e.TaskName, Timestamp: timestamppb.New(e.Time),
		Message: e.Message, Annotations: e.Annotations,
	}
}

func eventFromWire(w *wire.DriverTaskEvent) TaskEvent {
	return TaskEvent{
		TaskID: w.GetTaskId(), AllocID: w.GetAllocId(), TaskName: w.GetTaskName(), Time: timeFromWire(w.GetTimestamp()),
		Message: clip(w.GetMessage(), maxErrorText), Annotations: w.GetAnnotations(),
	}
}

func (h HostConfig) toWire() *wire.HostConfig {
	t := &wire.Topology{
		NodeIds: h.Topology.NodeIDs, Distances: &wire.TopologyDistances{Dimension: uint32(len(h.Topology.Distances))},
		OverrideTotalCompute: h.Topology.TotalCompute, OverrideWithheldCompute: h.Topology.WithheldCompute,
	}
	for _, row := range h.Topology.Distances {
		t.Distances.Values = append(t.Distances.Values, row...)
	}
	for _, c := range h.Topology.Cores {
		core := &wire.TopologyCore{
			SocketId: c.SocketID, NodeId: c.NodeID, CoreId: c.ID, Disable: c.Disabled,
			BaseSpeed: c.BaseMHz, MaxSpeed: c.MaxMHz, GuessSpeed: c.GuessedMHz,
		}
		if c.Efficiency {
			core.Grade = wire.CoreGrade_CORE_GRADE_EFFICIENCY
		}
		t.Cores = append(t.Cores, core)
	}
	return &wire.HostConfig{Driver: &wire.HostDriverConfig{
		MinPort: uint32(h.MinPort), MaxPort: uint32(h.MaxPort), Topology: t,
	}}
}

func hostFromWire(w *wire.HostConfig) HostConfig {
	d := w.GetDriver()
	t := d.GetTopology()
	h := HostConfig{MinPort: int(d.GetMinPort()), MaxPort: int(d.GetMaxPort()), Topology: Topology{
		NodeIDs: t.GetNodeIds(), TotalCompute: t.GetOverrideTotalCompute(), WithheldCompute: t.GetOverrideWithheldCompute(),
	}}
	values := t.GetDistances().GetValues()
	if n := int(t.GetDistances().GetDimension()); n > 0 && len(values)/n == n && len(values)%n == 0 {
		h.Topology.Distances = slices.Collect(slices.Chunk(values, n))
	}
	for _, c := range t.GetCores() {
		h.Topology.Cores = append(h.Topology.Cores, Core{
			ID: c.GetCoreId(), SocketID: c.GetSocketId(), NodeID: c.GetNodeId(), Disabled: c.GetDisable(),
			Efficiency: c.GetGrade() == wire.CoreGrade_CORE_GRADE_EFFICIENCY,
			BaseMHz:    c.GetBaseSpeed(), MaxMHz: c.GetMaxSpeed(), GuessedMHz: c.GetGuessSpeed(),
		})
	}
	return h
}
