//go:build linux

package fingerprint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/brumehq/brume/api"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	loopback = netInterface{name: "lo", up: true, loopback: true, addrs: addrs("127.0.0.1", "::1")}
	docker   = netInterface{name: "docker0", up: true, addrs: addrs("172.17.0.1")}
)

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

// testMachine is the machine whose files are in testdata/name.txtar.
func testMachine(t *testing.T, name, hardware string, interfaces ...netInterface) *machine {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := txtar.Write(archive, root); err != nil {
		t.Fatal(err)
	}
	return &machine{
		Config:   Config{Root: root, DataDir: "/var/lib/brume/not/made/yet", Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		uname:    func() (string, string, error) { return "6.12.0-brume", hardware, nil },
		hostname: func() (string, error) { return name, nil },
		disk: func(path string) (uint64, uint64, error) {
			if path != "/var/lib" {
				return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: os.ErrNotExist}
			}
			return 1000 << 30, 400 << 30, nil
		},
		interfaces: func() ([]netInterface, error) { return append([]netInterface{loopback}, interfaces...), nil },
	}
}

// TestMachinesDescribeThemselves compares what is found on machines of several kinds with testdata/*.golden.
func TestMachinesDescribeThemselves(t *testing.T) {
	for _, m := range []*machine{
		testMachine(t, "xeon-cgroup1", "x86_64", docker,
			netInterface{name: "wlan0", up: true, addrs: addrs("192.168.1.7")},
			netInterface{name: "eno1", up: true, addrs: addrs("fe80::1", "2001:db8::7", "10.0.10.7")}),
		testMachine(t, "arm-cgroup2", "aarch64",
			netInterface{name: "end0", up: true, addrs: addrs("2001:db8::8", "192.168.0.8")}, docker),
		testMachine(t, "laptop-hybrid", "x86_64", netInterface{name: "eth0", addrs: addrs("10.0.0.9")}, docker),
		testMachine(t, "container", "x86_64"),
	} {
		name, err := m.hostname()
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			got, err := detect(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, got)
		})
	}
}

func golden(t *testing.T, name string, f *Facts) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", " ")
	// One line for each core.
	cores := f.Topology.Cores
	shown := *f
	shown.Topology.Cores = nil
	if err := enc.Encode(shown); err != nil {
		t.Fatal(err)
	}
	for _, c := range cores {
		fmt.Fprintf(&got, "%+v\n", c)
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("facts (+), golden file (-):\n%s", d)
	}
}

// TestAMachineThatTellsNothing still has processors with a frequency and the attributes that clients ask for.
func TestAMachineThatTellsNothing(t *testing.T) {
	m := testMachine(t, "bare", "x86_64")
	m.uname = func() (string, string, error) { return "", "", errors.New("no") }
	m.disk = func(string) (uint64, uint64, error) { return 0, 0, errors.New("no") }
	m.interfaces = func() ([]netInterface, error) { return nil, errors.New("no") }
	f, err := detect(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Topology.Cores) == 0 || f.Resources.Cpu.CpuShares != int64(len(f.Topology.Cores)*fallbackMHz) {
		t.Errorf("%d cores with %d MHz together, want some of %d", len(f.Topology.Cores), f.Resources.Cpu.CpuShares, fallbackMHz)
	}
	if f.Attributes["nomad.version"] != api.CompatVersion || f.Attributes["cpu.frequency"] != fmt.Sprint(fallbackMHz) {
		t.Errorf("attributes %v", f.Attributes)
	}
}

func TestTheInterfaceAskedForIsUsed(t *testing.T) {
	eth := netInterface{name: "eth1", addrs: addrs("10.1.1.1")}
	for _, tt := range []struct {
		rule, name, want string // want "": not found
	}{
		{"even when it is down", "eth1", "10.1.1.1"},
		{"even the loopback", "lo", "127.0.0.1"},
		{"one without an address is an error", "dummy0", ""},
		{"one that does not exist is an error", "eth9", ""},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			m := testMachine(t, "xeon-cgroup1", "x86_64", eth, netInterface{name: "dummy0", up: true, addrs: addrs("fe80::1")})
			m.Interface = tt.name
			f, err := detect(t.Context(), m)
			if tt.want == "" {
				if !errors.Is(err, api.ErrNotFound) {
					t.Errorf("error %v, want not found", err)
				}
				return
			}
			if err != nil || f.Attributes["unique.network.ip-address"] != tt.want {
				t.Errorf("address %v, %v, want %s", f, err, tt.want)
			}
		})
	}
}

