package keeper

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pipes are the read ends that the keeper holds of a process's output: as long as it does, the process never sees a
// broken pipe, and what is in a pipe waits for the log process.
type pipes []int

// hold opens the read end of path if it is a pipe.
func (p *pipes) hold(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return err
	}
	*p = append(*p, fd)
	return nil
}

func (p *pipes) release() {
	for _, fd := range *p {
		unix.Close(fd)
	}
	*p = nil
}

// output opens path for a process to write to, and holds its read end if it is a pipe.
func (p *pipes) output(path string) (int, error) {
	if path == "" {
		path = os.DevNull
	}
	if err := p.hold(path); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) {
		return -1, fmt.Errorf("output: %w", err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, fmt.Errorf("output: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return fd, nil
}
