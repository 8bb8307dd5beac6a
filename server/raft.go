package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/planner"
	"github.com/brumehq/brume/server/state"
)

const (
	raftTimeout      = 300 * time.Millisecond // heartbeat and election; 150 ms loses leadership under load
	raftLease        = 150 * time.Millisecond
	raftIOTimeout    = 10 * time.Second
	raftTrailingLogs = 1024     // kept behind a snapshot for followers that are a little late
	raftCache        = 512      // entries; with entries of 512 KiB at most 256 MiB
	walSegment       = 16 << 20 // bytes, allocated ahead
	keptSnapshots    = 2
	maxEntry         = 4 << 20 // bytes; the hub's own are below 512 KiB, a user's job may be larger
)

// openRaftDisk opens the log and the snapshots below dir.
func openRaftDisk(dir string, log *raftLog) (disk *RaftDisk, closeDisk func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	w, err := openLog(dir, log)
	if err != nil {
		return nil, nil, fmt.Errorf("raft log in %s: %w", dir, err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, log.Named("snapshot"))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("raft snapshots: %w", err), w.Close())
	}
	return &RaftDisk{Logs: w, Stable: w, Snapshots: snaps}, w.Close, nil
}

// openLog opens the log. What it keeps its own state in panics, or faults on its memory map, where that file is damaged;
// that is an error here, so that the operator reads which directory it is about.
func openLog(dir string, log *raftLog) (w *wal.WAL, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged: %v", r)
		}
	}()
	return wal.Open(dir, wal.WithSegmentSize(walSegment), wal.WithLogger(log.Named("wal")))
}

// raftConfig tunes Raft for entries of up to 512 KiB; snapshots are asked for by the hub, by bytes of log.
func raftConfig(id string, log *raftLog) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.Logger = log
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = raftTimeout, raftTimeout, raftLease
	c.MaxAppendEntries = 64
	c.BatchApplyCh = true
	c.TrailingLogs = raftTrailingLogs
	c.SnapshotThreshold, c.SnapshotInterval = math.MaxUint64, time.Hour
	c.NoLegacyTelemetry = true
	return c
}

// startRaft starts Raft over the stream. A hub that is the only voter elects itself at once instead of waiting for a
// leader that cannot be.
func (h *Hub) startRaft(disk *RaftDisk, stream *raftStream, lead chan<- bool) error {
	log := newRaftLog(h.log)
	cfg := raftConfig(h.key.NodeID(), log)
	cfg.NotifyCh = lead
	logs, err := raft.NewLogCache(raftCache, disk.Logs)
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: log, Stream: stream, MaxPool: 3, Timeout: raftIOTimeout,
	})
	if err := h.bootstrap(disk, trans, cfg); err != nil {
		return errors.Join(err, trans.Close())
	}
	h.raft, err = raft.NewRaft(cfg, h.fsm, logs, disk.Stable, disk.Snapshots, trans)
	if err != nil {
		return errors.Join(fmt.Errorf("raft: %w", err), trans.Close())
	}
	h.onClose("raft", func() error {
		err := h.raft.Shutdown().Error()
		trans.CloseStreams()
		return errors.Join(err, trans.Close())
	})
	servers := h.raft.GetConfiguration().Configuration().Servers
	if len(servers) == 1 && servers[0].ID == cfg.LocalID {
		var reply raft.TimeoutNowResponse
		req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: cfg.ProtocolVersion, ID: []byte(cfg.LocalID), Addr: []byte(stream.Addr().String()),
		}}
		if err := trans.TimeoutNow(cfg.LocalID, raft.ServerAddress(stream.Addr().String()), &req, &reply); err != nil {
			h.log.Warn("hasten first election", "err", err)
		}
	}
	return nil
}

// keepSnapshots takes a snapshot whenever enough log was applied.
func (h *Hub) keepSnapshots(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.fsm.snapshot:
			start := time.Now()
			if err := h.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
				h.log.Warn("take snapshot", "err", err)
				continue
			}
			h.log.Info("snapshot taken", "index", h.store.Snapshot().Index(), "took", time.Since(start))
		}
	}
}

