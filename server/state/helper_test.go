package state

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

const testStart = 1_700_000_000_000_000_000

// history is a store and the log that made it.
type history struct {
	t       testing.TB
	store   *Store
	entries []Entry
}

func newHistory(t testing.TB) *history { return &history{t: t, store: New()} }

// encode makes the next entry: a second passes between entries, and seeds follow from the index.
func (h *history) encode(c Command) Entry {
	h.t.Helper()
	index := uint64(len(h.entries) + 1)
	header := Header{Time: testStart + int64(index)*1e9}
	binary.BigEndian.PutUint64(header.Seed[:], index)
	data, err := Encode(header, c)
	if err != nil {
		h.t.Fatalf("Encode(%T): %v", c, err)
	}
	e := Entry{index, data}
	h.entries = append(h.entries, e)
	return e
}

func (h *history) try(c Command) (any, error) {
	h.t.Helper()
	e := h.encode(c)
	return h.store.Apply(e.Index, e.Data)
}

// do applies a command that must not be refused.
func (h *history) do(c Command) any {
	h.t.Helper()
	out, err := h.try(c)
	if err != nil {
		h.t.Fatalf("Apply(%T): %v", c, err)
	}
	return out
}

func (h *history) snap() *Snapshot { return h.store.Snapshot() }

// register registers a job with a pending evaluation of id "eval-<index>".
func (h *history) register(j *api.Job) Registered {
	h.t.Helper()
	return h.do(RegisterJob{Job: j, Eval: h.newEval()}).(Registered)
}

func (h *history) newEval() *api.Evaluation {
	return &api.Evaluation{ID: fmt.Sprintf("eval-%d", len(h.entries)+1), Status: api.EvalStatusPending, TriggeredBy: api.EvalTriggerJobRegister}
}

// addNodes registers n ready nodes and returns their ordinals.
func (h *history) addNodes(n int) []uint32 {
	h.t.Helper()
	ordinals := make([]uint32, n)
	for i := range ordinals {
		node := apitest.Node(h.t)
		node.ID, node.Name = testID("node", i).String(), fmt.Sprintf("n%d", i)
		ordinals[i] = h.do(PutNode{node}).(NodeResult).Ordinal
	}
	return ordinals
}

// place makes placements of a job's first group: one for each node given.
func (h *history) place(j *api.Job, ordinals ...uint32) PlaceGroup {
	g := PlaceGroup{Job: RefOf(j), Group: j.TaskGroups[0].Name, EvalID: "eval-1"}
	for i, node := range ordinals {
		g.Rows = append(g.Rows, Placement{ID: testID(j.ID, len(h.entries)*10000+i), Index: i, Node: node, Ports: testPorts(j, i)})
	}
	return g
}

func testPorts(j *api.Job, i int) (ports []uint16) {
	for _, n := range j.TaskGroups[0].Networks {
		for k := range len(n.ReservedPorts) + len(n.DynamicPorts) {
			ports = append(ports, uint16(api.MinDynamicPort+(i*7+k)%10000))
		}
	}
	return ports
}

// testID is the same id for the same arguments, spread like random ones.
func testID(kind string, n int) ID {
	r := rand.NewPCG(uint64(n), uint64(len(kind))<<32|uint64(kind[0]))
	var id ID
	binary.BigEndian.PutUint64(id[:], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// running is a report that an allocation's one task runs, as an agent makes it.
func running(id ID, at int64) *api.AllocStatus {
	return &api.AllocStatus{ID: id.String(), ClientStatus: api.AllocClientRunning, Time: at, TaskStates: map[string]*api.TaskState{
		apitest.TaskName: {State: api.TaskStateRunning, StartedAt: timeOf(at), Events: []*api.TaskEvent{
			{Type: api.TaskReceived, Time: at - 90_123_456, DisplayMessage: "the node has it"},
			{Type: api.TaskSetup, Time: at - 80_654_321, DisplayMessage: "directories are made"},
			{Type: api.TaskStarted, Time: at, DisplayMessage: "started"},
		}},
	}}
}

// ended is a report that it ended with an exit code.
func ended(id ID, at int64, code int) *api.AllocStatus {
	s := running(id, at-5e9)
	task := s.TaskStates[apitest.TaskName]
	task.State, task.FinishedAt, task.Failed = api.TaskStateDead, timeOf(at), code != 0
	task.Events = append(task.Events, &api.TaskEvent{Type: api.TaskTerminated, Time: at, ExitCode: code, DisplayMessage: "ended"})
	s.ClientStatus = api.AllocClientComplete
	if code != 0 {
		s.ClientStatus = api.AllocClientFailed
	}
	return s
}
