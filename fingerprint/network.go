//go:build linux

package fingerprint

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/brumehq/brume/api"
)

// fallbackMBits stands in for the speed of an interface that does not say its own.
const fallbackMBits = 1000

// network finds the addresses that tasks' ports are bound to: the one asked for, those of the interface asked for, else of the one with the
// default route, else of any that is up, else the loopback's, on which tasks of this machine can meet.
func network(_ context.Context, m *machine, f *Facts) error {
	all, err := m.interfaces()
	if err != nil {
		return err
	}
	chosen, err := m.choose(all)
	if err != nil {
		return err
	}
	if chosen.loopback && m.Interface == "" && !m.Address.IsValid() {
		m.Log.Warn("tasks are reachable from this machine only", "interface", chosen.name)
	}
	speed := m.speed(chosen)
	for _, ip := range usableAddrs(chosen) {
		f.Resources.Networks = append(f.Resources.Networks, &api.NodeNetwork{
			Device: chosen.name, CIDR: netip.PrefixFrom(ip, ip.BitLen()).String(), IP: ip.String(), MBits: speed, Mode: "host",
		})
	}
	f.Attributes["unique.network.ip-address"] = f.Resources.Networks[0].IP
	return nil
}

// choose returns an interface that has an address.
func (m *machine) choose(all []netInterface) (netInterface, error) {
	if m.Address.IsValid() {
		for _, i := range all {
			if slices.Contains(i.addrs, m.Address) {
				i.addrs = []netip.Addr{m.Address}
				return i, nil
			}
		}
		return netInterface{}, api.E(api.ErrNotFound, fmt.Sprintf("no network interface has the address %s", m.Address))
	}
	if m.Interface != "" {
		for _, i := range all {
			if i.name != m.Interface {
				continue
			}
			if len(usableAddrs(i)) == 0 {
				return i, api.E(api.ErrNotFound, fmt.Sprintf("network interface %q has no address", i.name))
			}
			return i, nil
		}
		return netInterface{}, api.E(api.ErrNotFound, fmt.Sprintf("network interface %q not found", m.Interface))
	}
	best, rank := netInterface{}, math.MaxInt
	routes := append(m.defaultRoutes4(), m.defaultRoutes6()...)
	for _, i := range all {
		if !i.up || len(usableAddrs(i)) == 0 {
			continue
		}
		r := len(routes) // after those with a default route
		if at := slices.Index(routes, i.name); at >= 0 {
			r = at
		} else if i.loopback {
			r++
		}
		if r < rank {
			best, rank = i, r
		}
	}
	if rank == math.MaxInt {
		return best, api.E(api.ErrNotFound, "no network interface has an address")
	}
	return best, nil
}

// usableAddrs returns the addresses of an interface that others can reach, IPv4 first; of the loopback its own.
func usableAddrs(i netInterface) []netip.Addr {
	addrs := slices.DeleteFunc(slices.Clone(i.addrs), func(a netip.Addr) bool {
		return a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() && !i.loopback
	})
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return addrs
}

// defaultRoutes4 names the interfaces with an IPv4 default route, the preferred one first.
func (m *machine) defaultRoutes4() []string {
	return defaultRoutes(m.text("proc/net/route"), func(fields []string) (name string, metric uint64, ok bool) {
		if len(fields) < 8 || fields[1] != "00000000" || fields[7] != "00000000" {
			return "", 0, false
		}
		metric, err := strconv.ParseUint(fields[6], 10, 32)
		return fields[0], metric, err == nil
	})
}

// defaultRoutes6 does the same for IPv6; there the kernel lists a route to nowhere on lo.
func (m *machine) defaultRoutes6() []string {
	return defaultRoutes(m.text("proc/net/ipv6_route"), func(fields []string) (name string, metric uint64, ok bool) {
		if len(fields) < 10 || fields[0] != strings.Repeat("0", 32) || fields[1] != "00" || fields[9] == "lo" {
			return "", 0, false
		}
		metric, err := strconv.ParseUint(fields[5], 16, 32)
		return fields[9], metric, err == nil
	})
}

func defaultRoutes(table string, parse func(fields []string) (string, uint64, bool)) []string {
	type route struct {
		name   string
		metric uint64
	}
	var routes []route
	for line := range strings.Lines(table) {
		if name, metric, ok := parse(strings.Fields(line)); ok {
			routes = append(routes, route{name, metric})
		}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	names := make([]string, 0, len(routes))
	for _, r := range routes {
		names = append(names, r.name)
	}
	return names
}

// speed returns an interface's speed in Mbit/s.
func (m *machine) speed(i netInterface) int {
	if n, ok := m.number("sys/class/net/" + i.name + "/speed"); ok && n > 0 && n < math.MaxInt32 {
		return int(n)
	}
	return fallbackMBits
}
