package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/identity"
)

const (
	flushTimeout = time.Second     // for the last statuses, at a clean stop
	askTimeout   = 3 * time.Second // for a leaf to learn the hubs from a member

	firstGossip = "0.0.0.0:4648" // where a node gossips that was never told
)

// Run runs an agent until ctx ends, and returns when all that it started in this process has ended. Tasks, and the
// processes that keep them, go on unless cfg.StopTasks is set; where no task is left those processes end too.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg = cfg.complete()
	if err := cfg.Validate(); err != nil {
		return err
	}
	d, err := newDirs(cfg)
	if err != nil {
		return err
	}
	db, err := localdb.Open(d.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key, err := identity.LoadOrCreateKey(d.key())
	if err != nil {
		return err
	}
	known, err := loadMembers(d.members(), cfg.Log)
	if err != nil {
		return err
	}
	a := &agent{cfg: cfg, dirs: d, db: db, key: key, members: known}
	if d.sockets != "" {
		defer func() {
			if a.ending() {
				err = errors.Join(err, os.RemoveAll(d.sockets))
			}
		}()
	}
	if err := a.run(ctx); err != nil && !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// agent is one life of an agent.
type agent struct {
	cfg     Config
	dirs    dirs
	db      *localdb.DB
	key     *identity.Key
	members *members
	node    *nodeRecord
	logs    *logPipes
	drivers *driverSet
	idle    atomic.Bool // at the end: no task is left, so nobody needs the processes that keep them
}

// ending reports whether the processes that keep tasks are to end with this agent.
func (a *agent) ending() bool { return a.cfg.StopTasks || a.idle.Load() }

// run starts everything in the order in which it is needed, nothing before the node is admitted, and ends it in the reverse
// order: what keeps the tasks begins first and ends last.
func (a *agent) run(ctx context.Context) error {
	admitted, creds, err := a.admit(ctx)
	if err != nil {
		return err
	}
	helpers := stage(ctx)
	defer helpers.end()
	keeping := a.startHelpers(helpers)

	facts, err := a.fingerprint(ctx)
	if err != nil {
		return err
	}
	a.node = describeNode(a.cfg, a.key.NodeID(), facts)
	driving := stage(ctx)
	defer driving.end()
	known, err := a.startDrivers(driving, facts, keeping)
	if err != nil {
		return err
	}
	select {
	case <-known:
	case <-ctx.Done():
		return nil
	}
	return a.serve(ctx, admitted, creds)
}

// serve runs tasks and follows the hubs until ctx ends.
func (a *agent) serve(ctx context.Context, admitted admission, creds *identity.Credentials) error {
	wanted := make(chan *api.NodeAllocs)
	h := &host{
		log: a.cfg.Log, dirs: a.dirs, db: a.db, drivers: a.drivers, logs: a.logs, reporter: newReporter(), node: a.node,
		region: admitted.Region, maxKill: a.cfg.MaxKillTimeout, environ: os.Environ(),
	}
	tasks := newReconciler(h, wanted, a.cfg.StopTasks)
	l := &linker{
		cfg: a.cfg, log: a.cfg.Log, key: a.key, creds: creds, members: a.members, node: a.node, reporter: h.reporter,
		allocs: wanted, handler: newHandler(tasks, h), admitted: admitted,
		save:  func(to admission) error { return saveJSON(a.dirs.admission(), to) },
		ready: sync.OnceFunc(func() { a.cfg.Ready(a.key.NodeID()) }),
	}
	nodeID := a.key.NodeID()
	if a.cfg.Leaf {
		l.ask = func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			if err := mingle(ctx, a.cfg, a.members, admitted, nodeID); err != nil {
				a.cfg.Log.Warn("ask a member for the hubs", "err", err)
			}
		}
	}
	wires := stage(ctx)
	defer wires.end()
	wires.run(a.members.keep)
	failed := make(chan error, 1) // one goroutine sends
	if !a.cfg.Leaf {
		wires.run(func(ctx context.Context) {
			if err := mingle(ctx, a.cfg, a.members, admitted, nodeID); err != nil {
				failed <- err
			}
		})
	}
	wires.run(l.run)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var broken error
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case broken = <-failed:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := tasks.run(ctx)
	a.idle.Store(err == nil && tasks.idle())
	cancel()
	<-watching
	if a.cfg.StopTasks {
		flush, done := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		h.reporter.drained(flush)
		done()
	}
	return errors.Join(err, broken)
}

