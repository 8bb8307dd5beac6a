package plugins

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// EndStrays ends the plugins that earlier hosts started below socketDir, all but the known ones, and removes their
// directories. A host that is killed between starting a plugin and noting its Reattach leaves one behind. It must not run
// beside Launch on the same directory.
func EndStrays(socketDir string, known []Reattach) error {
	entries, err := os.ReadDir(socketDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(socketDir, e.Name())
		if !e.IsDir() || slices.ContainsFunc(known, func(r Reattach) bool { return r.Dir == dir }) {
			continue
		}
		log := filepath.Join(dir, logPipe)
		if _, err := os.Lstat(log); errors.Is(err, fs.ErrNotExist) {
			continue // not a plugin's
		}
		errs = append(errs, killWritersOf(log), os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// killWritersOf kills the processes whose stderr is the pipe at path: a plugin, and what it started and left its stderr.
func killWritersOf(path string) error {
	stderrs, err := filepath.Glob("/proc/[0-9]*/fd/2")
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range stderrs {
		if target, err := os.Readlink(link); err != nil || target != path {
			continue // ended meanwhile, not ours to see, or another's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err != nil {
			continue
		}
		errs = append(errs, killWriter(pid, link, path))
	}
	return errors.Join(errs...)
}

// killWriter kills a process and waits until it has ended, if its stderr is still the pipe at path.
func killWriter(pid int, link, path string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if target, err := os.Readlink(link); err != nil || target != path {
		return nil // it ended before, and another may have its id
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(drain.Milliseconds()))
	return err
}
