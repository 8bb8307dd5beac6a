//go:build linux

package fingerprint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
)

// fallbackMHz stands in for a processor's base frequency where nothing tells it, as on many small ARM boards and in some
// sandboxes: compute is shared out by it, so it must not be 0.
const fallbackMHz = 1000

// Kinds of cores of a machine that has more than one.
const (
	Performance = "performance"
	Efficiency  = "efficiency"
)

// Topology is how a machine's logical processors lie.
type Topology struct {
	Sockets   int
	NUMANodes []int  // ascending
	Cores     []Core // those online, by ID
}

// Core is one logical processor, as the kernel counts them.
type Core struct {
	ID       uint16
	Socket   int
	NUMANode int
	Physical int // number of the physical core in its socket; logical ones that share it are its threads
	Grade    string
	BaseMHz  uint64 // never 0
	MaxMHz   uint64 // 0: unknown
	Usable   bool   // this process may run on it
}

// Compute returns the sum of all cores' base frequencies in MHz, and of those usable.
func (t Topology) Compute() (total, usable uint64) {
	for _, c := range t.Cores {
		total += c.BaseMHz
		if c.Usable {
			usable += c.BaseMHz
		}
	}
	return total, usable
}

// processors finds the processors and how they lie.
func processors(ctx context.Context, m *machine, f *Facts) error {
	infos, err := cpu.InfoWithContext(m.withRoot(ctx))
	if err != nil {
		infos = nil // the layout below /sys is what counts; the name is missing then
	}
	f.Topology = m.topology(infos)
	describe(f, modelName(infos))
	return err
}

// topology reads the layout from /sys; where that says little, there is one socket and one NUMA node.
func (m *machine) topology(infos []cpu.InfoStat) Topology {
	ids, ok := parseList(m.text("sys/devices/system/cpu/online"))
	if !ok || len(ids) == 0 {
		ids = idsOf(infos)
	}
	allowed, restricted := m.allowed()
	nodes, nodeOf := m.numa()
	efficient := m.efficient(ids)
	mhz := frequencies{m: m, name: modelName(infos), infos: map[uint16]float64{}}
	for _, i := range infos {
		if i.CPU >= 0 && i.CPU <= math.MaxUint16 {
			mhz.infos[uint16(i.CPU)] = i.Mhz
		}
	}
	t := Topology{NUMANodes: nodes}
	sockets := map[int]bool{}
	for _, id := range ids {
		c := Core{ID: id, NUMANode: nodeOf[id], Grade: Performance, Usable: !restricted || slices.Contains(allowed, id)}
		if n, ok := m.number(cpuFile(id, "topology/physical_package_id")); ok {
			c.Socket = int(n) // some kernels say -1 for unknown, which is no number here
		}
		c.Physical = int(id)
		if n, ok := m.number(cpuFile(id, "topology/core_id")); ok {
			c.Physical = int(n)
		}
		if slices.Contains(efficient, id) {
			c.Grade = Efficiency
		}
		c.BaseMHz, c.MaxMHz = mhz.of(id)
		sockets[c.Socket] = true
		t.Cores = append(t.Cores, c)
	}
	t.Sockets = len(sockets)
	return t
}

func cpuFile(id uint16, name string) string {
	return "sys/devices/system/cpu/cpu" + strconv.Itoa(int(id)) + "/" + name
}

// idsOf numbers the processors where /sys does not: as /proc/cpuinfo does, else as many as this process may use.
func idsOf(infos []cpu.InfoStat) []uint16 {
	var ids []uint16
	for _, i := range infos {
		if i.CPU >= 0 && i.CPU <= math.MaxUint16 {
			ids = append(ids, uint16(i.CPU))
		}
	}
	if len(ids) == 0 {
		for id := range runtime.NumCPU() {
			ids = append(ids, uint16(id))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// allowed returns the processors that this process may run on, by its cpuset and affinity.
func (m *machine) allowed() (ids []uint16, ok bool) {
	for line := range strings.Lines(m.text("proc/self/status")) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return parseList(strings.TrimSpace(list))
		}
	}
	return nil, false
}

// numa returns the memory nodes and which of them each processor is near to.
func (m *machine) numa() ([]int, map[uint16]int) {
	online, _ := parseList(m.text("sys/devices/system/node/online"))
	nodes, of := []int{}, map[uint16]int{}
	for _, n := range online {
		nodes = append(nodes, int(n))
		ids, _ := parseList(m.text(fmt.Sprintf("sys/devices/system/node/node%d/cpulist", n)))
		for _, id := range ids {
			of[id] = int(n)
		}
	}
	if len(nodes) == 0 {
		nodes = []int{0}
	}
	return nodes, of
}

// efficient returns the smaller cores of a machine that has two kinds: Intel's kernels list them, ARM's give each core's
// capacity, of which a small core has less than two thirds of the largest.
func (m *machine) efficient(ids []uint16) []uint16 {
	if list, ok := parseList(m.text("sys/devices/cpu_atom/cpus")); ok {
		if len(list) < len(ids) {
			return list
		}
		return nil
	}
	if goArch(m.hardware()) != "arm64" {
		return nil // elsewhere capacities differ a little between like cores
	}
	capacity := map[uint16]uint64{}
	var largest uint64
	for _, id := range ids {
		n, ok := m.number(cpuFile(id, "cpu_capacity"))
		if !ok {
			return nil
		}
		capacity[id] = n
		largest = max(largest, n)
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(capacity)), func(id uint16) bool {
		return 3*capacity[id] >= 2*largest
	})
}

