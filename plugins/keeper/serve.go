package keeper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where a keeper is found and where it keeps its journal.
type Config struct {
	Socket string // unix socket; its directory is made 0700 if it is not there
	Dir    string // of the journal; of one keeper at a time
}

// Memory settings: the keeper is idle nearly always, and its heap is small.
const (
	gcPercent   = 30
	memoryLimit = 64 << 20
)

// acceptPause is how long the keeper takes no client after it could not take one.
const acceptPause = 100 * time.Millisecond

// Serve is a keeper until ctx ends or a client asks for its shutdown. The processes that it started go on. It must have a
// process of its own: it takes the ends of all children, becomes the parent of orphans, and tunes memory.
func Serve(ctx context.Context, c Config) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	// What this process inherited, its children must not.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep files from children: %w", err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	k, err := newKeeper(c.Dir)
	if err != nil {
		return err
	}
	defer k.close()
	ln, err := listen(c.Socket)
	if err != nil {
		return err
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	children := make(chan os.Signal, 1) // one is enough: reap takes all that have ended
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	running.Go(func() {
		for {
			select {
			case <-children:
				k.reap()
			case <-ctx.Done():
				return
			}
		}
	})
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		conn, err := ln.AcceptUnix()
		if err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause): // out of files or memory: the keeper must outlive it
				continue
			}
		}
		running.Go(func() {
			s := newSession(k, conn, cancel)
			s.run(ctx)
		})
	}
}

// lockDir makes the journal's directory and sees to it that one keeper uses it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another keeper uses %s: %w", dir, err)
	}
	return file, nil
}

// listen makes the socket, replacing one that a dead keeper left.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another keeper listens on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}
