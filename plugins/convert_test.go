package plugins

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brumehq/brume/plugins/wire"
)

// fullTask has something in each field: TestWireRoundTrip checks that it has.
func fullTask() *TaskConfig {
	return &TaskConfig{
		ID: "a/web/1", Name: "web", DriverConfig: []byte{0x80}, Env: map[string]string{"A": "1"},
		DeviceEnv: map[string]string{"B": "2"},
		Resources: Resources{
			CPUShares: 500, MemoryMB: 256, MemoryMaxMB: 512, PercentTicks: 0.25, CPUSet: "0-1", CPUSetCgroup: "/x", OOMScoreAdj: 5,
			Networks: []Network{{
				Device: "eth0", CIDR: "10.0.0.1/24", IP: "10.0.0.1", MBits: 10,
				ReservedPorts: []Port{{"a", 80}}, DynamicPorts: []Port{{"b", 20000}},
			}},
			Ports: []PortMapping{{"http", 20000, 80, "10.0.0.1"}},
		},
		Mounts:   []Mount{{"/data", "/srv", true, "private", "z", "vol"}},
		Devices:  []Device{{"/dev/a", "/dev/b", "rwm"}},
		User:     "nobody",
		Network:  &NetworkIsolation{NetworkGroup, "/var/run/netns/x", map[string]string{"l": "m"}, "host", "10.0.0.2"},
		DNS:      &DNS{[]string{"1.1.1.1"}, []string{"local"}, []string{"ndots:1"}},
		AllocDir: "/alloc", StdoutPath: "/out", StderrPath: "/err",
		GroupName: "group", JobName: "job", JobID: "job-1", ParentJobID: "job-0", AllocID: "a",
		Namespace: "default", NodeName: "node", NodeID: "n",
	}
}

func fullUsage() Usage {
	u := Usage{Time: time.Unix(1, 2).UTC()}
	v := reflect.ValueOf(&u).Elem()
	for _, part := range []string{"CPU", "Memory"} {
		p := v.FieldByName(part)
		for _, f := range p.Fields() {
			f.Set(reflect.New(f.Type().Elem()))
		}
	}
	one := u
	one.Time = time.Time{}
	u.ByPID = map[string]Usage{"1": one}
	return u
}

// equal compares what travels: empty and absent are the same, and so is what is not a number.
func equal(a, b any) bool { return cmp.Equal(a, b, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()) }

// full fails if a field of v is zero.
func full(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch {
	case v.IsZero():
		t.Errorf("%s is not set: the test does not test it", path)
	case v.Kind() == reflect.Pointer:
		full(t, path, v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			full(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			full(t, path, v.Index(i))
		}
	}
}

func TestWireRoundTrip(t *testing.T) {
	task := fullTask()
	full(t, "task", reflect.ValueOf(task))
	exit := ExitResult{7, 9, true}
	status := &TaskStatus{
		"id", "name", TaskStateExited, time.Unix(1, 2).UTC(), time.Unix(3, 4).UTC(), &exit, map[string]string{"a": "b"},
		&NetworkOverride{map[string]int{"http": 80}, "10.0.0.1", true},
	}
	full(t, "status", reflect.ValueOf(status))
	caps := Capabilities{true, true, FSIsolationImage, []NetworkMode{NetworkHost, NetworkNone}, true, true, true, true}
	host := HostConfig{20000, 32000, Topology{
		[]uint32{0, 1}, [][]uint32{{10, 20}, {20, 10}}, []Core{{1, 2, 3, true, true, 4, 5, 6}}, 7, 8,
	}}
	event := TaskEvent{"id", "alloc", "task", time.Unix(1, 0).UTC(), "hello", map[string]string{"a": "b"}}
	handle := &TaskHandle{1, task, TaskStateRunning, []byte{1}}
	for name, pair := range map[string][2]any{
		"task":         {task, taskConfigFromWire(task.toWire())},
		"handle":       {handle, handleFromWire(handle.toWire())},
		"status":       {status, statusFromWire(status.toWire())},
		"capabilities": {caps, capabilitiesFromWire(caps.toWire())},
		"host":         {host, hostFromWire(host.toWire())},
		"event":        {event, eventFromWire(event.toWire())},
		"usage":        {fullUsage(), usageFromWire(fullUsage().toWire())},
		"no task":      {(*TaskConfig)(nil), taskConfigFromWire((*TaskConfig)(nil).toWire())},
		"no override":  {(*NetworkOverride)(nil), overrideFromWire((*NetworkOverride)(nil).toWire())},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
				t.Errorf("(-sent +came):\n%s", diff)
			}
		})
	}
}