// admit loads what the cluster gave this node, or asks a hub for it with the join token.
func (a *agent) admit(ctx context.Context) (admission, *identity.Credentials, error) {
	var have admission
	ok, err := loadJSON(a.dirs.admission(), &have)
	if err != nil {
		return have, nil, err
	}
	if ok {
		creds, err := identity.NewCredentials(a.key, []byte(have.Certificate), []byte(have.CA))
		if err != nil {
			return have, nil, fmt.Errorf("%s: %w", a.dirs.admission(), err)
		}
		a.cfg.Name = cmp.Or(a.cfg.Name, creds.Peer().Name)
		a.cfg.Gossip = cmp.Or(a.cfg.Gossip, have.Gossip)
		if until := creds.Peer().NotAfter; time.Now().Before(until) {
			if have.Gossip == a.cfg.Gossip {
				return have, creds, nil
			}
			have.Gossip = a.cfg.Gossip
			return have, creds, saveJSON(a.dirs.admission(), have)
		} else if a.cfg.JoinToken == "" {
			return have, nil, fmt.Errorf("the node's certificate was good until %s only: join again with a token", until)
		}
	}
	if a.cfg.JoinToken == "" || len(a.cfg.Join) == 0 {
		return have, nil, api.E(api.ErrInvalid, "this node is not in a cluster yet: name a hub to join (--join HOST) and give a join token (BRUME_JOIN_TOKEN or --join-token-file)")
	}
	a.cfg.Name = cmp.Or(a.cfg.Name, hostname())
	a.cfg.Gossip = cmp.Or(a.cfg.Gossip, firstGossip)
	reply, err := join(ctx, a.cfg, a.key)
	if err != nil {
		return have, nil, err
	}
	have = admission{Region: reply.Region, Certificate: reply.Certificate, CA: reply.CA, GossipKey: reply.GossipKey, Gossip: a.cfg.Gossip}
	creds, err := identity.NewCredentials(a.key, []byte(have.Certificate), []byte(have.CA))
	if err != nil {
		return have, nil, fmt.Errorf("answer to join: %w", err)
	}
	a.members.learnHubs(reply.Hubs)
	a.members.learnGossip(reply.Gossip, nil)
	a.cfg.Log.Info("joined", "region", have.Region, "node", a.key.NodeID())
	return have, creds, saveJSON(a.dirs.admission(), have)
}

// hostname is the host's name, or one that stands for it.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "node"
	}
	return name
}

func (a *agent) fingerprint(ctx context.Context) (*fingerprint.Facts, error) {
	if a.cfg.Wires.Fingerprint != nil {
		return a.cfg.Wires.Fingerprint(ctx)
	}
	return fingerprint.Detect(ctx, fingerprint.Config{DataDir: a.cfg.DataDir, Interface: a.cfg.Interface, Address: gossipAddress(a.cfg), Log: a.cfg.Log})
}

// gossipAddress is the address that this node gossips on, if it was told one: tasks get it too, so that a node that keeps
// to an address keeps to it altogether.
func gossipAddress(cfg Config) netip.Addr {
	host, _, err := net.SplitHostPort(cfg.Gossip)
	if err != nil || cfg.Interface != "" {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.IsUnspecified() {
		return netip.Addr{}
	}
	return ip
}

// lifetime is a group of goroutines that end together, later than the context that they were begun under.
type lifetime struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// stage makes a lifetime that only end ends.
func stage(ctx context.Context) *lifetime {
	l := &lifetime{}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return l
}

func (l *lifetime) run(f func(context.Context)) { l.wg.Go(func() { f(l.ctx) }) }

// end ends the goroutines and waits for them.
func (l *lifetime) end() {
	l.cancel()
	l.wg.Wait()
}
