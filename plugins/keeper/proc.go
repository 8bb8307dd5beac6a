package keeper

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what /proc says of a process, as far as it is needed to find those that belong together and what they use.
type Stat struct {
	PID, Parent, Group, Session int
	UserTicks, SystemTicks      uint64
	Started                     uint64 // in clock ticks since boot
	RSSPages                    int64
	Zombie                      bool
}

// ReadStat reads the stat of one process.
func ReadStat(pid int) (Stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	return parseStat(data)
}

var errStat = errors.New("not the stat of a process")

func parseStat(data []byte) (Stat, error) {
	// The second field is a name in parentheses that may hold anything, parentheses too.
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Stat{}, errStat
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data[:open])))
	fields := bytes.Fields(data[end+1:]) // from the third on
	if err != nil || len(fields) < 22 {
		return Stat{}, errStat
	}
	number := func(field int) uint64 { // as proc(5) counts, from 1
		n, parseErr := strconv.ParseInt(string(fields[field-3]), 10, 64)
		if parseErr != nil {
			err = errStat
		}
		return uint64(n)
	}
	s := Stat{
		PID: pid, Parent: int(number(4)), Group: int(number(5)), Session: int(number(6)), UserTicks: number(14),
		SystemTicks: number(15), Started: number(22), RSSPages: int64(number(24)), Zombie: fields[0][0] == 'Z',
	}
	return s, err
}

// Tree returns the live processes that belong to the session that p leads or led: its members and their descendants. Once
// p has ended, its number may come to lead another session; the processes of that started after p ended and are left out.
func (p Process) Tree() ([]Stat, error) {
	all, err := stats()
	if err != nil {
		return nil, err
	}
	return p.treeOf(all), nil
}

// treeOf is Tree among all live processes.
func (p Process) treeOf(all []Stat) []Stat {
	last := ^uint64(0)
	if p.Exit != nil {
		last = p.Exit.Ticks
	}
	children := make(map[int][]Stat)
	var found []Stat
	for _, s := range all {
		children[s.Parent] = append(children[s.Parent], s)
		if s.Session == p.PID && s.Started >= p.Started && s.Started <= last {
			found = append(found, s)
		}
	}
	seen := make(map[int]bool)
	for _, s := range found {
		seen[s.PID] = true
	}
	for i := 0; i < len(found); i++ {
		for _, child := range children[found[i].PID] {
			if !seen[child.PID] {
				seen[child.PID] = true
				found = append(found, child)
			}
		}
	}
	return found
}

// stats reads all live processes.
func stats() ([]Stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var all []Stat
	for _, name := range names {
		pid, notPID := strconv.Atoi(name)
		if notPID != nil {
			continue
		}
		if s, err := ReadStat(pid); err == nil && !s.Zombie { // it may have ended meanwhile
			all = append(all, s)
		}
	}
	return all, err
}

// writer returns the process that leads a session and has one of the pipes as its output; if several do, the oldest.
func writer(pipes []string) (Stat, bool) {
	var found []Stat
	if len(pipes) > 0 {
		all, _ := stats() // what can be read counts
		for _, s := range all {
			if s.Session == s.PID && s.writesTo(pipes) {
				found = append(found, s)
			}
		}
	}
	if len(found) == 0 {
		return Stat{}, false
	}
	return slices.MinFunc(found, func(a, b Stat) int { return cmp.Compare(a.Started, b.Started) }), true
}

// writesTo reports whether the process's output or error output is one of the pipes.
func (s Stat) writesTo(pipes []string) bool {
	for _, fd := range []string{"1", "2"} {
		if path, err := os.Readlink("/proc/" + strconv.Itoa(s.PID) + "/fd/" + fd); err == nil && slices.Contains(pipes, path) {
			return true
		}
	}
	return false
}

// open returns a pidfd of exactly this process.
func (s Stat) open() (int, error) {
	fd, err := unix.PidfdOpen(s.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	if now, err := ReadStat(s.PID); err != nil || now.Started != s.Started {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// signal signals exactly this process. That it has ended is no error.
func (s Stat) signal(sig syscall.Signal) error {
	fd, err := s.open()
	if err == nil {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		unix.Close(fd)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// killRounds bounds the search for what forks while it is being killed.
const killRounds = 10

// census looks at all processes for many askers at once: those that ask while a look is under way share the next one.
// When 500 tasks end together, looking for what each left behind costs a few looks, not 500.
type census struct {
	mu   sync.Mutex
	next *look // that those who ask now share; nil until somebody does
	turn sync.Mutex
}

// look is one reading of all processes.
type look struct {
	taken bool // guarded by census.turn, as are the others
	all   []Stat
	err   error
}

// stats reads all live processes, once after it was called.
func (c *census) stats() ([]Stat, error) {
	c.mu.Lock()
	if c.next == nil {
		c.next = new(look)
	}
	l := c.next
	c.mu.Unlock()
	c.turn.Lock()
	defer c.turn.Unlock()
	if !l.taken {
		c.mu.Lock()
		c.next = nil // who asks from here on wants a later look
		c.mu.Unlock()
		l.all, l.err = stats()
		l.taken = true
	}
	return l.all, l.err
}

// killTree kills all that belongs to p. It stops all of it first: what is stopped forks no more, and a child whose parent
// is killed before it is found could not be told from a stranger.
func (c *census) killTree(p Process) error {
	found := make(map[int]Stat)
	for range killRounds {
		all, err := c.stats()
		if err != nil {
			return err
		}
		more := false
		for _, s := range p.treeOf(all) {
			if _, known := found[s.PID]; known {
				continue
			}
			more, found[s.PID] = true, s
			_ = s.signal(syscall.SIGSTOP) // what cannot be stopped is killed all the same, and that tells the reason
		}
		if !more {
			break
		}
	}
	var errs error
	for _, s := range found {
		errs = errors.Join(errs, s.signal(syscall.SIGKILL))
	}
	return errs
}

// ticks is now in clock ticks since boot, as /proc counts: 100 to the second on all architectures.
func ticks() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil { // cannot be: every kernel with pidfds has the clock
		return 0
	}
	return uint64(now.Nano() / (int64(time.Second) / 100))
}

// bootID names the time since the machine started.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}
