//go:build linux

package fingerprint

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/common"
	"golang.org/x/sys/unix"
)

// machine is what fingerprinters look at: a tree of files, and what only system calls tell.
type machine struct {
	Config
	uname      func() (release, hardware string, err error)
	hostname   func() (string, error)
	disk       func(path string) (total, free uint64, err error) // bytes; free: for an ordinary user
	interfaces func() ([]netInterface, error)
}

// netInterface is a network interface with its addresses.
type netInterface struct {
	name     string
	up       bool
	loopback bool
	addrs    []netip.Addr
}

func thisMachine(cfg Config) *machine {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.DataDir == "" {
		cfg.DataDir = "/"
	}
	return &machine{Config: cfg, uname: uname, hostname: os.Hostname, disk: statDisk, interfaces: netInterfaces}
}

// path returns where a file of the machine is.
func (m *machine) path(name string) string { return filepath.Join(m.Root, name) }

// text returns a file's text without white space around it, "" if it cannot be read.
func (m *machine) text(name string) string {
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), " \t\r\n\x00")
}

// number returns the whole number that a file holds.
func (m *machine) number(name string) (uint64, bool) {
	n, err := strconv.ParseUint(m.text(name), 10, 64)
	return n, err == nil
}

// withRoot makes gopsutil read below the machine's root.
func (m *machine) withRoot(ctx context.Context) context.Context {
	return context.WithValue(ctx, common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: m.path("proc"),
		common.HostSysEnvKey:  m.path("sys"),
		common.HostEtcEnvKey:  m.path("etc"),
	})
}

// mount is a line of mountinfo.
type mount struct{ point, fstype, source string }

// mounts lists what is mounted.
func (m *machine) mounts() ([]mount, error) {
	f, err := os.Open(m.path("proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay names all its layers in one line
	for lines.Scan() {
		// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw", any number of fields before the dash.
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && len(l) >= 5 && len(r) >= 2 {
			all = append(all, mount{point: unescape(l[4]), fstype: r[0], source: unescape(r[1])})
		}
	}
	return all, lines.Err()
}

// unescape undoes the octal escapes of mountinfo: "\040" is a space.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func uname() (release, hardware string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), nil
}

func statDisk(path string) (total, free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("size of the disk at %s: %w", path, err)
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return st.Blocks * unit, st.Bavail * unit, nil
}

func netInterfaces() ([]netInterface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	found := make([]netInterface, 0, len(all))
	for _, i := range all {
		n := netInterface{name: i.Name, up: i.Flags&net.FlagUp != 0, loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone since it was listed
		}
		for _, a := range addrs {
			if ipnet, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(ipnet.IP); ok {
					n.addrs = append(n.addrs, ip.Unmap())
				}
			}
		}
		found = append(found, n)
	}
	return found, nil
}