// apply commits a command and waits until this hub's state has it; result is what the state says of it. It fails with
// api.ErrNoLeader where this hub does not lead (then forward), and with the command's own error (api.ErrConflict, …).
func (h *Hub) apply(ctx context.Context, cmd state.Command) (index uint64, result any, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	p, err := h.propose(cmd)
	if err != nil {
		return 0, nil, err
	}
	return p.wait()
}

// writeVersion is the version of commands that every voter reads; until all have said, the lowest one.
func (h *Hub) writeVersion() uint8 {
	var ids []string
	for _, v := range h.voters() {
		ids = append(ids, string(v.ID))
	}
	if v, ok := h.store.Snapshot().CommandVersion(ids); ok {
		return v
	}
	return state.MinVersion
}

// proposal is an entry on its way through Raft.
type proposal struct {
	future  raft.ApplyFuture
	cmd     state.Command
	planner *planner.Planner // of the term that it is proposed in; nil: none
}

// propose stamps a command with time and randomness and gives it to Raft. Entries are applied in the order of propose
// calls.
func (h *Hub) propose(cmd state.Command) (proposal, error) {
	header := state.Header{Version: h.writeVersion(), Time: time.Now().UnixNano()}
	rand.Read(header.Seed[:])
	entry, err := state.Encode(header, cmd)
	if err != nil {
		return proposal{}, fmt.Errorf("encode %T: %w", cmd, err)
	}
	if len(entry) > maxEntry {
		return proposal{}, api.E(api.ErrInvalid, fmt.Sprintf("it takes %d bytes in the log: at most %d", len(entry), maxEntry))
	}
	return proposal{h.raft.Apply(entry, 0), cmd, h.planner.Load()}, nil
}

// wait is outcome, and tells the planner of what was committed.
func (p proposal) wait() (index uint64, result any, err error) {
	index, result, err = p.outcome()
	if err == nil && p.planner != nil {
		p.planner.Committed(p.cmd, result)
	}
	return index, result, err
}

// outcome returns the entry's index and what the state says of it. An error of kind api.ErrNoLeader leaves open whether the
// next leader will commit the entry.
func (p proposal) outcome() (index uint64, result any, err error) {
	if err := p.future.Error(); err != nil {
		return 0, nil, noLeader(err)
	}
	o, ok := p.future.Response().(state.Outcome)
	if !ok {
		return 0, nil, fmt.Errorf("raft answered %T", p.future.Response())
	}
	return p.future.Index(), o.Result, o.Err
}

// noLeader gives Raft's refusals their kind.
func noLeader(err error) error {
	for _, e := range []error{raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress, raft.ErrRaftShutdown} {
		if errors.Is(err, e) {
			return api.E(api.ErrNoLeader, api.ErrNoLeader.Error())
		}
	}
	return fmt.Errorf("raft: %w", err)
}

// isLeader reports whether this hub takes writes.
func (h *Hub) isLeader() bool { return h.raft.State() == raft.Leader }

// leader returns the leader's RPC address; known is false while there is none.
func (h *Hub) leader() (rpcAddr string, known bool) {
	addr, id := h.raft.LeaderWithID()
	if string(id) == h.key.NodeID() {
		return h.public.RPC, true // Raft may remember an address of an earlier start
	}
	return string(addr), addr != ""
}

// lastContact is how long ago this hub heard of the leader: 0 on the leader.
func (h *Hub) lastContact() time.Duration {
	if h.isLeader() {
		return 0
	}
	if last := h.raft.LastContact(); !last.IsZero() {
		return time.Since(last)
	}
	return time.Since(h.started)
}

// peers returns the RPC addresses of the Raft voters, sorted.
func (h *Hub) peers() []string {
	var addrs []string
	for _, s := range h.voters() {
		if string(s.ID) == h.key.NodeID() {
			addrs = append(addrs, h.public.RPC)
			continue
		}
		addrs = append(addrs, string(s.Address))
	}
	slices.Sort(addrs)
	return addrs
}

func (h *Hub) voters() []raft.Server {
	servers := h.raft.GetConfiguration().Configuration().Servers
	servers = slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool { return s.Suffrage != raft.Voter })
	slices.SortFunc(servers, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	return servers
}