func TestResourcesAreNeverAbsent(t *testing.T) {
	w := (&TaskConfig{}).toWire().GetResources()
	if w.GetAllocatedResources().GetCpu() == nil || w.GetAllocatedResources().GetMemory() == nil || w.GetLinuxResources() == nil || w.Ports == nil {
		t.Errorf("resources %v: plugins read them without asking", w)
	}
	if h := (HostConfig{}).toWire().GetDriver().GetTopology(); h == nil || h.GetDistances() == nil {
		t.Errorf("topology %v: plugins read it without asking", h)
	}
}

func TestHostileFingerprint(t *testing.T) {
	w := &wire.FingerprintResponse{Attributes: map[string]*wire.Attribute{}, Health: 99, HealthDescription: strings.Repeat("x", 1<<20)}
	for i := range 10 * maxAttributes {
		w.Attributes[strings.Repeat("k", i%100)+string(rune('a'+i%26))+strings.Repeat("y", i/26)] = &wire.Attribute{
			Value: &wire.Attribute_StringVal{StringVal: strings.Repeat("v", 10*maxAttributeBytes)},
		}
	}
	f := fingerprintFromWire(w)
	if len(f.Attributes) != maxAttributes || f.Health != Unhealthy || len(f.Description) > maxErrorText+8 {
		t.Errorf("%d attributes, health %v, %d bytes of description", len(f.Attributes), f.Health, len(f.Description))
	}
	for k, v := range f.Attributes {
		if len(k) > maxAttributeBytes+8 || len(v) > maxAttributeBytes+8 {
			t.Fatalf("attribute of %d and %d bytes", len(k), len(v))
		}
	}
}

func TestAttributesBecomeText(t *testing.T) {
	for want, a := range map[string]*wire.Attribute{
		"":        nil,
		"true":    {Value: &wire.Attribute_BoolVal{BoolVal: true}},
		"16 GiB":  {Value: &wire.Attribute_IntVal{IntVal: 16}, Unit: "GiB"},
		"1.5 GHz": {Value: &wire.Attribute_FloatVal{FloatVal: 1.5}, Unit: "GHz"},
		"+Inf":    {Value: &wire.Attribute_FloatVal{FloatVal: math.Inf(1)}},
		"text":    {Value: &wire.Attribute_StringVal{StringVal: "text"}},
	} {
		if got := attributeText(a); got != want {
			t.Errorf("attributeText(%v) = %q, want %q", a, got, want)
		}
	}
}

func TestTimesOfOthers(t *testing.T) {
	for name, w := range map[string]*timestamppb.Timestamp{
		"none": nil, "the zero time": timestamppb.New(time.Time{}), "nonsense": {Seconds: math.MaxInt64, Nanos: -1},
	} {
		if got := timeFromWire(w); !got.IsZero() {
			t.Errorf("%s is %v, want zero", name, got)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]int{"SIGTERM": 15, "term": 15, "sigint": 2, "9": 9, "SIGNOT": 0, "": 0, "0": 0, "65": 0, "-1": 0} {
		if got, err := ParseSignal(name); int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("ParseSignal(%q) = %v, %v, want %d", name, got, err, want)
		}
	}
}
