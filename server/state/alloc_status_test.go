package state

import (
	"bytes"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// oneAlloc is a history with one allocation.
func oneAlloc(t *testing.T) (*history, ID) {
	h := newHistory(t)
	nodes := h.addNodes(1)
	h.register(apitest.Job(t))
	g := h.place(h.job(), nodes...)
	h.do(Plan{Place: []PlaceGroup{g}})
	return h, g.Rows[0].ID
}

func report(h *history, statuses ...*api.AllocStatus) []*Row {
	h.t.Helper()
	return h.do(AllocStatuses{Statuses: statuses}).([]*Row)
}

func TestStatusIsKeptWhole(t *testing.T) {
	h, id := oneAlloc(t)
	good := true
	s := ended(id, testStart, 137)
	s.ClientDescription, s.Healthy = "all tasks ended", &good
	s.TaskStates["odd"] = &api.TaskState{State: api.TaskStateDead, Failed: true, Restarts: 7, LastRestart: timeOf(testStart + 1),
		Events: []*api.TaskEvent{{Type: "Some Plugin's Own", Time: testStart, DisplayMessage: "d", Message: "m", FailsTask: true, ExitCode: -5_000_000_000,
			Signal: -1, OOMKilled: true, KillTimeout: 5, RestartReason: "r", DriverError: "e", KillReason: "k", StartDelay: 6,
			Details: map[string]string{"z": "1", "a": "2", "m": ""}}}}
	want := maps.Clone(s.TaskStates)
	if changed := report(h, s); len(changed) != 1 || changed[0] != h.snap().Row(id) {
		t.Errorf("changed %v, want the row as it is now", changed)
	}
	a := h.snap().Alloc(id.String())
	if diff := cmp.Diff(want, a.TaskStates); diff != "" {
		t.Errorf("task states (-reported +kept):\n%s", diff)
	}
	if a.ClientStatus != api.AllocClientFailed || a.ClientDescription != "all tasks ended" {
		t.Errorf("client status %s, %q", a.ClientStatus, a.ClientDescription)
	}
	now := h.snap().Index()
	if d := a.DeploymentStatus; d == nil || !*d.Healthy || d.ModifyIndex != now || !d.Timestamp.Equal(timeOf(testStart+int64(now)*1e9)) {
		t.Errorf("deployment status %+v", d)
	}
	if a.ModifyIndex != now || a.AllocModifyIndex == now || a.ModifyTime != testStart+int64(now)*1e9 {
		t.Errorf("modify index %d, alloc modify index %d of %d", a.ModifyIndex, a.AllocModifyIndex, now)
	}
	if at := h.snap().Row(id).FinishedAt(); at != testStart {
		t.Errorf("finished at %d, want %d", at, int64(testStart))
	}
}

func TestStatusRules(t *testing.T) {
	t.Run("an unknown allocation is passed over", func(t *testing.T) {
		h, _ := oneAlloc(t)
		if changed := report(h, running(testID("stranger", 0), testStart)); len(changed) != 0 {
			t.Errorf("changed %d", len(changed))
		}
	})
	t.Run("the same report changes nothing", func(t *testing.T) {
		h, id := oneAlloc(t)
		report(h, running(id, testStart))
		at := h.snap().TableIndex(Allocs)
		if changed := report(h, running(id, testStart)); len(changed) != 0 || h.snap().TableIndex(Allocs) != at {
			t.Errorf("changed %d, table index %d, was %d", len(changed), h.snap().TableIndex(Allocs), at)
		}
	})
	t.Run("a final status stays, the true exit code arrives", func(t *testing.T) {
		h, id := oneAlloc(t)
		h.do(Plan{Stop: []Stop{{ID: id, Description: "its node is down", ClientStatus: api.AllocClientLost}}})
		report(h, ended(id, testStart, 3))
		a := h.snap().Alloc(id.String())
		events := a.TaskStates[apitest.TaskName].Events
		if a.ClientStatus != api.AllocClientLost || events[len(events)-1].ExitCode != 3 {
			t.Errorf("client status %s, last event %+v", a.ClientStatus, events[len(events)-1])
		}
		report(h, running(id, testStart))
		if s := h.snap().Row(id).ClientStatus(); s != api.AllocClientLost {
			t.Errorf("a lost allocation became %s", s)
		}
	})
	t.Run("a report without health or tasks keeps them", func(t *testing.T) {
		h, id := oneAlloc(t)
		s := running(id, testStart)
		bad := false
		s.Healthy = &bad
		report(h, s)
		report(h, &api.AllocStatus{ID: id.String(), ClientStatus: api.AllocClientUnknown})
		a := h.snap().Alloc(id.String())
		if a.ClientStatus != api.AllocClientUnknown || len(a.TaskStates) != 1 || a.DeploymentStatus == nil || *a.DeploymentStatus.Healthy {
			t.Errorf("%s, %d tasks, %+v", a.ClientStatus, len(a.TaskStates), a.DeploymentStatus)
		}
	})
	t.Run("the last ten events are kept", func(t *testing.T) {
		h, id := oneAlloc(t)
		s := running(id, testStart)
		task := s.TaskStates[apitest.TaskName]
		for i := range 20 {
			task.Events = append(task.Events, &api.TaskEvent{Type: api.TaskRestarting, Time: testStart + int64(i)})
		}
		report(h, s)
		if diff := cmp.Diff(task.Events[13:], h.snap().Alloc(id.String()).TaskStates[apitest.TaskName].Events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestStatusOnABase writes only what is new, with the same outcome, whatever is applied in between.
func TestStatusOnABase(t *testing.T) {
	for _, between := range []bool{false, true} {
		h, id := oneAlloc(t)
		report(h, running(id, testStart))
		base := h.snap()
		last := ended(id, testStart+5e9, 0)
		whole, err := Encode(Header{}, AllocStatuses{Statuses: []*api.AllocStatus{last}})
		if err != nil {
			t.Fatal(err)
		}
		delta := h.encode(AllocStatuses{Statuses: []*api.AllocStatus{last}, Base: base})
		if len(delta.Data) >= len(whole) {
			t.Errorf("the delta has %d bytes, the whole %d", len(delta.Data), len(whole))
		}
		if between {
			report(h, last)
		}
		if _, err := h.store.Apply(delta.Index, delta.Data); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(last.TaskStates, h.snap().Alloc(id.String()).TaskStates); diff != "" {
			t.Errorf("reported in between: %t: task states (-want +got):\n%s", between, diff)
		}
	}
}

// TestReportsOnAnyBase writes a task's growing history on bases of any age and keeps what whole reports keep.
func TestReportsOnAnyBase(t *testing.T) {
	h, _ := oneAlloc(t)
	file := persisted(t, h.snap())
	var id ID
	for r := range h.snap().Rows("") {
		id = r.ID()
	}
	rapid.Check(t, func(rt *rapid.T) {
		whole, onBase := New(), New()
		for _, s := range []*Store{whole, onBase} {
			if err := s.Restore(bytes.NewReader(file)); err != nil {
				rt.Fatal(err)
			}
		}
		bases := []*Snapshot{onBase.Snapshot()}
		task := api.TaskState{State: api.TaskStatePending}
		now := int64(testStart)
		for index := range uint64(rapid.IntRange(1, 12).Draw(rt, "reports")) {
			for range rapid.IntRange(0, 4).Draw(rt, "events") {
				now += rapid.Int64Range(0, 3).Draw(rt, "later") // some at the same time
				e := &api.TaskEvent{Type: pick(rt, "type", []string{api.TaskStarted, api.TaskTerminated, "odd"}), Time: now, ExitCode: rapid.IntRange(0, 1).Draw(rt, "exit")}
				task.Events = append(task.Events, e)
				switch e.Type {
				case api.TaskStarted:
					task.State, task.StartedAt, task.FinishedAt = api.TaskStateRunning, timeOf(now+1), timeOf(0)
				case api.TaskTerminated:
					task.State, task.FinishedAt, task.Failed = api.TaskStateDead, timeOf(now+2), e.ExitCode != 0
				default:
					task.Restarts++
					task.LastRestart = timeOf(now)
				}
			}
			task.Events = task.Events[max(0, len(task.Events)-maxEvents):]
			reported := task
			s := &api.AllocStatus{ID: id.String(), ClientStatus: api.AllocClientRunning, TaskStates: map[string]*api.TaskState{apitest.TaskName: &reported}}
			for store, base := range map[*Store]*Snapshot{whole: nil, onBase: pick(rt, "base", bases)} {
				data, err := Encode(Header{Time: now}, AllocStatuses{Statuses: []*api.AllocStatus{s}, Base: base})
				if err != nil {
					rt.Fatal(err)
				}
				if _, err := store.Apply(100+index, data); err != nil {
					rt.Fatal(err)
				}
			}
			bases = append(bases, onBase.Snapshot())
			want, got := whole.Snapshot().Alloc(id.String()), onBase.Snapshot().Alloc(id.String())
			if diff := cmp.Diff(want.TaskStates, got.TaskStates); diff != "" {
				rt.Fatalf("report %d (-whole +on a base):\n%s", index, diff)
			}
		}
	})
}
