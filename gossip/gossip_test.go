package gossip

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = bytes.Repeat([]byte{7}, 32)

func agentMeta() Meta {
	return Meta{Role: "agent", NodeID: "01234567-89ab-8cde-8f01-23456789abcd", Region: "global", Version: "0.1.0"}
}

func config(t testing.TB, name string, tr memberlist.Transport) Config {
	return Config{Name: name, Key: testKey, Meta: agentMeta(), Transport: tr, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func start(t testing.TB, cfg Config) *Pool {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pools starts members m1, m2, … that know each other; in a bubble.
func pools(t *testing.T, n *Network, count int) []*Pool {
	t.Helper()
	var all []*Pool
	for i := range count {
		p := start(t, config(t, fmt.Sprintf("m%d", i+1), n.Transport(fmt.Sprintf("10.0.0.%d:4648", i+1))))
		all = append(all, p)
		if i > 0 {
			if met, err := p.Join([]string{all[0].Addr()}); met != 1 || err != nil {
				t.Fatalf("Join: %d, %v", met, err)
			}
		}
	}
	time.Sleep(10 * time.Second)
	return all
}

func closeAll(n *Network, pools []*Pool) {
	for _, p := range pools {
		p.Close()
	}
	n.Settle()
}

// statuses is what p sees, as "m1=alive m2=failed".
func statuses(p *Pool) string {
	var out []string
	for _, m := range p.Members() {
		out = append(out, m.Name+"="+string(m.Status))
	}
	return strings.Join(out, " ")
}

// drain reads the events that wait now, as "join m1".
func drain(p *Pool) []string {
	var out []string
	for {
		synctest.Wait()
		select {
		case e := <-p.Events():
			out = append(out, e.Kind.String()+" "+e.Member.Name)
		default:
			return out
		}
	}
}

func TestAllSeeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 5)
		defer closeAll(n, all)
		for _, p := range all {
			if got := statuses(p); got != "m1=alive m2=alive m3=alive m4=alive m5=alive" {
				t.Errorf("%s sees %s", p.Addr(), got)
			}
		}
		got := all[0].Members()[4]
		want := Member{Name: "m5", Addr: "10.0.0.5:4648", Meta: agentMeta(), Alive: true, Status: StatusAlive, Since: got.Since}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("member (-want +got):\n%s", diff)
		}
		events := drain(all[0])
		slices.Sort(events)
		if diff := cmp.Diff([]string{"join m2", "join m3", "join m4", "join m5"}, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestAnyMemberLeadsToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer func() { closeAll(n, all) }()
		all[2].Close() // killed
		back := start(t, config(t, "m3", n.Transport("10.0.0.3:4648")))
		all[2] = back
		// Saved addresses that are gone do not keep it from the one that answers.
		if met, err := back.Join([]string{"10.9.9.9:4648", all[1].Addr()}); met != 1 || err != nil {
			t.Fatalf("Join: %d, %v", met, err)
		}
		if got := statuses(back); got != "m1=alive m2=alive m3=alive" {
			t.Errorf("sees %s at once", got)
		}
		if met, err := back.Join([]string{"10.9.9.9:4648"}); met != 0 || err == nil {
			t.Errorf("Join of nobody: %d, %v", met, err)
		}
	})
}

func TestKilledMemberComesBackOnAnotherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer func() { closeAll(n, all) }()
		all[2].Close()
		all[2] = start(t, config(t, "m3", n.Transport("10.0.0.3:9999")))
		if met, err := all[2].Join([]string{all[0].Addr()}); met != 1 || err != nil {
			t.Fatalf("Join: %d, %v", met, err)
		}
		if got := statuses(all[2]); got != "m1=alive m2=alive m3=alive" {
			t.Errorf("it sees %s", got)
		}
		time.Sleep(2 * time.Minute)
		for _, p := range all {
			if m := p.Members()[2]; m.Addr != "10.0.0.3:9999" || !m.Alive {
				t.Errorf("%s sees m3 at %s, %s", p.Addr(), m.Addr, m.Status)
			}
		}
	})
}

