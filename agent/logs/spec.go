//go:build linux

package logs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

// StreamSpec says what one stream is collected from and kept in.
type StreamSpec struct {
	ID string // the caller's name for the stream, unique on the node

	// FIFO is the absolute path of the named pipe that the task writes to. It lies where no task can write.
	FIFO string

	// Root is a directory that no task can replace, such as the allocation's, and Dir the log directory below it, as
	// "alloc/logs". Dir is opened without following a symbolic link at any step, since tasks may write in its parents. With
	// Root empty, Dir is absolute and no link is followed on the whole way.
	Root string
	Dir  string

	Base        string // files are called Base.0, Base.1, …: "web.stdout"
	MaxFiles    int    // at least 1
	MaxFileSize int64  // bytes, at least 1; every file but the newest has exactly this size
}

// Validate reports all faults of a specification.
func (s StreamSpec) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.ID == "" {
		fault("ID: missing")
	}
	if !filepath.IsAbs(s.FIFO) {
		fault("FIFO %q: not an absolute path", s.FIFO)
	}
	switch {
	case s.Root == "" && !filepath.IsAbs(s.Dir):
		fault("Dir %q: not an absolute path, and no Root", s.Dir)
	case s.Root != "" && !filepath.IsAbs(s.Root):
		fault("Root %q: not an absolute path", s.Root)
	case s.Root != "" && !filepath.IsLocal(s.Dir):
		fault("Dir %q: not below Root", s.Dir)
	}
	if !validBase(s.Base) {
		fault("Base %q: not a file name", s.Base)
	}
	if s.MaxFiles < 1 {
		fault("MaxFiles %d: below 1", s.MaxFiles)
	}
	if s.MaxFileSize < 1 {
		fault("MaxFileSize %d: below 1", s.MaxFileSize)
	}
	if errs == nil {
		return nil
	}
	return api.E(api.ErrInvalid, fmt.Sprintf("log stream %q: %v", s.ID, errors.Join(errs...)))
}

// validBase reports whether base is one name of a directory.
func validBase(base string) bool {
	return base != "" && base != "." && base != ".." && !strings.ContainsAny(base, "/\x00")
}

// MakeFIFO makes the named pipe at path with mode 0600; one that is there already is kept, with what is in it.
func MakeFIFO(path string) error {
	err := unix.Mkfifo(path, 0o600)
	if err == nil || !errors.Is(err, unix.EEXIST) {
		return pathError("make pipe", path, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return pathError("make pipe", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("make pipe %s: %w: not a pipe", path, api.ErrConflict)
	}
	return nil
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}
