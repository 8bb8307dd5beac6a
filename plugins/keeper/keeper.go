package keeper

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeper is the state of the keeper's process.
type keeper struct {
	journal *journal
	boot    string
	busy    chan struct{} // one token for each Start under way
	adopted sync.WaitGroup
	census  census

	mu    sync.Mutex
	tasks map[string]*task
	pids  map[int]*task // children of this keeper that run
	// early holds the ends of children that nobody waits for yet: the process of a Start under way may end before it is
	// in pids. It is emptied whenever no Start is under way.
	early    map[int]syscall.WaitStatus
	starting int
}

// task is one process and what the keeper holds for it.
type task struct {
	ready chan struct{} // closed when Start is done with it; err and Process hold from then on
	err   error

	// What follows is guarded by keeper.mu.
	Process
	paths   []string // of pipes
	pipes   pipes
	pidfd   *os.File // of one that an earlier keeper started
	waiters []waiter
}

// waiter is a request to be answered when a process has ended.
type waiter struct {
	to  *session
	seq uint64
}

func (w waiter) done(p Process) { w.to.answer(answer{Seq: w.seq, Process: &p}, nil) }

// maxStarts is how many processes are started at the same time.
const maxStarts = 8

func newKeeper(dir string) (*keeper, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	k := &keeper{
		journal: &journal{path: filepath.Join(dir, journalName)}, boot: boot, busy: make(chan struct{}, maxStarts),
		tasks: make(map[string]*task), pids: make(map[int]*task),
		early: make(map[int]syscall.WaitStatus),
	}
	records, err := readJournal(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	k.replay(records)
	if err := k.journal.rewrite(k.records); err != nil {
		return nil, err
	}
	return k, nil
}

// records is all that is true now, for a new journal. What changes is changed here before the journal has a line of it, so
// that a new journal lacks nothing that is in the old one.
func (k *keeper) records() []record {
	k.mu.Lock()
	defer k.mu.Unlock()
	records := []record{{Op: "boot", Boot: k.boot}}
	for _, id := range slices.Sorted(maps.Keys(k.tasks)) {
		t := k.tasks[id]
		if t.PID == 0 && t.Exit == nil {
			records = append(records, record{Op: "intend", ID: id, Pipes: t.paths})
			continue
		}
		p := t.Process
		records = append(records, record{Op: "start", ID: id, Process: &p, Pipes: t.paths})
	}
	return records
}

// replay takes over from the keepers that wrote the records: processes that live on are watched, the ends of others are
// unknown unless a record tells them.
func (k *keeper) replay(records []record) {
	boot := ""
	for _, r := range records {
		switch r.Op {
		case "boot":
			boot = r.Boot
		case "intend":
			k.tasks[r.ID] = &task{Process: Process{ID: r.ID}, paths: r.Pipes}
		case "start", "exit":
			if t := k.tasks[r.ID]; t != nil && r.Process != nil {
				t.Process = *r.Process
			} else if r.Process != nil {
				k.tasks[r.ID] = &task{Process: *r.Process, paths: r.Pipes}
			}
		case "forget":
			delete(k.tasks, r.ID)
		}
	}
	for _, t := range k.tasks {
		t.ready = make(chan struct{})
		close(t.ready)
		if t.Exit == nil && t.PID == 0 && boot == k.boot {
			t.identify()
		}
		if t.Exit == nil && (boot != k.boot || !k.adopt(t)) {
			t.Exit = &Exit{Unknown: true, At: time.Now()}
		}
		if boot == k.boot {
			for _, path := range t.paths {
				_ = t.pipes.hold(path) // one that is gone has nothing to lose
			}
		}
	}
}

// identify finds the process of a mere intent by its pipes: the keeper died between starting it and writing its number.
func (t *task) identify() {
	if s, ok := writer(t.paths); ok {
		t.PID, t.Started, t.StartedAt = s.PID, s.Started, time.Now()
	}
}

// adopt watches a process that is not a child of this keeper. It reports false if the process has ended.
func (k *keeper) adopt(t *task) bool {
	if t.PID == 0 { // the keeper died before it started it, or nothing tells which it is
		return false
	}
	fd, err := Stat{PID: t.PID, Started: t.Started}.open()
	if err != nil {
		return false
	}
	t.pidfd = os.NewFile(uintptr(fd), "pidfd")
	k.adopted.Go(func() {
		if awaitEnd(t.pidfd) == nil {
			k.ended(t, Exit{Unknown: true, At: time.Now(), Ticks: ticks()})
		}
	})
	return true
}

// awaitEnd blocks until the process has ended. It fails when the pidfd is closed.
func awaitEnd(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

// close stops watching; processes and pipes go on.
func (k *keeper) close() error {
	k.mu.Lock()
	for _, t := range k.tasks {
		if t.pidfd != nil {
			t.pidfd.Close()
		}
		t.pipes.release()
	}
	k.mu.Unlock()
	k.adopted.Wait()
	return k.journal.close()
}

// find returns the task of an ID once its Start is done.
func (k *keeper) find(id string) (*task, error) {
	k.mu.Lock()
	t := k.tasks[id]
	k.mu.Unlock()
	if t == nil {
		return nil, ErrNotFound
	}
	<-t.ready
	return t, t.err
}

func (k *keeper) inspect(id string) (Process, error) {
	t, err := k.find(id)
	if err != nil {
		return Process{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return t.Process, nil
}

// wait has w answered when the process has ended, at once if it has.
func (k *keeper) wait(id string, w waiter) error {
	t, err := k.find(id)
	if err != nil {
		return err
	}
	k.mu.Lock()
	p := t.Process
	if p.Exit == nil {
		t.waiters = append(t.waiters, w)
	}
	k.mu.Unlock()
	if p.Exit != nil {
		w.done(p)
	}
	return nil
}

// unwait forgets the waiters of which gone holds.
func (k *keeper) unwait(gone func(waiter) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tasks {
		t.waiters = slices.DeleteFunc(t.waiters, gone)
	}
}

func (k *keeper) list() []Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Process, 0, len(k.tasks))
	for _, id := range slices.Sorted(maps.Keys(k.tasks)) {
		if t := k.tasks[id]; t.PID != 0 || t.Exit != nil {
			all = append(all, t.Process)
		}
	}
	return all
}

// signal signals the process's group, or only the process if its group is gone. One that has ended is left alone.
func (k *keeper) signal(id string, sig syscall.Signal) error {
	t, err := k.find(id)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.Exit != nil {
		return nil
	}
	if t.pidfd != nil { // not our child, so its number could have passed on: ask first
		fd, err := Stat{PID: t.PID, Started: t.Started}.open()
		if err != nil {
			return nil
		}
		defer unix.Close(fd)
	}
	// A child that we have not reaped keeps its number, and so its group's.
	if err := syscall.Kill(-t.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// kill kills the process and all that belongs to it, also what is left when the process itself has ended.
func (k *keeper) kill(id string) error {
	p, err := k.inspect(id)
	if err != nil {
		return err
	}
	return errors.Join(k.census.killTree(p), k.signal(id, syscall.SIGKILL))
}

// forget frees what is held for a process that has ended.
func (k *keeper) forget(id string) error {
	t, err := k.find(id)
	if err != nil {
		return err
	}
	k.mu.Lock()
	if t.Exit == nil {
		k.mu.Unlock()
		return ErrRunning
	}
	t.pipes.release()
	delete(k.tasks, id)
	k.mu.Unlock()
	if _, err := k.journal.append(record{Op: "forget", ID: id}); err != nil {
		return err
	}
	return k.compact()
}

func (k *keeper) compact() error {
	if !k.journal.large() {
		return nil
	}
	return k.journal.rewrite(k.records)
}
