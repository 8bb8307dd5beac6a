package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// What differs from memberlist's LAN profile (probes every second with 500 ms to answer, 3 helpers for an indirect
// probe, suspicion 4 log10(n+1) seconds and up to 6 times that, push and pull every 30 s scaled up with n; packets of
// 1,400 bytes). Measured with that profile, meta of 200 bytes, every member in one process: 500 members see a leave
// after 1 s and five killed members after 16 s; a member sends 2 packets a second.
const (
	// gossipNodes is to how many members news go every 200 ms (the profile says 3): a storm of joins spreads at the
	// rate of packets, and an idle pool sends none.
	gossipNodes = 4
	// streamTimeout bounds a push and pull (the profile says 10 s): a start must not wait long for saved addresses
	// that are gone.
	streamTimeout = 5 * time.Second
	// reclaimAfter is how long a failed member's name stays bound to its address (the profile says for ever): an
	// agent that was killed may come back on another port.
	reclaimAfter = time.Second

	// rejoinEvery is how often a member may try to meet one that failed.
	rejoinEvery = 30 * time.Second

	leaveTimeout  = 2 * time.Second
	updateTimeout = time.Second
	joinsAtOnce   = 16
	keyBytes      = 32
	// keepGone is how long Members shows a member that failed or left.
	keepGone = 24 * time.Hour
)

// Config is a member's place in the pool.
type Config struct {
	Name      string               // unique in the pool; the node's name
	Bind      string               // host:port for TCP and UDP; port 0 picks one
	Advertise string               // host:port that others reach Bind at; "" finds out, port 0 is Bind's
	Key       []byte               // 32 bytes, the same in all the pool
	Meta      Meta                 // what others learn of this member
	Transport memberlist.Transport // nil uses the network; Bind and Advertise count only then
	Log       *slog.Logger
}

// Status is how the pool sees a member. Only alive and leaving members are reachable.
type Status string

// The statuses of a member.
const (
	StatusAlive   Status = "alive"
	StatusLeaving Status = "leaving"
	StatusLeft    Status = "left"
	StatusFailed  Status = "failed"
)

// Member is one member of the pool.
type Member struct {
	Name   string
	Addr   string // of its gossip, host:port
	Meta   Meta   // zero if what it says cannot be read
	Alive  bool
	Status Status
	Since  time.Time // of Status, as seen here
}

// Pool is this member's view of all members.
type Pool struct {
	addr string
	ml   *memberlist.Memberlist
	book *book
	meta atomic.Pointer[[]byte]

	rejoining sync.WaitGroup

	mu   sync.Mutex // serialises SetMeta, Leave and Close
	said Meta
	end  bool // left or closed
}

// New starts a member that knows only itself.
func New(cfg Config) (*Pool, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	p := &Pool{book: newBook(cfg.Name), said: cfg.Meta}
	meta, err := cfg.Meta.encode(false)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	p.meta.Store(&meta)
	mc := memberlist.DefaultLANConfig()
	mc.Name = cfg.Name
	mc.SecretKey = cfg.Key
	mc.GossipNodes = gossipNodes
	mc.TCPTimeout = streamTimeout
	mc.DeadNodeReclaimTime = reclaimAfter
	mc.Delegate = delegate{p}
	mc.Events = p.book
	mc.Transport = cfg.Transport
	mc.Logger = log.New(logWriter{cfg.Log}, "", 0)
	if cfg.Transport == nil {
		if err := cfg.listen(mc); err != nil {
			return nil, fmt.Errorf("gossip: %w", err)
		}
	}
	started := newGate(mc.Transport)
	mc.Transport = started
	if p.ml, err = memberlist.Create(mc); err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: %w", err), started.Shutdown())
	}
	started.open()
	p.addr = p.ml.LocalNode().Address()
	p.book.run()
	p.rejoining.Go(p.rejoin)
	return p, nil
}

func (cfg Config) validate() error {
	var errs []error
	if cfg.Name == "" {
		errs = append(errs, errors.New("no name"))
	}
	if len(cfg.Key) != keyBytes {
		errs = append(errs, fmt.Errorf("a key of %d bytes, want %d", len(cfg.Key), keyBytes))
	}
	if cfg.Log == nil {
		errs = append(errs, errors.New("no log"))
	}
	return errors.Join(errs...)
}

// Join meets the members at addrs (host:port), all at once, and learns from each whom it knows. It returns how many
// answered, and an error if none did. It takes up to ten seconds if some are gone.
func (p *Pool) Join(addrs []string) (int, error) {
	var (
		met   atomic.Int64
		errs  = make([]error, len(addrs))
		slots = make(chan struct{}, joinsAtOnce)
		wg    sync.WaitGroup
	)
	for i, addr := range addrs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n, err := p.ml.Join([]string{addr})
			met.Add(int64(min(n, 1)))
			if err != nil {
				errs[i] = fmt.Errorf("join %s: %w", addr, err)
			}
		})
	}
	wg.Wait()
	if n := int(met.Load()); n > 0 || len(addrs) == 0 {
		return n, nil
	}
	return 0, errors.Join(errs...)
}

