//go:build linux

package fingerprint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/mem"
)

// memory finds how much memory the machine has.
func memory(ctx context.Context, m *machine, f *Facts) error {
	v, err := mem.VirtualMemoryWithContext(m.withRoot(ctx))
	if err != nil {
		return err
	}
	if v.Total == 0 {
		return errors.New("meminfo has no total")
	}
	f.Attributes["memory.totalbytes"] = strconv.FormatUint(v.Total, 10)
	f.Resources.Memory.MemoryMB = int64(v.Total >> 20)
	return nil
}

// storage finds the disk of the data directory, or of the nearest directory above it that exists.
func storage(_ context.Context, m *machine, f *Facts) error {
	dir, err := filepath.Abs(m.DataDir)
	if err != nil {
		return err
	}
	total, free, err := m.disk(dir)
	for errors.Is(err, os.ErrNotExist) && dir != "/" {
		dir = filepath.Dir(dir)
		total, free, err = m.disk(dir)
	}
	if err != nil {
		return err
	}
	f.Attributes["unique.storage.bytestotal"] = strconv.FormatUint(total, 10)
	f.Attributes["unique.storage.bytesfree"] = strconv.FormatUint(free, 10)
	f.Resources.Disk.DiskMB = int64(free >> 20)
	mounts, err := m.mounts()
	if err != nil {
		return err
	}
	var at mount
	for _, mt := range mounts {
		// Of two mounts on one point the later hides the earlier.
		if below(dir, mt.point) && len(mt.point) >= len(at.point) {
			at = mt
		}
	}
	if at.source != "" {
		f.Attributes["unique.storage.volume"] = at.source
	}
	return nil
}

// below reports whether path is point or below it.
func below(path, point string) bool {
	return path == point || strings.HasPrefix(path, strings.TrimSuffix(point, "/")+"/")
}
