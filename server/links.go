package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
	"github.com/brumehq/brume/link"
)

// links are the live links of agents, one a node: the newest wins.
type links struct {
	mu      sync.Mutex
	byNode  map[string]*agentLink
	silent  map[string]bool // nodes whose last link ended because nothing was heard for longer than the grace
	changed chan struct{}   // cap 1: a link came, went or registered; read by the liveness loop
}

// agentLink is one agent's connection.
type agentLink struct {
	nodeID     string
	session    *link.Session
	transport  http.RoundTripper
	registered atomic.Bool   // the agent has said on this link what its node is
	writes     chan struct{} // one for each body that is read and worked on at once
}

// maxLinkWrites bounds what one agent makes its hub hold at once: a sound one sends one report at a time.
const maxLinkWrites = 2

func newAgentLink(session *link.Session) *agentLink {
	return &agentLink{
		nodeID: session.Peer().NodeID, session: session, transport: session.RoundTripper(),
		writes: make(chan struct{}, maxLinkWrites),
	}
}

func newLinks() *links {
	return &links{byNode: map[string]*agentLink{}, silent: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (l *links) note() {
	select {
	case l.changed <- struct{}{}:
	default: // the reader looks at all links anyway
	}
}

// add makes a the link of its node and returns the one it replaces, nil if none.
func (l *links) add(a *agentLink) (old *agentLink) {
	l.mu.Lock()
	old = l.byNode[a.nodeID]
	l.byNode[a.nodeID] = a
	delete(l.silent, a.nodeID)
	l.mu.Unlock()
	l.note()
	return old
}

// remove forgets a, which ended for cause, unless a newer link has taken its place.
func (l *links) remove(a *agentLink, cause error) {
	l.mu.Lock()
	if l.byNode[a.nodeID] == a {
		delete(l.byNode, a.nodeID)
		if errors.Is(cause, link.ErrSilent) {
			l.silent[a.nodeID] = true
		}
	}
	l.mu.Unlock()
	l.note()
}

// get returns a node's link, nil if it has none.
func (l *links) get(nodeID string) *agentLink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byNode[nodeID]
}

// linkState is what links know of one node.
type linkState struct {
	linked     bool
	registered bool // it has said on this link what it is
	silent     bool // it has none, and was not heard for longer than the grace before the last one ended
}

func (l *links) state(nodeID string) linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.byNode[nodeID]
	return linkState{linked: a != nil, registered: a != nil && a.registered.Load(), silent: l.silent[nodeID]}
}

// nodeTransport returns the transport that reaches a node's agent through its live link: api.ErrNotFound if no link.
func (h *Hub) nodeTransport(nodeID string) (http.RoundTripper, error) {
	a := h.links.get(nodeID)
	if a == nil {
		return nil, fmt.Errorf("node %s has no link to this hub: %w", nodeID, api.ErrNotFound)
	}
	return a.transport, nil
}

// serveAgent serves one agent's connection until it ends.
func (h *Hub) serveAgent(ctx context.Context, conn *tls.Conn) {
	if !h.awaitState(ctx) {
		conn.Close()
		return
	}
	session, err := link.Accept(conn)
	if err != nil {
		h.log.Warn("refuse link", "remote", conn.RemoteAddr().String(), "err", err)
		return
	}
	defer session.Close()
	peer := session.Peer()
	if err := h.admit(peer); err != nil {
		h.log.Warn("refuse link", "node", peer.NodeID, "remote", conn.RemoteAddr().String(), "err", err)
		return
	}
	a := newAgentLink(session)
	if old := h.links.add(a); old != nil {
		old.session.Close()
	}
	h.log.Debug("link opened", "node", a.nodeID)

	err = session.Serve(ctx, h.linkRoutes(a))
	h.links.remove(a, err)
	h.log.Debug("link closed", "node", a.nodeID, "err", err)
}

// admit says whether the holder of a certificate of this cluster may link as an agent.
func (h *Hub) admit(peer identity.Peer) error {
	if peer.Region != h.cfg.Region {
		return fmt.Errorf("%w: region %q, this hub is in %q", api.ErrDenied, peer.Region, h.cfg.Region)
	}
	return nil
}
