package link

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Memory is a network in memory for tests: connections behave as TCP's do (buffered, with deadlines), hosts can be cut
// off or die, and all of it blocks in ways that a testing/synctest bubble sees through.
//
// A host is the part of an address before the port. One Memory at a time may be in use in a process that has bubbles:
// yamux keeps timers in a pool of the process, and a timer of one bubble must not reach another. NewMemory and Close
// empty that pool.
type Memory struct {
	mu        sync.Mutex
	port      int // the last one given for port 0
	listeners map[string]*memListener
	conns     map[*memConn]struct{}
	cut       map[string]bool // hosts
}

// NewMemory makes an empty network.
func NewMemory() *Memory {
	dropPools()
	return &Memory{
		listeners: make(map[string]*memListener),
		conns:     make(map[*memConn]struct{}),
		cut:       make(map[string]bool),
		port:      40000,
	}
}

// dropPools empties every sync.Pool of the process: what is unused lives through one collection, not two.
func dropPools() {
	runtime.GC()
	runtime.GC()
}

// Close breaks every connection and listener. Call it last, outside a bubble's other work.
func (m *Memory) Close() error {
	m.mu.Lock()
	var listeners []*memListener
	for _, l := range m.listeners {
		listeners = append(listeners, l)
	}
	m.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	m.each("", func(c *memConn) {
		c.in.setSilent(false)
		c.reset()
	})
	dropPools()
	return nil
}

// Listen listens on addr (host:port); port 0 picks one.
func (m *Memory) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if port == "0" {
		m.port++
		addr = net.JoinHostPort(host, strconv.Itoa(m.port))
	}
	if m.listeners[addr] != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &memListener{net: m, addr: memAddr(addr), in: make(chan *memConn, 4096), done: make(chan struct{})}
	m.listeners[addr] = l
	return l, nil
}

// Dial connects to addr from a host of its own. Where nothing listens it is refused at once; a host that is cut off
// does not answer until ctx ends.
func (m *Memory) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return m.dial(ctx, "client", addr)
}

// Dialer returns a Dial whose connections come from host.
func (m *Memory) Dialer(host string) DialFunc {
	return func(ctx context.Context, addr string) (net.Conn, error) { return m.dial(ctx, host, addr) }
}

func (m *Memory) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.cut[from] || m.cut[host] {
		m.mu.Unlock()
		t := time.NewTimer(dialTimeout)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
		case <-t.C:
			return nil, fmt.Errorf("dial %s: %w", addr, os.ErrDeadlineExceeded)
		}
	}
	defer m.mu.Unlock()
	l := m.listeners[addr]
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	m.port++
	client, server := newMemPair(m, memAddr(net.JoinHostPort(from, strconv.Itoa(m.port))), l.addr)
	select {
	case l.in <- server:
	default:
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	m.conns[client], m.conns[server] = struct{}{}, struct{}{}
	return client, nil
}

// Cut takes a host off the network: nothing that is sent to it or from it arrives, and nothing fails; Heal lets it
// arrive after all.
func (m *Memory) Cut(host string) { m.setCut(host, true) }

// Heal is the inverse of Cut.
func (m *Memory) Heal(host string) { m.setCut(host, false) }

func (m *Memory) setCut(host string, cut bool) {
	m.mu.Lock()
	m.cut[host] = cut
	m.mu.Unlock()
	m.each(host, func(c *memConn) { c.in.setSilent(m.isCut(c)) })
}

// Kill resets every connection of a host, as the end of its processes does, and closes its listeners.
func (m *Memory) Kill(host string) {
	m.mu.Lock()
	var listeners []*memListener
	for addr, l := range m.listeners {
		if h, _, _ := net.SplitHostPort(addr); h == host {
			listeners = append(listeners, l)
		}
	}
	m.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	m.each(host, func(c *memConn) { c.reset() })
}

func (m *Memory) forget(c *memConn) {
	m.mu.Lock()
	delete(m.conns, c)
	m.mu.Unlock()
}

func (m *Memory) isCut(c *memConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cut[c.local.host()] || m.cut[c.remote.host()]
}

// each calls f for the connections with an end at host, or for all.
func (m *Memory) each(host string, f func(*memConn)) {
	m.mu.Lock()
	var conns []*memConn
	for c := range m.conns {
		if host == "" || c.local.host() == host || c.remote.host() == host {
			conns = append(conns, c)
		}
	}
	m.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

func (a memAddr) host() string {
	host, _, _ := net.SplitHostPort(string(a)) // made by JoinHostPort or checked by Listen
	return host
}

type memListener struct {
	net  *Memory
	addr memAddr
	in   chan *memConn
	done chan struct{}
	once sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, string(l.addr))
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.in:
				c.reset()
			default:
				return
			}
		}
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr }
