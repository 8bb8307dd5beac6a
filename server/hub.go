package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/brumehq/brume/gossip"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
	"github.com/brumehq/brume/server/planner"
	"github.com/brumehq/brume/server/state"
)

// Hub is a running hub. HTTP routes and link routes are its methods; they read h.store and write through h.apply.
type Hub struct {
	cfg     Config // complete: no name or address is empty
	log     *slog.Logger
	stop    context.CancelCauseFunc // ends Run with an error
	dir     *dataDir
	key     *identity.Key
	creds   *identity.Credentials
	cluster *identity.ClusterKey

	store *state.Store
	fsm   *fsm
	raft  *raft.Raft

	links   *links                          // live links of agents, by node
	reports *reports                        // statuses on their way into Raft
	pool    atomic.Pointer[gossip.Pool]     // nil until the gossip key is known
	planner atomic.Pointer[planner.Planner] // nil while this hub does not lead

	addrs   Addrs // as bound; Gossip is set by startGossip, the others before anything is served
	public  Addrs // as others reach them
	fresh   bool  // the data directory held no cluster when the hub started
	started time.Time
	caught  chan struct{} // closed when the state was first as new as the log
	closers []closer      // undone last to first
}

// closer undoes one step of starting.
type closer struct {
	what string
	undo func() error
}

func (h *Hub) onClose(what string, undo func() error) {
	h.closers = append(h.closers, closer{what, undo})
}

// close undoes what was started, last to first, and joins what went wrong.
func (h *Hub) close() error {
	var errs []error
	for len(h.closers) > 0 {
		c := h.closers[len(h.closers)-1]
		h.closers = h.closers[:len(h.closers)-1]
		if err := c.undo(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.what, err))
		}
	}
	return errors.Join(errs...)
}

// Run runs a hub until ctx ends (then it returns nil) or something stops it, and has ended all that it started when it
// returns. A directory without a cluster is an error that says what to do, unless cfg asks for one to be made.
func Run(ctx context.Context, cfg Config) error { return newHub(cfg).run(ctx) }

func newHub(cfg Config) *Hub {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{
		cfg: cfg, log: cfg.Log, store: state.New(), links: newLinks(), started: time.Now(), caught: make(chan struct{}),
	}
}

func (h *Hub) run(ctx context.Context) error {
	if err := h.cfg.Validate(); err != nil {
		return err
	}
	ctx, h.stop = context.WithCancelCause(ctx)
	defer h.stop(nil)
	h.fsm = newFSM(h.store, h.stop)
	err := h.work(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = cause
	}
	return errors.Join(err, h.close())
}

// work starts everything in order and returns when all of it has ended; close does the rest.
func (h *Hub) work(ctx context.Context) error {
	if err := h.open(); err != nil {
		return err
	}
	rpc, err := h.listen(&h.addrs.RPC, h.cfg.RPC)
	if err != nil {
		return fmt.Errorf("RPC address: %w", err)
	}
	web, err := h.listen(&h.addrs.HTTP, h.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("HTTP address: %w", err)
	}
	h.public = Addrs{HTTP: publicAddr(h.addrs.HTTP), RPC: publicAddr(h.addrs.RPC)}
	if err := h.loadIdentity(); err != nil {
		return err
	}
	h.reports = newReports(h)
	stream := newRaftStream(rpcAddr(h.public.RPC), h.dialHub)
	mux := link.Listen(rpc, h.creds.ServerConfig(), h.log.With("component", "link"))
	mux.Handle(link.ALPNRaft, stream.serve)
	mux.Handle(link.ALPNAgent, h.serveAgent)
	mux.Handle(link.ALPNJoin, h.serveJoin)

	disk, err := h.openDisk()
	if err != nil {
		return err
	}
	leading := make(chan bool, 16) // Raft blocks on it only if the leader's loops take many terms to end
	if err := h.startRaft(disk, stream, leading); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.lead(ctx, leading) })
	g.Go(func() error { return mux.Serve(ctx) })
	g.Go(func() error { return h.keepSnapshots(ctx) })
	g.Go(func() error { return h.reports.run(ctx) })
	g.Go(func() error { return h.serve(ctx, g, web) })
	return g.Wait()
}

