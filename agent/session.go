package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
)

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 30 * time.Second
	watchWait      = 4 * time.Minute // how long a hub may hold a watch
	// reconnectLimit and as much again at random is the longest wait between rounds of tries. It is well below
	// api.NodeGrace: an agent is back before a hub that was restarted calls its node down.
	reconnectLimit = 1500 * time.Millisecond
	reportBytes    = 2 << 20 // of one status report
)

// linker keeps one link to one hub, whichever answers, and does over it all that an agent does with its hubs.
type linker struct {
	cfg      Config
	log      *slog.Logger
	key      *identity.Key
	creds    *identity.Credentials
	members  *members
	node     *nodeRecord
	reporter *reporter
	allocs   chan<- *api.NodeAllocs // to reconcile
	handler  http.Handler           // what hubs may ask of this node
	ready    func()                 // called after each registration
	ask      func(context.Context)  // learns the hubs from any member; nil if gossip does that all the time
	admitted admission              // owned by renew once run has begun
	save     func(admission) error
}

// run links to a hub, again and again, until ctx ends.
func (l *linker) run(ctx context.Context) {
	said := ""
	for try := 0; ctx.Err() == nil; try++ {
		for _, addr := range l.candidates() {
			began := time.Now()
			err := l.connect(ctx, addr)
			if ctx.Err() != nil {
				return
			}
			if time.Since(began) > reconnectLimit {
				try = 0 // it was up for a while: that hub is worth an early try
			}
			if text := addr + err.Error(); text != said {
				said = text // once: it is tried for as long as it takes
				l.log.Warn("link to hub", "hub", addr, "err", err)
			}
		}
		if l.ask != nil {
			l.ask(ctx)
		}
		if !pause(ctx, backoff(try, reconnectLimit)) {
			return
		}
	}
}

// candidates lists hubs in the order of trying: those that gossip shows alive or that were remembered, at random, so that
// agents spread over the hubs; then the addresses from the configuration.
func (l *linker) candidates() []string {
	hubs := l.members.hubs()
	rand.Shuffle(len(hubs), func(i, j int) { hubs[i], hubs[j] = hubs[j], hubs[i] })
	for _, addr := range withPort(l.cfg.Join, rpcPort) {
		if !slices.Contains(hubs, addr) {
			hubs = append(hubs, addr)
		}
	}
	return hubs
}

// connect links to the hub at addr and serves the link until it ends; its error says why it did.
func (l *linker) connect(ctx context.Context, addr string) error {
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	session, err := link.Connect(dialing, addr, l.creds.ClientConfig(link.ALPNAgent), l.cfg.Wires.Dial)
	cancel()
	if err != nil {
		return err
	}
	defer session.Close()
	h := &hub{addr: addr, transport: session.RoundTripper()}
	changed := l.node.watch()
	reply, err := h.register(ctx, l.node.current())
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	l.members.learnHubs(reply.Hubs)
	l.log.Info("linked", "hub", addr, "peer", session.Peer().Name)
	l.ready()
	return together(ctx,
		func(ctx context.Context) error { return session.Serve(ctx, l.handler) },
		func(ctx context.Context) error { return l.report(ctx, h) },
		func(ctx context.Context) error { return l.watch(ctx, h) },
		func(ctx context.Context) error { return l.describe(ctx, h, changed) },
		func(ctx context.Context) error { return l.renew(ctx, h) },
	)
}

// together runs all and, when the first has returned, ends the others and waits for them. It returns the first's error.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(runs))
	var running sync.WaitGroup
	for _, run := range runs {
		running.Go(func() { errs <- run(ctx) })
	}
	first := <-errs
	cancel()
	running.Wait()
	if first == nil {
		return errors.New("the hub closed the link")
	}
	return first
}

// insist calls f until it succeeds or the link breaks: a hub that has no leader at the moment is no reason to leave it.
func (l *linker) insist(ctx context.Context, what string, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", what, err)
		if _, answered := errors.AsType[*refused](err); !answered {
			return err
		}
		l.log.Warn("hub refuses", "err", err)
		if !pause(ctx, backoff(try, reconnectLimit)) {
			return ctx.Err()
		}
	}
}