// rejoin tries, until Close, to meet members that failed: memberlist itself never speaks again to those that were away
// for long, so two halves of a network that was cut would stay apart. Each member tries one at random, and only as often
// as there are failed ones among the alive, so that in all the pool about one try a failed member is made each time.
func (p *Pool) rejoin() {
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.book.done:
			return
		case <-tick.C:
		}
		alive, failed := 0, []string(nil)
		for m := range p.book.all() {
			switch {
			case m.Alive:
				alive++
			case m.Status == StatusFailed:
				failed = append(failed, m.Addr)
			}
		}
		if len(failed) > 0 && rand.IntN(max(alive, 1)) < len(failed) {
			_, _ = p.ml.Join([]string{failed[rand.IntN(len(failed))]}) // it may be gone for good
		}
	}
}

// Members returns all members, this one included, those that failed or left in the last 24 hours too; in order of
// their names.
func (p *Pool) Members() []Member {
	return slices.SortedFunc(p.book.all(), func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
}

// Events tells of other members' changes. It never holds the pool up: changes of one member that were not read yet
// become one, the newest, so Members is what counts. It is closed by Close.
func (p *Pool) Events() <-chan Event { return p.book.events }

// Addr returns the address (host:port) that other members use.
func (p *Pool) Addr() string { return p.addr }

// SetMeta changes what this member says of itself.
func (p *Pool) SetMeta(m Meta) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end {
		return errors.New("gossip: left")
	}
	if err := p.say(m, false, updateTimeout); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	p.said = m
	return nil
}

// say spreads a Meta. memberlist waits until some member has it; if none takes it in time it spreads later all the
// same, so that is no error. If memberlist defends itself against a rumour meanwhile it drops the change, so say looks.
func (p *Pool) say(m Meta, leaving bool, timeout time.Duration) error {
	b, err := m.encode(leaving)
	if err != nil {
		return err
	}
	p.meta.Store(&b)
	const tries = 3
	for range tries {
		_ = p.ml.UpdateNode(timeout / tries)
		if p.book.says(m, leaving) {
			return nil
		}
	}
	return errors.New("the change was not taken up")
}

// Leave tells the others that this member goes away on purpose; it waits until some have heard it, two seconds at most
// or until ctx's deadline. Close follows.
func (p *Pool) Leave(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end {
		return nil
	}
	p.end = true
	timeout := leaveTimeout
	if by, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(by)), time.Millisecond)
	}
	if err := p.say(p.said, true, timeout/2); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	if err := p.ml.Leave(timeout / 2); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// Close stops this member; without Leave the others will see it fail. It ends Events.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = true
	err := p.ml.Shutdown()
	p.book.stop()
	p.rejoining.Wait()
	return err
}

// listen gives memberlist a transport on the network, and the address that others reach it at.
func (cfg Config) listen(mc *memberlist.Config) error {
	host, port, err := splitAddr(cfg.Bind)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	advertise := host
	if host.IsUnspecified() {
		advertise = outboundIP()
	}
	mc.AdvertisePort = 0
	if cfg.Advertise != "" {
		if advertise, mc.AdvertisePort, err = splitAddr(cfg.Advertise); err != nil {
			return fmt.Errorf("advertise: %w", err)
		}
		if advertise.IsUnspecified() {
			return fmt.Errorf("advertise %s: no address that others can reach", cfg.Advertise)
		}
	}
	t, port, err := listen(host, port, mc.Logger)
	if err != nil {
		return err
	}
	mc.Transport = t
	mc.BindPort = port
	mc.AdvertiseAddr, mc.AdvertisePort = advertise.String(), cmp.Or(mc.AdvertisePort, port)
	return nil
}

func splitAddr(addr string) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: port: %w", addr, err)
	}
	if host == "" {
		return net.IPv4zero, int(n), nil
	}
	ips, err := net.LookupIP(host)
	if err != nil {
		return nil, 0, err
	}
	return ips[0], int(n), nil
}

// outboundIP is the address that this machine reaches others from: that of a UDP socket which is connected (nothing is
// sent) to an address that is set aside for documentation.
func outboundIP() net.IP {
	for _, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		conn.Close()
		return ip
	}
	return net.IPv4(127, 0, 0, 1)
}

// delegate gives memberlist this member's words; the pool carries no other data.
type delegate struct{ p *Pool }

func (d delegate) NodeMeta(int) []byte             { return *d.p.meta.Load() }
func (delegate) NotifyMsg([]byte)                  {}
func (delegate) GetBroadcasts(int, int) [][]byte   { return nil }
func (delegate) LocalState(bool) []byte            { return nil }
func (delegate) MergeRemoteState(_ []byte, _ bool) {}
