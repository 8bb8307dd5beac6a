// Package link is the authenticated connection between members of a cluster: mutual TLS 1.3, several protocols told
// apart by ALPN on one port, and for agents a yamux session that carries HTTP requests in both directions, so that an
// agent behind NAT is no special case.
//
// It owns the port (Mux), the session (Session), its keepalive, and an in-memory network for tests (Memory). It checks
// which role may speak which protocol and nothing more: what a peer may ask for is for the handlers of the hub and of
// the agent, which call it. It never reconnects; who connects decides when to try again.
package link