// report sends what tasks have reported.
func (l *linker) report(ctx context.Context, h *hub) error {
	return l.reporter.serve(ctx, func(ctx context.Context, batch []*api.AllocStatus) error {
		return l.insist(ctx, "report statuses", func() error { return h.report(ctx, batch) })
	})
}

// watch hands every change of this node's allocations to reconcile. The first answer is the whole list.
func (l *linker) watch(ctx context.Context, h *hub) error {
	var index uint64
	for {
		var allocs *api.NodeAllocs
		err := l.insist(ctx, "watch allocations", func() (err error) {
			allocs, err = h.allocs(ctx, index)
			return err
		})
		if err != nil {
			return err
		}
		if allocs.Index < index {
			index = 0 // the hubs' state was restored from before: take the whole list again
			continue
		}
		index = max(allocs.Index, 1) // 0 would ask for the whole list again and again
		if !allocs.Full && len(allocs.Allocs) == 0 {
			continue
		}
		select {
		case l.allocs <- allocs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// describe registers the node again whenever something of it has changed.
func (l *linker) describe(ctx context.Context, h *hub, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		changed = l.node.watch()
		err := l.insist(ctx, "register", func() error {
			reply, err := h.register(ctx, l.node.current())
			l.members.learnHubs(reply.Hubs)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// renew asks for the next certificate when two thirds of this one's life are over, and swaps it in while links are up.
func (l *linker) renew(ctx context.Context, h *hub) error {
	for try := 0; ; {
		wait := time.Until(l.creds.RenewAt())
		if try > 0 {
			wait = backoff(try, time.Minute)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		err := l.renewOnce(ctx, h)
		if err == nil {
			try = 0
			l.log.Info("certificate renewed", "until", l.creds.Peer().NotAfter)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		try++
		l.log.Warn("renew certificate", "until", l.creds.Peer().NotAfter, "err", err)
	}
}

func (l *linker) renewOnce(ctx context.Context, h *hub) error {
	csr, err := l.key.CSR(l.cfg.Name)
	if err != nil {
		return err
	}
	var reply api.CertificateReply
	if err := h.call(ctx, http.MethodPut, api.LinkCertificatePath, api.CertificateRequest{CSR: string(csr)}, &reply); err != nil {
		return err
	}
	if err := l.creds.Replace([]byte(reply.Certificate), []byte(reply.CA)); err != nil {
		return err
	}
	l.admitted.Certificate, l.admitted.CA = reply.Certificate, reply.CA
	return l.save(l.admitted)
}

// hub is the hub at the other end of a link.
type hub struct {
	addr      string
	transport http.RoundTripper
}

func (h *hub) call(ctx context.Context, method, path string, body, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return exchange(ctx, h.transport, method, "hub", path, body, reply)
}

func (h *hub) register(ctx context.Context, n *api.Node) (api.NodeReply, error) {
	var reply api.NodeReply
	return reply, h.call(ctx, http.MethodPut, api.LinkNodePath, n, &reply)
}

// allocs waits for the hubs to change something of this node's allocations after index; 0 asks for the whole list.
func (h *hub) allocs(ctx context.Context, index uint64) (*api.NodeAllocs, error) {
	ctx, cancel := context.WithTimeout(ctx, watchWait+requestTimeout)
	defer cancel()
	reply := new(api.NodeAllocs)
	path := fmt.Sprintf("%s?index=%d&wait=%s", api.LinkAllocsPath, index, watchWait)
	return reply, exchange(ctx, h.transport, http.MethodGet, "hub", path, nil, reply)
}

// report sends statuses in messages of bounded size.
func (h *hub) report(ctx context.Context, batch []*api.AllocStatus) error {
	type message struct{ Allocs []json.RawMessage }
	var m message
	size := 0
	send := func() error {
		if len(m.Allocs) == 0 {
			return nil
		}
		var reply api.WriteReply
		err := h.call(ctx, http.MethodPut, api.LinkStatusesPath, m, &reply)
		m, size = message{}, 0
		return err
	}
	for _, s := range batch {
		data, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if size+len(data) > reportBytes {
			if err := send(); err != nil {
				return err
			}
		}
		m.Allocs = append(m.Allocs, data)
		size += len(data)
	}
	return send()
}
