package plugins

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brumehq/brume/plugins/wire"
)

func (u Usage) toWire() *wire.TaskStats {
	w := &wire.TaskStats{Timestamp: timestamppb.New(u.Time), AggResourceUsage: u.usageToWire()}
	for pid, p := range u.ByPID {
		if w.ResourceUsageByPid == nil {
			w.ResourceUsageByPid = make(map[string]*wire.TaskResourceUsage, len(u.ByPID))
		}
		w.ResourceUsageByPid[pid] = p.usageToWire()
	}
	return w
}

// maxPIDs bounds the processes of one task that are measured singly.
const maxPIDs = 4096

func usageFromWire(w *wire.TaskStats) Usage {
	u := usageOf(w.GetAggResourceUsage())
	u.Time = timeFromWire(w.GetTimestamp())
	for pid, p := range w.GetResourceUsageByPid() {
		if u.ByPID == nil {
			u.ByPID = make(map[string]Usage)
		}
		if len(u.ByPID) == maxPIDs {
			break
		}
		u.ByPID[pid] = usageOf(p)
	}
	return u
}

func (u Usage) usageToWire() *wire.TaskResourceUsage {
	c, m := &wire.CPUUsage{}, &wire.MemoryUsage{}
	cpu := func(field wire.CPUUsage_Fields, measured bool) {
		if measured {
			c.MeasuredFields = append(c.MeasuredFields, field)
		}
	}
	cpu(wire.CPUUsage_SYSTEM_MODE, put(&c.SystemMode, u.CPU.SystemMode))
	cpu(wire.CPUUsage_USER_MODE, put(&c.UserMode, u.CPU.UserMode))
	cpu(wire.CPUUsage_TOTAL_TICKS, put(&c.TotalTicks, u.CPU.TotalTicks))
	cpu(wire.CPUUsage_THROTTLED_PERIODS, put(&c.ThrottledPeriods, u.CPU.ThrottledPeriods))
	cpu(wire.CPUUsage_THROTTLED_TIME, put(&c.ThrottledTime, u.CPU.ThrottledTime))
	cpu(wire.CPUUsage_PERCENT, put(&c.Percent, u.CPU.Percent))
	memory := func(field wire.MemoryUsage_Fields, measured bool) {
		if measured {
			m.MeasuredFields = append(m.MeasuredFields, field)
		}
	}
	memory(wire.MemoryUsage_RSS, put(&m.Rss, u.Memory.RSS))
	memory(wire.MemoryUsage_CACHE, put(&m.Cache, u.Memory.Cache))
	memory(wire.MemoryUsage_MAX_USAGE, put(&m.MaxUsage, u.Memory.MaxUsage))
	memory(wire.MemoryUsage_KERNEL_USAGE, put(&m.KernelUsage, u.Memory.KernelUsage))
	memory(wire.MemoryUsage_KERNEL_MAX_USAGE, put(&m.KernelMaxUsage, u.Memory.KernelMaxUsage))
	memory(wire.MemoryUsage_USAGE, put(&m.Usage, u.Memory.Usage))
	memory(wire.MemoryUsage_SWAP, put(&m.Swap, u.Memory.Swap))
	return &wire.TaskResourceUsage{Cpu: c, Memory: m}
}

// put sets *to to what from points to, and reports whether it points to anything.
func put[T any](to, from *T) bool {
	if from == nil {
		return false
	}
	*to = *from
	return true
}

func usageOf(w *wire.TaskResourceUsage) Usage {
	var u Usage
	c, m := w.GetCpu(), w.GetMemory()
	for _, field := range c.GetMeasuredFields() {
		switch field {
		case wire.CPUUsage_SYSTEM_MODE:
			u.CPU.SystemMode = new(c.GetSystemMode())
		case wire.CPUUsage_USER_MODE:
			u.CPU.UserMode = new(c.GetUserMode())
		case wire.CPUUsage_TOTAL_TICKS:
			u.CPU.TotalTicks = new(c.GetTotalTicks())
		case wire.CPUUsage_THROTTLED_PERIODS:
			u.CPU.ThrottledPeriods = new(c.GetThrottledPeriods())
		case wire.CPUUsage_THROTTLED_TIME:
			u.CPU.ThrottledTime = new(c.GetThrottledTime())
		case wire.CPUUsage_PERCENT:
			u.CPU.Percent = new(c.GetPercent())
		}
	}
	for _, field := range m.GetMeasuredFields() {
		switch field {
		case wire.MemoryUsage_RSS:
			u.Memory.RSS = new(m.GetRss())
		case wire.MemoryUsage_CACHE:
			u.Memory.Cache = new(m.GetCache())
		case wire.MemoryUsage_MAX_USAGE:
			u.Memory.MaxUsage = new(m.GetMaxUsage())
		case wire.MemoryUsage_KERNEL_USAGE:
			u.Memory.KernelUsage = new(m.GetKernelUsage())
		case wire.MemoryUsage_KERNEL_MAX_USAGE:
			u.Memory.KernelMaxUsage = new(m.GetKernelMaxUsage())
		case wire.MemoryUsage_USAGE:
			u.Memory.Usage = new(m.GetUsage())
		case wire.MemoryUsage_SWAP:
			u.Memory.Swap = new(m.GetSwap())
		}
	}
	return u
}
