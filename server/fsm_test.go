package server

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

func putEntry(t *testing.T, index uint64, cmd state.Command) *raft.Log {
	t.Helper()
	data, err := state.Encode(state.Header{Time: time.Unix(1, 0).UnixNano()}, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: data}
}

func TestSnapshotIsDueAfterBytesOfLog(t *testing.T) {
	f := newFSM(state.New(), func(err error) { t.Errorf("stopped: %v", err) })
	l := putEntry(t, 1, state.PutNode{Node: testNode("00000000-0000-8000-8000-000000000001", "n1")})
	f.unsaved = snapshotBytes - len(l.Data) - 1
	f.Apply(l)
	if len(f.snapshot) != 0 {
		t.Error("a snapshot is due one byte too early")
	}
	f.Apply(putEntry(t, 2, state.NodeStatus{}))
	if len(f.snapshot) != 1 {
		t.Error("no snapshot is due")
	}
}

// Entries of Raft's own have no answer, and do not shift those of others.
func TestBatchAnswersEachEntry(t *testing.T) {
	f := newFSM(state.New(), func(err error) { t.Errorf("stopped: %v", err) })
	out := f.ApplyBatch([]*raft.Log{
		{Index: 1, Type: raft.LogConfiguration},
		putEntry(t, 2, state.PutNode{Node: testNode("00000000-0000-8000-8000-000000000001", "n1")}),
		{Index: 3, Type: raft.LogConfiguration},
		putEntry(t, 4, state.DeregisterJob{Namespace: "default", ID: "none"}),
	})
	if len(out) != 4 || out[0] != nil || out[2] != nil {
		t.Fatalf("answers %v", out)
	}
	if o := out[1].(state.Outcome); o.Err != nil || !o.Result.(state.NodeResult).Changed {
		t.Errorf("node: %+v", o)
	}
	if o := out[3].(state.Outcome); o.Err == nil {
		t.Error("a job that does not exist was stopped")
	}
}

// After an entry that cannot be read nothing is applied, and no snapshot hides that.
func TestNothingFollowsAnUnreadableEntry(t *testing.T) {
	stopped := 0
	f := newFSM(state.New(), func(error) { stopped++ })
	f.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: []byte("not a command at all, but long enough")})
	out := f.Apply(putEntry(t, 2, state.PutNode{Node: testNode("00000000-0000-8000-8000-000000000001", "n1")})).(state.Outcome)
	if stopped != 1 || out.Err == nil {
		t.Errorf("stopped %d times, next entry: %v", stopped, out.Err)
	}
	if _, err := f.Snapshot(); err == nil {
		t.Error("a snapshot was taken")
	}
	if n := f.store.Snapshot().Node("00000000-0000-8000-8000-000000000001"); n != nil {
		t.Error("the entry after it was applied")
	}
}

func FuzzStatusReport(f *testing.F) {
	f.Add([]byte(`{"Allocs":[{"ID":"00000000-0000-4000-8000-000000000001","ClientStatus":"running","TaskStates":{"t":{"State":"running","Events":[{"Type":"Started"}]}}}]}`))
	f.Add([]byte(`{"Allocs":[null,{"TaskStates":{"t":null}},{"TaskStates":{"t":{"Events":[null]}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r api.StatusReport
		if json.Unmarshal(body, &r) != nil {
			return
		}
		for _, s := range r.Allocs {
			if s == nil {
				continue
			}
			textOf(s)
			if entry, err := state.Encode(state.Header{}, state.AllocStatuses{Statuses: []*api.AllocStatus{s}}); err == nil {
				if _, err := state.New().Apply(1, entry); err != nil {
					t.Errorf("what was written cannot be read: %v", err)
				}
			}
		}
	})
}
