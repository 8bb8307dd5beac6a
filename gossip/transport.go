package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// portTries is how often a port that the kernel picked for TCP may turn out to be taken for UDP.
const portTries = 10

// netTransport is memberlist's transport on the network, but for connecting: Shutdown ends that at once, so that
// closing a pool does not wait for hosts that do not answer.
type netTransport struct {
	*memberlist.NetTransport
	ctx    context.Context // of connecting; a transport has no calls to pass it with
	cancel context.CancelFunc
}

// listen binds TCP and UDP to one port of ip, and returns that port.
func listen(ip net.IP, port int, logger *log.Logger) (*netTransport, int, error) {
	cfg := &memberlist.NetTransportConfig{BindAddrs: []string{ip.String()}, BindPort: port, Logger: logger}
	for try := 1; ; try++ {
		nt, err := memberlist.NewNetTransport(cfg)
		if err == nil {
			ctx, cancel := context.WithCancel(context.Background())
			return &netTransport{NetTransport: nt, ctx: ctx, cancel: cancel}, nt.GetAutoBindPort(), nil
		}
		if port != 0 || try == portTries {
			return nil, 0, fmt.Errorf("%s:%d: %w", ip, port, err)
		}
	}
}

// DialTimeout is memberlist's.
func (t *netTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// Shutdown is memberlist's.
func (t *netTransport) Shutdown() error {
	t.cancel()
	return t.NetTransport.Shutdown()
}

// gate keeps what others send from memberlist until it has set its own member alive. memberlist listens before that, and
// if word of its earlier life comes in between, it takes itself for dead and drops itself from its own list.
type gate struct {
	memberlist.Transport
	ready chan struct{}
	once  sync.Once
}

func newGate(t memberlist.Transport) *gate { return &gate{Transport: t, ready: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.ready) }) }

// PacketCh is memberlist's; its listener waits here.
func (g *gate) PacketCh() <-chan *memberlist.Packet {
	<-g.ready
	return g.Transport.PacketCh()
}

// StreamCh is memberlist's; its listener waits here.
func (g *gate) StreamCh() <-chan net.Conn {
	<-g.ready
	return g.Transport.StreamCh()
}

// Shutdown is memberlist's.
func (g *gate) Shutdown() error {
	g.open()
	return g.Transport.Shutdown()
}
