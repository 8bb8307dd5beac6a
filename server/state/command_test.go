package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tinylib/msgp/msgp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestUnreadableEntries(t *testing.T) {
	good, err := Encode(Header{Time: testStart}, PutEvals{[]*api.Evaluation{{ID: "e"}}})
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for _, tc := range []struct {
		rule, want string
		entry      []byte
	}{
		{"a newer version", "command version 2, this hub knows 1 to 1", change(0, 2)},
		{"a version before the first", "command version 0, this hub knows 1 to 1", change(0, 0)},
		{"an unknown command", "unknown command 200", change(1, 200)},
		{"no entry", "it has only 0 bytes", nil},
		{"a cut off entry", "it ends too early", good[:len(good)-1]},
		{"bytes left over", "1 bytes are left over", append(slices.Clip(good), 0)},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			h := newHistory(t)
			h.do(PutEvals{[]*api.Evaluation{{ID: "before"}}})
			before := h.snap()
			out := h.store.ApplyBatch([]Entry{{7, tc.entry}, {8, good}})
			u := (*UnsupportedError)(nil)
			if !errors.As(out[0].Err, &u) || !strings.HasPrefix(u.Error(), "log entry 7 cannot be read by this hub: ") || !strings.HasSuffix(u.Error(), tc.want) {
				t.Fatalf("error %v, want %q", out[0].Err, tc.want)
			}
			if !errors.Is(out[1].Err, out[0].Err) {
				t.Errorf("the entry after it: %v", out[1].Err)
			}
			if after := h.snap(); after.Index() != before.Index() || after.Eval("e") != nil {
				t.Errorf("the state went on to index %d", after.Index())
			}
		})
	}
}

func TestEncodeWritesAVersionThatItKnows(t *testing.T) {
	for _, v := range []uint8{Version + 1, 255} {
		if _, err := Encode(Header{Version: v}, GC{}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("version %d: %v, want invalid", v, err)
		}
	}
}

// fill sets every field of a value, as deep as it goes, to something else than its zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(*n), int64(*n)).UTC()))
			return
		}
		for _, field := range v.Fields() {
			fill(field, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, k := range []string{"b", "a"} {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(e, n)
			v.SetMapIndex(reflect.ValueOf(k), e)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(map[string]any{"z": []any{int64(*n), "text", true, nil, 1.5}, "y": map[string]any{}}))
	case reflect.String:
		v.SetString(strings.Repeat("x", *n%7+1))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*n) / 3)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n) * 1_000_003)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	default:
		panic(v.Type().String())
	}
}

// TestEveryFieldIsReplicated fails when a field was added to the model and api/model_gen.go was not made anew.
func TestEveryFieldIsReplicated(t *testing.T) {
	type object interface {
		msgp.Marshaler
		msgp.Unmarshaler
	}
	for _, tc := range []struct{ in, out object }{
		{new(api.Job), new(api.Job)}, {new(api.Node), new(api.Node)}, {new(api.Evaluation), new(api.Evaluation)},
		{new(api.AllocMetric), new(api.AllocMetric)}, {new(api.JoinToken), new(api.JoinToken)},
	} {
		n := 0
		fill(reflect.ValueOf(tc.in).Elem(), &n)
		var e encoder
		if err := e.object(tc.in); err != nil {
			t.Fatalf("%T: %v", tc.in, err)
		}
		first := string(e.buf)
		d := newDecoder(e.appendTo(nil), 0)
		d.object(tc.out)
		if err := d.end(); err != nil {
			t.Fatalf("%T: %v", tc.in, err)
		}
		if diff := cmp.Diff(tc.in, tc.out); diff != "" {
			t.Errorf("%T: not all is replicated; go generate ./api? (-in +out):\n%s", tc.in, diff)
		}
		e.reset(0)
		if err := e.object(tc.out); err != nil || string(e.buf) != first {
			t.Errorf("%T: equal objects have different bytes (%v)", tc.in, err)
		}
	}
}

// hostile claims far more elements than it has.
func hostile() map[string][]byte {
	huge := binary.AppendUvarint(nil, 1<<62)
	entry := func(k kind, body ...byte) []byte {
		b := make([]byte, headerSize)
		b[0], b[1] = Version, byte(k)
		return append(b, body...)
	}
	job := func(raw []byte) []byte {
		body := append([]byte{0, 0, 0}, binary.AppendUvarint(nil, uint64(len(raw)))...)
		return entry(kindRegisterJob, append(append(body, raw...), 0)...)
	}
	array := append(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "TaskGroups"), 0xdd, 0xff, 0xff, 0xff, 0xff)
	config := append(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "Meta"), 0xdf, 0xff, 0xff, 0xff, 0xff)
	deep := msgp.AppendString(msgp.AppendMapHeader(nil, 1), "Unknown")
	for range 100_000 {
		deep = msgp.AppendArrayHeader(deep, 1)
	}
	return map[string][]byte{
		"texts":              entry(kindPlan, huge...),
		"placements":         entry(kindPlan, append([]byte{0}, huge...)...),
		"statuses":           entry(kindAllocStatuses, append([]byte{0}, huge...)...),
		"ids":                entry(kindStopAllocs, append([]byte{0}, huge...)...),
		"an array in a job":  job(array),
		"a map in a job":     job(config),
		"a job nested deep":  job(append(deep, 0xc0)),
		"a length of a text": entry(kindPlan, append([]byte{1}, huge...)...),
	}
}