func TestDeadMemberFails(t *testing.T) {
	for _, how := range []string{"killed", "cut off"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork()
				all := pools(t, n, 4)
				defer closeAll(n, all)
				drain(all[0])
				if how == "killed" {
					all[3].Close()
				} else {
					n.Cut(all[3].Addr())
				}
				time.Sleep(30 * time.Second)
				for _, p := range all[:3] {
					if got := statuses(p); got != "m1=alive m2=alive m3=alive m4=failed" {
						t.Errorf("%s sees %s", p.Addr(), got)
					}
				}
				if diff := cmp.Diff([]string{"failed m4"}, drain(all[0])); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if how == "cut off" {
					n.Heal(all[3].Addr())
					time.Sleep(2 * time.Minute)
					if got := statuses(all[0]); got != "m1=alive m2=alive m3=alive m4=alive" {
						t.Errorf("healed, m1 sees %s", got)
					}
				}
			})
		})
	}
}

func TestLeaveIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer closeAll(n, all)
		drain(all[0])
		if err := all[2].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := all[2].Leave(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
		all[2].Close()
		time.Sleep(30 * time.Second)
		for _, p := range all[:2] {
			if got := statuses(p); got != "m1=alive m2=alive m3=left" {
				t.Errorf("%s sees %s", p.Addr(), got)
			}
		}
		if got := drain(all[0]); len(got) == 0 || got[len(got)-1] != "leave m3" {
			t.Errorf("events %v, want the last to be the leave", got)
		}
		if _, ok := <-all[2].Events(); ok {
			t.Error("Events is open after Close")
		}
	})
}

func TestLeaveAloneDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		p := start(t, config(t, "m1", n.Transport("10.0.0.1:4648")))
		defer closeAll(n, []*Pool{p})
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Leave(ctx); err != nil || time.Since(begin) > time.Second {
			t.Errorf("Leave: %v after %s", err, time.Since(begin))
		}
		if err := p.SetMeta(agentMeta()); err == nil {
			t.Error("SetMeta after Leave")
		}
	})
}

func TestSetMetaSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer closeAll(n, all)
		drain(all[1])
		want := Meta{Role: "hub", Region: "global", RPCPort: 4647, HTTPPort: 4646, Version: "0.2.0"}
		if err := all[0].SetMeta(want); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for _, p := range all {
			if diff := cmp.Diff(want, p.Members()[0].Meta); diff != "" {
				t.Errorf("%s (-want +got):\n%s", p.Addr(), diff)
			}
		}
		if diff := cmp.Diff([]string{"update m1"}, drain(all[1])); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if err := all[0].SetMeta(Meta{Role: "king"}); err == nil {
			t.Error("a wrong Meta was accepted")
		}
	})
}

func TestWrongKeyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 2)
		defer closeAll(n, all)
		cfg := config(t, "m3", n.Transport("10.0.0.3:4648"))
		cfg.Key = bytes.Repeat([]byte{8}, 32)
		stranger := start(t, cfg)
		defer stranger.Close()
		if met, err := stranger.Join([]string{all[0].Addr()}); met != 0 || err == nil {
			t.Errorf("Join: %d, %v", met, err)
		}
		if met, err := all[0].Join([]string{stranger.Addr()}); met != 0 || err == nil {
			t.Errorf("Join of the stranger: %d, %v", met, err)
		}
		time.Sleep(time.Minute)
		if got := statuses(all[0]); got != "m1=alive m2=alive" {
			t.Errorf("m1 sees %s", got)
		}
		if got := statuses(stranger); got != "m3=alive" {
			t.Errorf("the stranger sees %s", got)
		}
	})
}

// TestForgedDeathIsOnlyAnEvent sends what any holder of the gossip key can: that a member is dead.
func TestForgedDeathIsOnlyAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer closeAll(n, all)
		drain(all[0])
		forger := n.Transport("10.0.0.66:4648")
		if _, err := forger.WriteTo(forgeDeath(t, "m2", "m3"), all[0].Addr()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := statuses(all[0]); got != "m1=alive m2=failed m3=alive" {
			t.Errorf("at once m1 sees %s", got)
		}
		if diff := cmp.Diff([]string{"failed m2"}, drain(all[0])); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute)
		for _, p := range all { // m2 was not touched, and says so
			if got := statuses(p); got != "m1=alive m2=alive m3=alive" {
				t.Errorf("later %s sees %s", p.Addr(), got)
			}
		}
		if diff := cmp.Diff([]string{"join m2"}, drain(all[0])); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestNothingIsHeardBeforeTheStart keeps memberlist from a race in which it drops itself; see gate.
func TestNothingIsHeardBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, release := range map[string]func(*gate){
			"open":     (*gate).open,
			"shutdown": func(g *gate) { g.Shutdown() },
		} {
			g := newGate(NewNetwork().Transport("10.0.0.1:4648"))
			heard := make(chan struct{}, 2)
			go func() { g.PacketCh(); heard <- struct{}{} }()
			go func() { g.StreamCh(); heard <- struct{}{} }()
			synctest.Wait()
			if len(heard) != 0 {
				t.Errorf("%s: a listener is let in before", name)
			}
			release(g)
			<-heard
			<-heard
		}
	})
}

func forgeDeath(t *testing.T, node, from string) []byte {
	return forge(t, 5, map[string]any{"Incarnation": 99, "Node": node, "From": from})
}

// forge encodes one of memberlist's messages under testKey.
func forge(t *testing.T, kind byte, fields map[string]any) []byte {
	t.Helper()
	var body []byte
	if err := codec.NewEncoderBytes(&body, &codec.MsgpackHandle{}).Encode(fields); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(testKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 13) // version 1, then the nonce
	out[0] = 1
	rand.Read(out[1:])
	return gcm.Seal(out, out[1:13], append([]byte{kind}, body...), nil)
}

func TestUnreadEventsHoldNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		all := pools(t, n, 3)
		defer func() { closeAll(n, all) }()
		for range 20 { // nobody reads m1's events while m3 comes and goes
			all[2].Leave(t.Context())
			all[2].Close()
			all[2] = start(t, config(t, "m3", n.Transport("10.0.0.3:4648")))
			if met, err := all[2].Join([]string{all[0].Addr()}); met != 1 || err != nil {
				t.Fatalf("Join: %d, %v", met, err)
			}
			time.Sleep(5 * time.Second)
		}
		if got := statuses(all[0]); got != "m1=alive m2=alive m3=alive" {
			t.Errorf("m1 sees %s", got)
		}
		got := drain(all[0])
		if len(got) > 3 || !slices.Contains(got, "join m2") || got[len(got)-1] != "join m3" {
			t.Errorf("events %v: want one a member beside the one that waited to be read, m3's newest last", got)
		}
	})
}

func TestMembersForgetsTheGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{book: newBook("m1")} // without memberlist: a day of its timers takes a while
		node := func(name string) *memberlist.Node { return &memberlist.Node{Name: name} }
		for _, name := range []string{"m1", "m2", "m3"} {
			p.book.NotifyJoin(node(name))
		}
		p.book.NotifyLeave(node("m3"))
		time.Sleep(keepGone)
		p.book.NotifyLeave(node("m2"))
		if got := statuses(p); got != "m1=alive m2=failed m3=failed" {
			t.Errorf("after a day: %s", got)
		}
		time.Sleep(time.Hour)
		p.book.NotifyLeave(node("m2"))
		if got := statuses(p); got != "m1=alive m2=failed" {
			t.Errorf("after another hour: %s", got)
		}
	})
}

func TestLoopbackPool(t *testing.T) {
	var all []*Pool
	for i := range 2 {
		cfg := config(t, fmt.Sprintf("m%d", i+1), nil)
		cfg.Bind = "127.0.0.1:0"
		all = append(all, start(t, cfg))
	}
	defer func() {
		for _, p := range all {
			p.Close()
		}
	}()
	if strings.HasSuffix(all[0].Addr(), ":0") || all[0].Addr() == all[1].Addr() {
		t.Fatalf("addresses %s and %s", all[0].Addr(), all[1].Addr())
	}
	if met, err := all[1].Join([]string{all[0].Addr()}); met != 1 || err != nil {
		t.Fatalf("Join: %d, %v", met, err)
	}
	if e := <-all[0].Events(); e.Kind != Join || e.Member.Name != "m2" || e.Member.Addr != all[1].Addr() {
		t.Errorf("event %+v", e)
	}
	if got := statuses(all[1]); got != "m1=alive m2=alive" {
		t.Errorf("m2 sees %s", got)
	}
}

func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		bind, advertise string
		want            string // what Addr returns; * stands for the port that was picked
	}{
		"a port that is picked":            {"127.0.0.1:0", "", "127.0.0.1:*"},
		"another address for others":       {"127.0.0.1:0", "192.0.2.7:7000", "192.0.2.7:7000"},
		"the same port for others":         {"127.0.0.1:0", "192.0.2.7:0", "192.0.2.7:*"},
		"no bind":                          {"", "", "error"},
		"no port":                          {"127.0.0.1", "", "error"},
		"a port out of range":              {"127.0.0.1:70000", "", "error"},
		"advertising no reachable address": {"127.0.0.1:0", "0.0.0.0:4648", "error"},
		"an address of another machine":    {"192.0.2.7:0", "", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "m1", nil)
			cfg.Bind, cfg.Advertise = c.bind, c.advertise
			p, err := New(cfg)
			if err != nil {
				if c.want != "error" {
					t.Error(err)
				}
				return
			}
			defer p.Close()
			host, port, _ := strings.Cut(c.want, ":")
			if port == "*" && strings.HasPrefix(p.Addr(), host+":") && !strings.HasSuffix(p.Addr(), ":0") {
				return
			}
			if p.Addr() != c.want {
				t.Errorf("Addr is %s, want %s", p.Addr(), c.want)
			}
		})
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	cfg := config(t, "m1", nil)
	cfg.Bind = "127.0.0.1:0"
	p := start(t, cfg)
	defer p.Close()
	cfg.Bind = p.Addr()
	if second, err := New(cfg); err == nil {
		second.Close()
		t.Error("two members share a port")
	}
}

func TestUnspecifiedBindAdvertisesAnAddress(t *testing.T) {
	if ip := outboundIP(); ip == nil || ip.IsUnspecified() {
		t.Errorf("outbound address %v", ip)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no name":     func(c *Config) { c.Name = "" },
		"no key":      func(c *Config) { c.Key = nil },
		"a short key": func(c *Config) { c.Key = c.Key[:16] },
		"no log":      func(c *Config) { c.Log = nil },
		"no role":     func(c *Config) { c.Meta.Role = "" },
	} {
		cfg := config(t, "m1", NewNetwork().Transport("10.0.0.1:4648"))
		change(&cfg)
		if p, err := New(cfg); err == nil {
			p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for _, m := range []Meta{
		{Role: "hub"},
		agentMeta(),
		{Role: "hub", NodeID: agentMeta().NodeID, Region: strings.Repeat("r", 20), RPCPort: 65535, HTTPPort: 1, Version: strings.Repeat("v", 20)},
	} {
		for _, leaving := range []bool{false, true} {
			b, err := m.encode(leaving)
			if err != nil || len(b) > 64 {
				t.Fatalf("encode(%+v): %d bytes, %v", m, len(b), err)
			}
			got, l, err := decodeMeta(b)
			if err != nil || l != leaving || got != m {
				t.Errorf("decode = %+v, %v, %v; want %+v, %v", got, l, err, m, leaving)
			}
			if _, _, err := decodeMeta(append(b, "later"...)); err != nil {
				t.Errorf("a longer encoding: %v", err)
			}
		}
	}
	for _, m := range []Meta{
		{},
		{Role: "hub", Region: strings.Repeat("r", 30), Version: strings.Repeat("v", 30)},
		{Role: "hub", NodeID: "0123"},
		{Role: "hub", NodeID: strings.ToUpper(agentMeta().NodeID)},
	} {
		if _, err := m.encode(false); err == nil {
			t.Errorf("encode(%+v) succeeded", m)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	b, _ := agentMeta().encode(true)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, leaving, err := decodeMeta(b)
		if err != nil || len(b) > maxMeta {
			return
		}
		again, err := m.encode(leaving)
		if err != nil {
			t.Fatalf("%+v does not encode: %v", m, err)
		}
		if got, l, err := decodeMeta(again); got != m || l != leaving || err != nil {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
	})
}
