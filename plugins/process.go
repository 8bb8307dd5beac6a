package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a plugin's process as go-plugin's runner, started by us or found running.
type process struct {
	pid     int
	started uint64   // in clock ticks since boot, as /proc says: with pid it names one process for ever
	log     *os.File // the read end of the plugin's stderr
	stdout  *os.File
	file    *os.File // the pidfd of a process found running

	ended    chan struct{} // closed when the process has ended
	left     chan struct{} // closed when the host lets go of it
	leave    func()
	watching sync.WaitGroup

	mu     sync.Mutex
	cmd    *exec.Cmd // nil: found running
	stderr *os.File  // the write end, until the process has it
	killed bool
}

// logPipe is the name of the pipe that is the plugin's stderr, in the directory of its sockets: a host that comes later
// opens it again.
const logPipe = "log"

// drain is how long the output of a plugin is still read after its process has ended.
const drain = 200 * time.Millisecond

func newProcess(dir string) (*process, error) {
	p := &process{ended: make(chan struct{}), left: make(chan struct{})}
	p.leave = sync.OnceFunc(func() { close(p.left) })
	log, err := os.OpenFile(filepath.Join(dir, logPipe), os.O_RDONLY|unix.O_NONBLOCK, 0)
	p.log = log
	return p, err
}

// launched prepares a process that is yet to start. Its log can be read from now on.
func launched(cmd *exec.Cmd, dir string) (*process, error) {
	path := filepath.Join(dir, logPipe)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("log pipe: %w", err)
	}
	p, err := newProcess(dir)
	if err != nil {
		return nil, fmt.Errorf("log pipe: %w", err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0) // not by os: the plugin's end must block
	if err != nil {
		p.log.Close()
		return nil, fmt.Errorf("log pipe: %w", err)
	}
	p.cmd, p.stderr = cmd, os.NewFile(uintptr(fd), path)
	return p, nil
}

// Start starts the process in a session of its own: a terminal's signals are for the host.
func (p *process) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return context.Canceled
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = nil, in, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		out.Close()
		return err
	}
	p.stderr.Close()
	p.pid, p.stdout = p.cmd.Process.Pid, out
	p.started, _ = startTime(p.pid) // it is there: nobody has waited for it
	go func() {                     // reaps the child whenever it ends, at latest when this process does
		_ = p.cmd.Wait() // how it ended is in the plugin's log, if anywhere
		p.finish()
		_ = out.SetReadDeadline(time.Now().Add(drain))
	}()
	return nil
}

// finish marks the end of the process.
func (p *process) finish() {
	close(p.ended)
	_ = p.log.SetReadDeadline(time.Now().Add(drain)) // what the plugin's own children write is no longer read
}

// found is a process that an earlier host started. Another process that has got its number is not taken for it.
func found(r *Reattach) (*process, error) {
	fd, err := unix.PidfdOpen(r.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", r.Pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	if started, err := startTime(r.Pid); err != nil || started != r.Started {
		file.Close()
		return nil, fmt.Errorf("process %d is another one", r.Pid)
	}
	p, err := newProcess(r.Dir)
	if err != nil {
		file.Close()
		return nil, err
	}
	p.pid, p.started, p.file = r.Pid, r.Started, file
	p.watching.Go(func() {
		if p.awaitEnd() == nil {
			p.finish()
		}
	})
	return p, nil
}

// awaitEnd blocks until the process behind the pidfd has ended, or the pidfd is closed.
func (p *process) awaitEnd() error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && ready > 0
	})
}

// letGo ends all that the host has of the process; the process goes on.
func (p *process) letGo() {
	p.leave()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true // it must not start now
	for _, f := range []*os.File{p.log, p.file, p.stdout, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
	p.watching.Wait()
}

// Wait returns when the process has ended or the host lets go of it.
func (p *process) Wait(context.Context) error {
	select {
	case <-p.ended:
	case <-p.left:
	}
	return nil
}

// Kill ends the process by force, or keeps it from starting.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.stderr != nil {
		p.stderr.Close() // if it never started, this is what ends its log
	}
	var err error
	switch {
	case p.cmd != nil && p.cmd.Process != nil:
		err = p.cmd.Process.Kill()
	case p.file != nil:
		var conn syscall.RawConn
		if conn, err = p.file.SyscallConn(); err == nil {
			controlErr := conn.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
			err = errors.Join(err, controlErr)
		}
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// The rest of go-plugin's runner. Its log reader gets nothing: relay reads the log.

func (p *process) Stdout() io.ReadCloser           { return p.stdout }
func (p *process) Stderr() io.ReadCloser           { return io.NopCloser(strings.NewReader("")) }
func (p *process) Name() string                    { return "plugin" }
func (p *process) ID() string                      { return strconv.Itoa(p.pid) }
func (p *process) Diagnose(context.Context) string { return "" }

func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// startTime is when a process started, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses that may hold anything; the 22nd is the start time.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("not a process's stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
