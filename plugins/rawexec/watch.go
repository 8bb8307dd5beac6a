package rawexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/keeper"
)

// How often the keeper is asked whether it is there, while it is and while it is not, and how long it may take: one that
// was killed is started again.
const (
	checkEvery    = 10 * time.Second
	recheckEvery  = time.Second
	checkPatience = 3 * time.Second
)

// Fingerprint reports whether the keeper answers, and that nothing limits tasks.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan plugins.Fingerprint, error) {
	out := make(chan plugins.Fingerprint)
	go func() { // ends with ctx, and says so by closing out
		defer close(out)
		last := plugins.Fingerprint{Health: -1}
		for {
			d.mu.Lock()
			changed := d.changed
			d.mu.Unlock()
			every := checkEvery
			now := d.check(ctx)
			if now.Health == plugins.Unhealthy {
				every = recheckEvery
			}
			if ctx.Err() == nil && (now.Health != last.Health || now.Description != last.Description) {
				select {
				case out <- now:
					last = now
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-time.After(every):
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (d *Driver) check(ctx context.Context) plugins.Fingerprint {
	d.mu.Lock()
	disabled := d.disabled
	d.mu.Unlock()
	if disabled {
		return plugins.Fingerprint{Health: plugins.Undetected, Description: "disabled in the plugin's configuration"}
	}
	_, err := ask(ctx, d, checkPatience, func(c *keeper.Client) ([]keeper.Process, error) { return c.List(ctx) })
	if errors.Is(err, errNoKeeper) {
		return plugins.Fingerprint{Health: plugins.Undetected, Description: err.Error()}
	}
	if err != nil {
		return plugins.Fingerprint{Health: plugins.Unhealthy, Description: fmt.Sprintf("keeper: %v", err)}
	}
	return plugins.Fingerprint{
		Health: plugins.Healthy, Description: "tasks run without isolation; their resources are not enforced",
		Attributes: map[string]string{"driver.raw_exec": "1", "driver.raw_exec.limits_enforced": "false"},
	}
}

// Stats measures the processes of a task from /proc.
func (d *Driver) Stats(ctx context.Context, id string, interval time.Duration) (<-chan plugins.Usage, error) {
	p, err := d.inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	m := &meter{p: p, mhz: float64(d.mhz), at: time.Now(), seen: make(map[int]keeper.Stat)}
	d.mu.Unlock()
	m.measure()
	out := make(chan plugins.Usage)
	go func() { // ends with ctx or the task, and says so by closing out
		defer close(out)
		for {
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return
			}
			u, alive := m.measure()
			if !alive {
				return
			}
			select {
			case out <- u:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// meter measures the processes of one task, one measurement after the other.
type meter struct {
	p    keeper.Process
	mhz  float64
	at   time.Time
	seen map[int]keeper.Stat
}

// ticksPerSecond is in what /proc counts time, on all architectures.
const ticksPerSecond = 100

// measure is what was used since the last measurement. It reports false when the task's process has ended.
func (m *meter) measure() (plugins.Usage, bool) {
	tree, err := m.p.Tree()
	if err != nil || len(tree) == 0 {
		return plugins.Usage{}, false
	}
	now := time.Now()
	seconds := now.Sub(m.at).Seconds()
	all := plugins.Usage{Time: now, ByPID: make(map[string]plugins.Usage, len(tree))}
	var user, system float64
	var rss uint64
	seen := make(map[int]keeper.Stat, len(tree))
	for _, s := range tree {
		seen[s.PID] = s
		before := m.seen[s.PID]
		if before.Started != s.Started {
			before = keeper.Stat{}
		}
		u := m.usage(float64(s.UserTicks-before.UserTicks), float64(s.SystemTicks-before.SystemTicks), seconds)
		bytes := uint64(max(0, s.RSSPages)) * uint64(os.Getpagesize())
		u.Memory.RSS = &bytes
		all.ByPID[strconv.Itoa(s.PID)] = u
		user, system, rss = user+*u.CPU.UserMode, system+*u.CPU.SystemMode, rss+bytes
	}
	m.at, m.seen = now, seen
	total := m.usage(0, 0, 1)
	*total.CPU.UserMode, *total.CPU.SystemMode, *total.CPU.Percent = user, system, user+system
	*total.CPU.TotalTicks = (user + system) / 100 * m.mhz
	total.Memory.RSS = &rss
	all.CPU, all.Memory = total.CPU, total.Memory
	return all, true
}

func (m *meter) usage(user, system, seconds float64) plugins.Usage {
	percent := func(ticks float64) float64 {
		if seconds <= 0 {
			return 0
		}
		return ticks / ticksPerSecond / seconds * 100
	}
	var u plugins.Usage
	u.CPU.UserMode, u.CPU.SystemMode = new(percent(user)), new(percent(system))
	u.CPU.Percent = new(percent(user + system))
	u.CPU.TotalTicks = new(*u.CPU.Percent / 100 * m.mhz)
	return u
}
