//go:build linux

package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/api"
)

const (
	// maxIndex bounds a file's number: a task that makes a file of the highest number stops only its own logs.
	maxIndex = 1<<53 - 1
	// maxListed bounds how much of a directory is looked at, so that a task cannot make the log process read for ever.
	maxListed = 16384
	// createTries is how many names that tasks took are passed over before a file counts as impossible to make.
	createTries = 64
)

// directory is an open log directory. Tasks may write in it, so names are looked up through its descriptor, links are
// never followed, and only regular files count.
type directory struct{ fd int }

// openDirectory opens dir below root (or, with root empty, absolute dir) following no link in dir.
func openDirectory(root, dir string) (*directory, error) {
	if root == "" {
		root = "/"
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", root, err)
	}
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("open %s: %w: leads upwards", dir, api.ErrInvalid)
		}
		next, err := retryEINTR(func() (int, error) {
			return unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		_ = unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("open %s in %s: at %q: %w", dir, root, name, err)
		}
		fd = next
	}
	return &directory{fd}, nil
}

func (d *directory) close() error { return unix.Close(d.fd) }

// indexes returns the numbers of the regular files called base.N, ascending.
func (d *directory) indexes(base string) ([]uint64, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list log directory: %w", err)
	}
	// The name counts where the file system does not tell the types of entries: they are looked up below it then.
	f := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd))
	defer f.Close()
	var found []uint64
	for seen := 0; seen < maxListed; {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if n, ok := indexOf(e.Name(), base); ok && e.Type().IsRegular() {
				found = append(found, n)
			}
		}
		seen += len(entries)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list log directory: %w", err)
		}
	}
	slices.Sort(found)
	return found, nil
}

// indexOf returns N of a name that is base.N, in the one way of writing N.
func indexOf(name, base string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, base+".")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= maxIndex && strconv.FormatUint(n, 10) == digits
}

func fileName(base string, index uint64) string {
	return base + "." + strconv.FormatUint(index, 10)
}

// open opens a regular file for reading.
func (d *directory) open(name string) (*os.File, error) {
	fd, _, err := d.openRegular(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// reopen opens a file that this process's user made earlier for writing on. A file of another owner or with a second
// name may be a trap that a task laid, and is refused.
func (d *directory) reopen(name string) (fd int, size int64, err error) {
	fd, st, err := d.openRegular(name, unix.O_WRONLY)
	if err != nil {
		return -1, 0, err
	}
	if st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("%s: %w: not made by the log process", name, api.ErrConflict)
	}
	return fd, st.Size, nil
}

// openRegular opens a name if it is a regular file. O_NONBLOCK keeps a pipe in its place from blocking the open.
func (d *directory) openRegular(name string, mode int) (int, *unix.Stat_t, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(d.fd, name, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, nil, pathError("open", name, err)
	}
	st := new(unix.Stat_t)
	if err := unix.Fstat(fd, st); err != nil {
		_ = unix.Close(fd)
		return -1, nil, pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, nil, fmt.Errorf("%s: %w: not a regular file", name, api.ErrConflict)
	}
	return fd, st, nil
}

// create makes a new file with the number from or the next free one above it. Tasks may read their logs, so 0644.
func (d *directory) create(base string, from uint64) (fd int, index uint64, err error) {
	for index = from; index <= maxIndex && index < from+createTries; index++ {
		fd, err = retryEINTR(func() (int, error) {
			return unix.Openat(d.fd, fileName(base, index),
				unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		})
		if err == nil {
			return fd, index, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return -1, 0, pathError("create", fileName(base, index), err)
		}
	}
	return -1, 0, fmt.Errorf("create %s: %w: names are taken", fileName(base, from), api.ErrConflict)
}

// remove removes a file; one that is gone is no error.
func (d *directory) remove(name string) error {
	if err := unix.Unlinkat(d.fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("remove", name, err)
	}
	return nil
}

// retryEINTR repeats a system call while a signal interrupts it.
func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
