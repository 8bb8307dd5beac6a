package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	processStart  = 10 * time.Second // how long a helper process may take to serve its socket
	processPoll   = 5 * time.Millisecond
	restartLimit  = 10 * time.Second // between starts of a process that keeps dying
	restartSteady = time.Minute      // a process that lived as long is restarted at once
)

// sidecar is a helper process of the node: in a session of its own, so that it outlives the agent, and found again by its
// socket.
type sidecar struct {
	name string
	exe  string
	args []string
	logs string // directory of its log file

	child  *os.Process // started by this agent; nil if an earlier one did
	served bool        // it has answered since it was started
}

// ensure calls dial until it succeeds, starting the process first if nobody answers.
func (s *sidecar) ensure(ctx context.Context, dial func(context.Context) error) error {
	err := dial(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := s.start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, processStart)
	defer cancel()
	for pause(ctx, processPoll) {
		if err = dial(ctx); err == nil {
			s.served = true
			return nil
		}
		if s.reap() {
			return fmt.Errorf("%s ended at once, see %s", s.name, s.logFile())
		}
	}
	return fmt.Errorf("%s does not answer: %w", s.name, err)
}

func (s *sidecar) logFile() string { return filepath.Join(s.logs, s.name+".log") }

// start begins the process. Nothing of it is tied to the agent: not its session, not its output, not its directory.
func (s *sidecar) start() error {
	s.reap()
	out, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(s.exe, s.args...)
	cmd.Dir = "/"
	cmd.Env = pluginEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.child, s.served = cmd.Process, false
	return nil
}

// starting reports whether this agent has started it and it has not answered since.
func (s *sidecar) starting() bool { return s.child != nil && !s.served }

// reap collects the process if it has ended, and reports whether it has.
func (s *sidecar) reap() bool {
	if s.child == nil {
		return false
	}
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(s.child.Pid, &status, syscall.WNOHANG, nil)
	if pid == s.child.Pid || errors.Is(err, syscall.ECHILD) {
		s.child = nil
		return true
	}
	return false
}

// awaitEnd waits until nobody serves socket any more, and the process that this agent started is collected. One that never
// answered could not be asked to end: it is told by a signal.
func (s *sidecar) awaitEnd(ctx context.Context, socket string) {
	if s.starting() && !s.reap() {
		_ = s.child.Signal(syscall.SIGTERM) // not collected, so the number is still its own
	}
	for ctx.Err() == nil {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		conn.Close()
		if !pause(ctx, processPoll) {
			return
		}
	}
	for s.child != nil && !s.reap() && pause(ctx, processPoll) {
	}
}

// pluginEnv is the part of an environment that helper processes and plugins may see: never our tokens.
func pluginEnv(environ []string) []string {
	allowed := []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG", "LD_LIBRARY_PATH", "GOMEMLIMIT", "GOGC"}
	var out []string
	for _, name := range allowed {
		for _, kv := range environ {
			if len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name {
				out = append(out, kv)
			}
		}
	}
	return out
}