func TestHostileLengthsAllocateNothing(t *testing.T) {
	for rule, entry := range hostile() {
		t.Run(rule, func(t *testing.T) {
			s := New()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.Apply(1, entry)
			runtime.ReadMemStats(&after)
			if u := (*UnsupportedError)(nil); !errors.As(err, &u) {
				t.Errorf("error %v, want unsupported", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes of entry made %d bytes of heap", len(entry), got)
			}
		})
	}
}

// everyCommand is one good command of each kind.
func everyCommand(t testing.TB) []Command {
	id := testID("alloc", 1)
	hash := make([]byte, 32)
	eval := func() []*api.Evaluation {
		return []*api.Evaluation{{ID: "e", JobID: apitest.JobID, Namespace: "default", Status: api.EvalStatusPending}}
	}
	ref := JobRef{"default", apitest.JobID, 1, 0}
	s := ended(id, testStart, 300)
	s.TaskStates["t"] = &api.TaskState{State: api.TaskStateDead, Events: []*api.TaskEvent{{Type: "odd", Details: map[string]string{"a": "b"}}}}
	return []Command{
		RegisterJob{Job: apitest.Job(t, apitest.Ports("http")), Eval: eval()[0]}, PutNode{apitest.Node(t)},
		Plan{Place: []PlaceGroup{{Job: ref, Group: apitest.GroupName, EvalID: "e", Metric: &api.AllocMetric{}, Rows: []Placement{
			{ID: id, Node: 1, Ports: []uint16{20000}},
			{ID: testID("alloc", 2), Index: 1, Node: 1, Ports: []uint16{20001}, Previous: id, Tracker: &api.RescheduleTracker{Events: []*api.RescheduleEvent{{PrevAllocID: id.String()}}}}}}},
			Stop: []Stop{{ID: id, Description: "d", ClientStatus: api.AllocClientLost}}, InPlace: []InPlace{{Job: ref, IDs: []ID{id}}},
			Wait: []Wait{{ID: id, FollowUp: "e"}}, Evals: eval()},
		AllocStatuses{Statuses: []*api.AllocStatus{s, running(id, testStart)}, Evals: eval()}, StopAllocs{IDs: []ID{id}, Evals: eval()},
		NodeStatus{IDs: []string{"a", "b"}, Status: api.NodeStatusDown, Description: "d", Evals: eval()}, PutEvals{eval()},
		GC{Evals: []string{"e"}, Allocs: []ID{id}, Jobs: []JobName{{"default", apitest.JobID}}, JoinTokens: []string{"t"}},
		PutJoinToken{&api.JoinToken{ID: "t", Uses: 1, Expires: testStart * 2, SecretHash: hash}}, UseJoinToken{ID: "t", Role: "agent", SecretHash: hash},
		PutToken{Token: Token{AccessorID: "a", SecretHash: hash}, Bootstrap: true}, ClusterMeta{Cluster{ID: "c", CACert: hash}},
		HubVersions{ID: "h", Name: "n", Min: 1, Max: 1}, DeleteNodes{IDs: []string{"a"}, Evals: eval()},
		DeregisterJob{Namespace: "default", ID: apitest.JobID, Eval: eval()[0]},
	}
}

func TestEveryKindHasACommand(t *testing.T) {
	seen := map[kind]bool{}
	for _, c := range everyCommand(t) {
		seen[c.kind()] = true
	}
	for k := range 256 {
		known := decodeCommand(kind(k), newDecoder(nil, 0)) != nil
		if known != seen[kind(k)] {
			t.Errorf("kind %d: decoded %t, written by one of these tests %t", k, known, seen[kind(k)])
		}
	}
}

// FuzzApply applies any bytes to a state that knows what they may name. Nothing may panic, and what was applied must
// be there again after a restore.
func FuzzApply(f *testing.F) {
	for _, c := range everyCommand(f) {
		data, err := Encode(Header{Time: testStart}, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, b := range hostile() {
		if len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		h := newHistory(t)
		for _, c := range everyCommand(t)[:4] {
			h.do(c)
		}
		if _, err := h.store.Apply(99, entry); err != nil {
			return
		}
		view(h.snap())
		file := persisted(t, h.snap())
		again := New()
		if err := again.Restore(bytes.NewReader(file)); err != nil {
			t.Fatalf("a state that was applied cannot be restored: %v", err)
		}
		if string(persisted(t, again.Snapshot())) != string(file) {
			t.Fatal("a restored state differs")
		}
	})
}
