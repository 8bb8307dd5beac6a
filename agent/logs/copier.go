//go:build linux

package logs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// pipeBytes is what a pipe holds by default.
const pipeBytes = 64 << 10

// copier moves bytes where splice into a file is refused, and throws bytes away. One serves all streams of a loop.
type copier struct {
	null    int    // /dev/null, for writing
	scratch [2]int // a pipe of our own, empty between calls
	buf     []byte
}

func newCopier() (*copier, error) {
	c := &copier{}
	if err := unix.Pipe2(c.scratch[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make scratch pipe: %w", err)
	}
	var err error
	if c.null, err = unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, errors.Join(pathError("open", "/dev/null", err), unix.Close(c.scratch[0]), unix.Close(c.scratch[1]))
	}
	return c, nil
}

func (c *copier) close() error {
	return errors.Join(unix.Close(c.null), unix.Close(c.scratch[0]), unix.Close(c.scratch[1]))
}

// copy writes at most limit of the pipe's bytes at off in file and only then takes them from the pipe: killed in between,
// the next process repeats them. Losing them would be the other choice.
func (c *copier) copy(pipe, file int, off, limit int64) (int64, error) {
	if c.buf == nil {
		c.buf = make([]byte, pipeBytes)
	}
	n, err := unix.Tee(pipe, c.scratch[1], int(min(limit, pipeBytes)), unix.SPLICE_F_NONBLOCK)
	if err != nil || n == 0 {
		return 0, err
	}
	data := c.buf[:n]
	if _, err := unix.Read(c.scratch[0], data); err != nil {
		return 0, fmt.Errorf("read scratch pipe: %w", err)
	}
	k, err := retryEINTR(func() (int, error) { return unix.Pwrite(file, data, off) })
	if err != nil {
		return 0, err
	}
	return c.discard(pipe, int64(k)), nil
}

// discard throws away at most limit of the pipe's bytes and returns how many it threw.
func (c *copier) discard(pipe int, limit int64) int64 {
	var n int64
	for n < limit {
		k, err := unix.Splice(pipe, nil, c.null, nil, int(limit-n), unix.SPLICE_F_NONBLOCK)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || k == 0 {
			break
		}
		n += k
	}
	return n
}
