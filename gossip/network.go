package gossip

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// settleTime is longer than the longest probe: an interval of one second, stretched eightfold when it fails.
const settleTime = 20 * time.Second

// Network connects the members of a test in memory. A packet to a member that is gone or cut off is lost and a stream
// to it fails at once, so that no sender ever waits; it works in testing/synctest bubbles.
type Network struct {
	mu    sync.Mutex
	ports int
	at    map[string]*transport
	cut   map[string]bool
}

// NewNetwork makes an empty network.
func NewNetwork() *Network {
	return &Network{ports: 20000, at: make(map[string]*transport), cut: make(map[string]bool)}
}

// Transport returns the transport of the member at addr (ip:port; port 0 picks one), for Config. A member that starts
// again at the same address takes the place of the old one.
func (n *Network) Transport(addr string) memberlist.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if host, port, err := net.SplitHostPort(addr); err == nil && port == "0" {
		n.ports++
		addr = net.JoinHostPort(host, strconv.Itoa(n.ports))
	}
	t := &transport{
		net:     n,
		addr:    addr,
		packets: make(chan *memberlist.Packet, 4096),
		streams: make(chan net.Conn, 64),
	}
	n.at[addr] = t
	return t
}

// Cut loses all that is sent to and from the member at addr.
func (n *Network) Cut(addr string) { n.setCut(addr, true) }

// Heal is the inverse of Cut.
func (n *Network) Heal(addr string) { n.setCut(addr, false) }

func (n *Network) setCut(addr string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[addr] = cut
}

// Settle waits until what closed members had under way (probes, with their timers) has ended. memberlist's Shutdown does
// not wait for it, and a bubble whose test has returned stands still: call it last.
func (n *Network) Settle() { time.Sleep(settleTime) }

// route returns the transport at to, nil if what from sends does not arrive.
func (n *Network) route(from, to string) *transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[from] || n.cut[to] {
		return nil
	}
	return n.at[to]
}

// leave takes a transport off the network, if it is still the one at its address.
func (n *Network) leave(t *transport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[t.addr] == t {
		delete(n.at, t.addr)
	}
}

// transport is one member's place on a Network. Its channels have room for a burst; more is lost, as on a real network.
type transport struct {
	net     *Network
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn

	mu   sync.Mutex
	down bool
}

// FinalAdvertiseAddr is memberlist's: the address is what Transport was given.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return nil, 0, err
	}
	ip := net.ParseIP(host)
	p, err := strconv.ParseUint(port, 10, 16)
	if ip == nil || err != nil {
		return nil, 0, fmt.Errorf("address %q: want ip:port", t.addr)
	}
	return ip, int(p), nil
}

// WriteTo is memberlist's.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if to := t.net.route(t.addr, addr); to != nil {
		select {
		case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: memAddr(t.addr), Timestamp: now}:
		default:
		}
	}
	return now, nil
}

// DialTimeout is memberlist's. memberlist writes before it sets a deadline, so the stream has one from the start.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := t.net.route(t.addr, addr)
	if to == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, os.ErrDeadlineExceeded)
	}
	near, far := net.Pipe()
	if err := near.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if !to.offer(far) {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	return near, nil
}

func (t *transport) offer(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return false
	}
	select {
	case t.streams <- conn:
		return true
	default:
		return false
	}
}

// PacketCh is memberlist's.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist's.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown is memberlist's; it breaks the streams that nobody will accept.
func (t *transport) Shutdown() error {
	t.net.leave(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.down = true
	for {
		select {
		case c := <-t.streams:
			c.Close()
		default:
			return nil
		}
	}
}

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }
