package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

// netns is a network namespace with nothing but its loopback.
type netns struct{ name string }

// newNetns makes a namespace that ends with the test.
func newNetns(t *testing.T) *netns {
	t.Helper()
	need(t, "root", unlessRoot())
	for _, tool := range []string{"ip", "iptables"} {
		_, err := exec.LookPath(tool)
		need(t, "netns", err)
	}
	ns := &netns{fmt.Sprintf("brume-e2e-%d", os.Getpid())}
	if out, err := exec.Command("ip", "netns", "add", ns.name).CombinedOutput(); err != nil {
		need(t, "netns", fmt.Errorf("%w: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", ns.name).CombinedOutput(); err != nil {
			t.Errorf("delete namespace: %v: %s", err, out)
		}
	})
	ns.run(t, "ip", "link", "set", "lo", "up")
	return ns
}

func unlessRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	return nil
}

func (ns *netns) run(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", ns.name}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// dial connects from inside the namespace: the thread enters it, and is not used again if it cannot come back.
func (ns *netns) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open(filepath.Join("/run/netns", ns.name))
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back) // the thread stays locked and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return conn, err
}

// client speaks HTTP from inside the namespace.
func (ns *netns) client(t testing.TB, ca string) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("no certificate of the authority")
	}
	return &http.Client{Transport: &http.Transport{DialContext: ns.dial, TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// With UDP and TCP of gossip dropped, linked agents keep their tasks: nothing is replaced, the nodes stay ready.
func TestLinkedAgentsKeepTheirTasksWithoutGossip(t *testing.T) {
	t.Parallel()
	ns := newNetns(t)
	c := newClusterIn(t, ns)
	for _, name := range []string{"n1", "n2"} {
		c.agent(name)
	}
	c.must("job", "run", "--var", "brume="+c.exe, "../examples/web.hcl")
	running := func(a []*api.AllocationListStub) bool {
		for _, x := range a {
			if x.ClientStatus != api.AllocClientRunning || x.DesiredStatus != api.AllocDesiredRun {
				return false
			}
		}
		return len(a) == 3
	}
	before := c.await(t.Context(), "web", running)
	members, err := c.client.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members.Members {
		for _, proto := range []string{"udp", "tcp"} {
			ns.run(t, "iptables", "-A", "INPUT", "-p", proto, "--dport", fmt.Sprint(m.Port), "-j", "DROP")
		}
	}
	c.awaitMember(func(m *api.Member) bool { return m.Status == "failed" })
	// The grace of a node begins with its link, which is up: longer than that, nothing may happen.
	grace, cancel := context.WithTimeout(t.Context(), 2*api.NodeGrace)
	defer cancel()
	<-grace.Done()
	after := c.await(t.Context(), "web", running)
	for i := range before {
		if before[i].ID != after[i].ID {
			t.Errorf("allocation %s became %s", before[i].ID, after[i].ID)
		}
	}
	for _, name := range []string{"n1", "n2"} {
		c.awaitNode(name, api.NodeStatusReady)
	}
	ns.run(t, "iptables", "-F")
}

// awaitMember asks until the hub lists a member that satisfies ok: gossip has no index to block on.
func (c *cluster) awaitMember(ok func(*api.Member) bool) {
	c.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		members, err := c.client.Members(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if slices.ContainsFunc(members.Members, ok) {
			return
		}
	}
	c.t.Fatal("gossip does not show what was expected")
}