// TestFrequenciesComeFromTheBestSource takes the sources away one after the other.
func TestFrequenciesComeFromTheBestSource(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	put(cpuFile(0, "cpufreq/base_frequency"), "2100000\n")
	put(cpuFile(0, "cpufreq/cpuinfo_max_freq"), "3700000\n")
	put(cpuFile(0, "acpi_cppc/nominal_freq"), "2000\n")
	put("proc/device-tree/cpus/cpu@0/clock-frequency", "\x4d\x7c\x6d\x00")
	q := &frequencies{m: &machine{Config: Config{Root: root}}, name: "CPU @ 2.60GHz", infos: map[uint16]float64{0: 1999.6}}
	for _, step := range []struct {
		rule          string
		take          func()
		base, highest uint64
	}{
		{"cpufreq's base frequency", func() {}, 2100, 3700},
		{"the firmware's nominal frequency", func() { remove(cpuFile(0, "cpufreq/base_frequency")) }, 2000, 3700},
		{"the model's name", func() { remove(cpuFile(0, "acpi_cppc/nominal_freq")) }, 2600, 3700},
		{"cpufreq's highest frequency", func() { q.name = "CPU" }, 3700, 3700},
		{"what cpuinfo says it runs at", func() { remove(cpuFile(0, "cpufreq/cpuinfo_max_freq")) }, 2000, 0},
		{"the device tree", func() { q.infos = nil }, 1300, 0},
		{"the fallback", func() { q.tree = 0 }, fallbackMHz, 0},
	} {
		step.take()
		if base, highest := q.of(0); base != step.base || highest != step.highest {
			t.Errorf("%s: %d and %d MHz, want %d and %d", step.rule, base, highest, step.base, step.highest)
		}
	}
}

func TestParseList(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []uint16
		ok   bool
	}{
		{"0-3,8", []uint16{0, 1, 2, 3, 8}, true},
		{"5", []uint16{5}, true},
		{"4,2-3,3", []uint16{2, 3, 4}, true},
		{"", nil, false},
		{"3-1", nil, false},
		{"a", nil, false},
		{"1-", nil, false},
		{"70000", nil, false},
	} {
		got, ok := parseList(tt.text)
		if d := cmp.Diff(tt.want, got); d != "" || ok != tt.ok {
			t.Errorf("parseList(%q) = %v, %v, want %v, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

// TestThisMachine looks at the machine that runs the test, as the agent does.
func TestThisMachine(t *testing.T) {
	f, err := Detect(t.Context(), Config{DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"cpu.arch", "cpu.numcores", "cpu.frequency", "cpu.totalcompute", "cpu.usablecompute", "cpu.reservablecores",
		"numa.node.count", "memory.totalbytes", "unique.storage.bytestotal", "unique.storage.volume", "os.name", "os.signals",
		"kernel.name", "kernel.version", "kernel.arch", "unique.hostname", "unique.network.ip-address",
	} {
		if v := f.Attributes[name]; v == "" || v == "0" {
			t.Errorf("%s is %q", name, v)
		}
	}
	r := f.Resources
	if r.Cpu.CpuShares <= 0 || r.Memory.MemoryMB <= 0 || r.Disk.DiskMB <= 0 || len(r.Networks) == 0 {
		t.Errorf("resources %+v", r)
	}
	if !strings.Contains(f.Attributes["os.signals"], "SIGTERM") {
		t.Errorf("signals %s", f.Attributes["os.signals"])
	}
}

func TestDetectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Detect(ctx, Config{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Detect() = %v", err)
	}
}

func TestTheVolumeIsTheMountThatIsSeen(t *testing.T) {
	layers := strings.Repeat("/var/lib/layers/0123456789abcdef:", 4096) // longer than a scanner reads unasked
	for rule, row := range map[string]struct{ mountinfo, want string }{
		"the later of two on one point": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / / rw - ext4 /dev/sda2 rw\n", "/dev/sda2",
		},
		"the deepest above the directory": {
			"1 0 8:1 / / rw - ext4 /dev/root rw\n2 1 8:2 / /var rw - ext4 /dev/var rw\n3 1 8:3 / /va rw - ext4 /dev/va rw\n", "/dev/var",
		},
		"a name with a space": {`1 0 8:1 / / rw - ext4 /dev/my\040disk rw`, "/dev/my disk"},
		"after a very long line": {
			"1 0 0:1 / /merged rw - overlay overlay rw,lowerdir=" + layers + "\n2 0 8:1 / / rw - ext4 /dev/root rw\n", "/dev/root",
		},
	} {
		t.Run(rule, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "proc/self"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(row.mountinfo), 0o644); err != nil {
				t.Fatal(err)
			}
			m := &machine{
				Config: Config{Root: root, DataDir: "/var/lib"},
				disk:   func(string) (uint64, uint64, error) { return 1, 1, nil },
			}
			f := &Facts{Attributes: map[string]string{}}
			if err := storage(t.Context(), m, f); err != nil {
				t.Fatal(err)
			}
			if got := f.Attributes["unique.storage.volume"]; got != row.want {
				t.Errorf("volume %q, want %q", got, row.want)
			}
		})
	}
}

// FuzzKernelText: no text of the kernel, or of what stands in for it, breaks a parser.
func FuzzKernelText(f *testing.F) {
	f.Add("0-3,8", "36 35 98:0 / / rw master:1 - ext3 /dev/root rw", "CPU @ 2.60GHz")
	f.Add("1-", `36 35 98:0 / /a\040b\ rw - - x`, "@ 99999999999GHz")
	f.Fuzz(func(t *testing.T, list, mountinfo, name string) {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "proc/self"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(mountinfo), 0o644); err != nil {
			t.Fatal(err)
		}
		m := &machine{Config: Config{Root: root}}
		_, _ = m.mounts()
		if ids, ok := parseList(list); !ok && ids != nil {
			t.Errorf("parseList(%q) refuses and returns %v", list, ids)
		}
		if n := nameMHz(name); n > 1e8 {
			t.Errorf("nameMHz(%q) = %d", name, n)
		}
	})
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(b.Context(), Config{Log: slog.New(slog.DiscardHandler)}); err != nil {
			b.Fatal(err)
		}
	}
}