func (m *machine) hardware() string {
	_, hardware, err := m.uname()
	if err != nil {
		return ""
	}
	return hardware
}

// frequencies finds processors' frequencies.
type frequencies struct {
	m     *machine
	name  string             // of the model
	infos map[uint16]float64 // MHz as /proc/cpuinfo and cpufreq say
	tree  uint64             // MHz of the device tree
	read  bool               // the device tree
}

// of returns a processor's base frequency, from the best source there is, and its highest, in MHz.
func (q *frequencies) of(id uint16) (base, highest uint64) {
	kHz := func(name string) uint64 {
		n, _ := q.m.number(cpuFile(id, name))
		return n / 1000
	}
	highest = kHz("cpufreq/cpuinfo_max_freq")
	if base = kHz("cpufreq/base_frequency"); base > 0 {
		return base, highest
	}
	if n, ok := q.m.number(cpuFile(id, "acpi_cppc/nominal_freq")); ok && n > 0 { // in MHz
		return n, highest
	}
	if n := nameMHz(q.name); n > 0 {
		return n, highest
	}
	if highest > 0 {
		return highest, highest
	}
	if n := uint64(math.Round(max(0, q.infos[id]))); n > 0 && n < 1<<20 {
		return n, 0
	}
	if n := q.deviceTree(); n > 0 {
		return n, 0
	}
	return fallbackMHz, 0
}

var nameFrequency = regexp.MustCompile(`@ *([0-9]+(?:\.[0-9]+)?) *([GM])Hz`)

// nameMHz returns the frequency that a model's name ends in, as "… CPU @ 2.60GHz", 0 if it has none.
func nameMHz(name string) uint64 {
	found := nameFrequency.FindStringSubmatch(name)
	if found == nil {
		return 0
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil || n > 1e5 {
		return 0
	}
	if found[2] == "G" {
		n *= 1000
	}
	return uint64(math.Round(n))
}

// deviceTree returns what the device tree says of the first processor that it names a frequency of.
func (q *frequencies) deviceTree() uint64 {
	if q.read {
		return q.tree
	}
	q.read = true
	files, _ := filepath.Glob(q.m.path("proc/device-tree/cpus/cpu@*/clock-frequency")) // errs on a bad pattern alone
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var hz uint64
		switch len(b) {
		case 4:
			hz = uint64(binary.BigEndian.Uint32(b))
		case 8:
			hz = binary.BigEndian.Uint64(b)
		}
		if hz >= 1e6 {
			q.tree = hz / 1e6
			break
		}
	}
	return q.tree
}

func modelName(infos []cpu.InfoStat) string {
	for _, i := range infos {
		if i.ModelName != "" && i.ModelName != "Undefined" {
			return strings.TrimSpace(i.ModelName)
		}
	}
	return ""
}

// describe says in attributes and resources what the topology is.
func describe(f *Facts, model string) {
	set := func(name string, value uint64) { f.Attributes[name] = strconv.FormatUint(value, 10) }
	count, mhz := map[string]uint64{}, map[string]uint64{}
	usable := []uint16{}
	for _, c := range f.Topology.Cores {
		count[c.Grade]++
		mhz[c.Grade] = max(mhz[c.Grade], c.BaseMHz)
		if c.Usable {
			usable = append(usable, c.ID)
		}
	}
	if model != "" {
		f.Attributes["cpu.modelname"] = model
	}
	set("cpu.numcores", uint64(len(f.Topology.Cores)))
	set("cpu.frequency", max(mhz[Performance], mhz[Efficiency]))
	if count[Efficiency] > 0 {
		for _, grade := range []string{Performance, Efficiency} {
			set("cpu.numcores."+grade, count[grade])
			set("cpu.frequency."+grade, mhz[grade])
		}
	}
	total, use := f.Topology.Compute()
	set("cpu.totalcompute", total)
	set("cpu.usablecompute", use)
	set("cpu.reservablecores", uint64(len(usable)))
	set("numa.node.count", uint64(len(f.Topology.NUMANodes)))
	f.Resources.Cpu.CpuShares = int64(use)
	f.Resources.Cpu.TotalCpuCores = len(f.Topology.Cores)
	f.Resources.Cpu.ReservableCpuCores = usable
}

// parseList reads the kernel's lists, as "0-3,8": false if it is none.
func parseList(text string) ([]uint16, bool) {
	if text == "" {
		return nil, false
	}
	var ids []uint16
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if errors.Join(errA, errB) != nil || b < a || len(ids) > math.MaxUint16 {
			return nil, false
		}
		for id := a; id <= b; id++ {
			ids = append(ids, uint16(id))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}
