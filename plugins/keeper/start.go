package keeper

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start starts a process, or returns the one that has the ID.
func (k *keeper) start(spec *Spec) (Process, error) {
	if spec == nil || spec.ID == "" || spec.Path == "" || len(spec.Argv) == 0 {
		return Process{}, errors.New("start: without an ID, a path or arguments")
	}
	t := &task{ready: make(chan struct{}), Process: Process{ID: spec.ID}}
	for _, path := range []string{spec.Stdout, spec.Stderr} {
		if path != "" && path != os.DevNull {
			t.paths = append(t.paths, path)
		}
	}
	k.mu.Lock()
	if known := k.tasks[spec.ID]; known != nil {
		k.mu.Unlock()
		return k.inspect(spec.ID)
	}
	k.tasks[spec.ID] = t
	k.starting++
	k.mu.Unlock()

	k.busy <- struct{}{}
	line, err := k.launch(t, spec)
	<-k.busy
	k.mu.Lock()
	if k.starting--; k.starting == 0 {
		clear(k.early)
	}
	if err != nil {
		delete(k.tasks, spec.ID)
		t.err = err
		t.pipes.release()
	}
	p := t.Process
	k.mu.Unlock()
	close(t.ready)
	if err != nil {
		_, forgetErr := k.journal.append(record{Op: "forget", ID: spec.ID})
		return Process{}, errors.Join(err, forgetErr)
	}
	if err := k.journal.sync(line); err != nil {
		// The process runs and its record is safe from the keeper's own death: it is kept, and the next sync will tell.
		return p, nil
	}
	return p, k.compact()
}

// launch writes down the intent, starts the process and writes down its number: a keeper killed in between leaves the
// intent, and its successor looks for the process by its pipes; without any it answers that the end is unknown. It returns the number of the journal's line.
func (k *keeper) launch(t *task, spec *Spec) (uint64, error) {
	if _, err := k.journal.append(record{Op: "intend", ID: spec.ID, Pipes: t.paths}); err != nil {
		return 0, err
	}
	var held pipes
	pid, err := fork(spec, &held)
	if err != nil {
		held.release()
		return 0, err
	}
	p := Process{ID: spec.ID, PID: pid, StartedAt: time.Now()}
	if s, err := ReadStat(pid); err == nil {
		p.Started = s.Started
	} else {
		p.Started = ticks() // it has ended, and is reaped already
	}
	k.mu.Lock()
	t.Process, t.pipes = p, held
	k.mu.Unlock()
	line, err := k.journal.append(record{Op: "start", ID: spec.ID, Process: &p, Pipes: t.paths})
	if err != nil { // what is not written down must not run
		return 0, errors.Join(err, syscall.Kill(-pid, syscall.SIGKILL))
	}
	k.mu.Lock()
	status, over := k.early[pid]
	if over {
		delete(k.early, pid)
	} else {
		k.pids[pid] = t
	}
	k.mu.Unlock()
	if over {
		k.ended(t, exitOf(status))
	}
	return line, nil
}

// fork starts the process as the leader of a session of its own.
func fork(spec *Spec, held *pipes) (int, error) {
	var files []uintptr
	defer func() {
		for _, fd := range files {
			unix.Close(int(fd))
		}
	}()
	stdin, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("input: %w", err)
	}
	files = append(files, uintptr(stdin))
	for _, path := range []string{spec.Stdout, spec.Stderr} {
		fd, err := held.output(path)
		if err != nil {
			return 0, err
		}
		files = append(files, uintptr(fd))
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if u := spec.User; u != nil {
		attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups, NoSetGroups: os.Geteuid() != 0}
	}
	env := spec.Env
	if env == nil {
		env = []string{} // nil would be the keeper's own
	}
	pid, err := syscall.ForkExec(spec.Path, spec.Argv, &syscall.ProcAttr{Dir: spec.Dir, Env: env, Files: files, Sys: attr})
	if err != nil {
		return 0, startError(spec.Path, err)
	}
	if spec.OOMScoreAdj != 0 {
		path := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
		if err := os.WriteFile(path, []byte(strconv.Itoa(spec.OOMScoreAdj)), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, errors.Join(err, syscall.Kill(-pid, syscall.SIGKILL))
		}
	}
	return pid, nil
}

// startError tells what passes from what does not.
func startError(path string, err error) error {
	err = &os.PathError{Op: "start", Path: path, Err: err}
	for _, passing := range []error{unix.EAGAIN, unix.ENOMEM, unix.ETXTBSY, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, passing) {
			return fmt.Errorf("%w: %w", ErrTemporary, err)
		}
	}
	return err
}

// reap takes the ends of all children that have ended: those it started, and the orphans that it got as subreaper.
func (k *keeper) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		k.mu.Lock()
		t := k.pids[pid]
		delete(k.pids, pid)
		if t == nil && k.starting > 0 {
			k.early[pid] = status
		}
		k.mu.Unlock()
		if t != nil {
			k.ended(t, exitOf(status))
		}
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	e := Exit{At: time.Now(), Ticks: ticks()}
	if status.Signaled() {
		e.Signal = int(status.Signal())
		e.Code = 128 + e.Signal // as shells say it
		return e
	}
	e.Code = status.ExitStatus()
	return e
}

// ended notes how a process ended and tells those who wait. That it cannot be journalled is no reason not to tell: a
// successor will call it unknown.
func (k *keeper) ended(t *task, e Exit) {
	k.mu.Lock()
	t.Exit = &e
	p, waiters := t.Process, t.waiters
	t.waiters = nil
	if t.pidfd != nil {
		t.pidfd.Close()
		t.pidfd = nil
	}
	k.mu.Unlock()
	_, _ = k.journal.append(record{Op: "exit", ID: p.ID, Process: &p})
	for _, w := range waiters {
		w.done(p)
	}
}