// serve waits for the state to be as new as the log, then opens what needs it: gossip, certificates, HTTP.
func (h *Hub) serve(ctx context.Context, g *errgroup.Group, web net.Listener) error {
	meta, ok := h.catchUp(ctx)
	if !ok {
		return nil
	}
	keys, err := h.keys(meta)
	if err != nil {
		return err
	}
	if err := h.certify(); err != nil {
		return err
	}
	if err := h.startGossip(keys.Gossip); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	if err := h.remember(); err != nil {
		return err
	}
	close(h.caught)
	g.Go(func() error { return h.watchMembers(ctx) })
	g.Go(func() error { return h.renew(ctx) })
	g.Go(func() error { return h.serveHTTP(ctx, web) })
	h.log.Info("hub serves", "http", h.addrs.HTTP, "rpc", h.addrs.RPC, "gossip", h.addrs.Gossip, "node", h.key.NodeID())
	if h.cfg.Ready != nil {
		h.cfg.Ready(h.public)
	}
	return nil
}

// catchUp waits until this hub has applied what its log held when a leader was first known, and returns what the state
// says of the cluster; ok is false when ctx ended first.
func (h *Hub) catchUp(ctx context.Context) (meta *state.Cluster, ok bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if h.applied() {
			if meta := h.store.Snapshot().Cluster(); meta != nil {
				return meta, true
			}
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-tick.C:
		}
	}
}

// applied reports whether the state holds all that is known to be committed.
func (h *Hub) applied() bool {
	if h.isLeader() {
		return h.raft.Barrier(0).Error() == nil
	}
	_, known := h.leader()
	return known && h.raft.AppliedIndex() >= h.raft.CommitIndex()
}

// awaitState holds a request of another machine back until the hub knows its cluster; false when ctx ended first.
func (h *Hub) awaitState(ctx context.Context) bool {
	select {
	case <-h.caught:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen binds one address and notes what was bound. A hub that ran before on a free port tries to get the same again.
func (h *Hub) listen(bound *string, addr string) (net.Listener, error) {
	open := h.cfg.Wires.Listen
	if open == nil {
		open = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	host, port := splitPort(addr)
	_, had := splitPort(*bound)
	var ln net.Listener
	err := errors.New("no earlier port")
	if port == 0 && had != 0 {
		ln, err = open(joinPort(host, had))
	}
	if err != nil {
		if ln, err = open(addr); err != nil {
			return nil, err
		}
	}
	*bound = ln.Addr().String()
	h.onClose("listener", func() error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return ln, nil
}

// dialHub opens a Raft connection to another hub.
func (h *Hub) dialHub(ctx context.Context, addr string) (net.Conn, error) {
	return link.DialTLS(ctx, addr, h.creds.ClientConfig(link.ALPNRaft), h.cfg.Wires.Dial)
}

// openDisk opens Raft's log and snapshots.
func (h *Hub) openDisk() (*RaftDisk, error) {
	if h.cfg.Wires.Disk != nil {
		return h.cfg.Wires.Disk, nil
	}
	disk, closeDisk, err := openRaftDisk(h.dir.file("raft"), newRaftLog(h.log))
	if err != nil {
		return nil, err
	}
	h.onClose("raft log", closeDisk)
	return disk, nil
}

// rpcAddr is an address as Raft's stream wants it.
type rpcAddr string

// Network names the transport.
func (rpcAddr) Network() string { return "tcp" }

// String is host:port.
func (a rpcAddr) String() string { return string(a) }

// hostName is the name of a hub that was given none.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		name = "hub"
	}
	return name
}
