//go:build linux

package fingerprint

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// host finds kernel, operating system and name.
func host(_ context.Context, m *machine, f *Facts) error {
	release, hardware, err := m.uname()
	if err != nil {
		return err
	}
	f.Attributes["kernel.name"] = "linux"
	f.Attributes["kernel.version"] = release
	f.Attributes["kernel.arch"] = hardware
	f.Attributes["cpu.arch"] = goArch(hardware)
	name, version := m.osRelease()
	f.Attributes["os.name"] = name
	if version != "" { // a rolling release has none
		f.Attributes["os.version"] = version
	}
	hostname, err := m.hostname()
	if err != nil {
		return err
	}
	f.Attributes["unique.hostname"] = hostname
	return nil
}

// goArch returns Go's word for the kernel's word for an architecture.
func goArch(hardware string) string {
	switch hardware {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "i486", "i586", "i686":
		return "386"
	case "riscv64", "ppc64le", "s390x", "loong64":
		return hardware
	}
	if strings.HasPrefix(hardware, "armv") {
		return "arm"
	}
	return runtime.GOARCH
}

// osRelease returns the distribution's id and version, "linux" without a version where no file says.
func (m *machine) osRelease() (name, version string) {
	name = "linux"
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		b, err := os.ReadFile(m.path(file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			switch {
			case key == "ID" && value != "":
				name = value
			case key == "VERSION_ID":
				version = value
			}
		}
		break
	}
	return name, version
}

// controlGroups finds which version of control groups has the controllers. Where version 2 is mounted beside version 1
// ("hybrid") the controllers are with version 1.
func controlGroups(_ context.Context, m *machine, f *Facts) error {
	mounts, err := m.mounts()
	if err != nil {
		return err
	}
	var v1, v2 bool
	for _, mt := range mounts {
		v1 = v1 || mt.fstype == "cgroup"
		v2 = v2 || mt.fstype == "cgroup2"
	}
	switch {
	case v1 && v2:
		f.Attributes["os.cgroups.version"], f.Attributes["os.cgroups.mode"] = "1", "hybrid"
	case v1:
		f.Attributes["os.cgroups.version"], f.Attributes["os.cgroups.mode"] = "1", "legacy"
	case v2:
		f.Attributes["os.cgroups.version"], f.Attributes["os.cgroups.mode"] = "2", "unified"
	}
	return nil
}

// signals names the signals that a task can be sent.
func signals(_ context.Context, _ *machine, f *Facts) error {
	const realTime = 32 // the first of those without a name
	var names []string
	for s := syscall.Signal(1); s < realTime; s++ {
		if name := unix.SignalName(s); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	f.Attributes["os.signals"] = strings.Join(names, ",")
	return nil
}
