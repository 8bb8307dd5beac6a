//go:build linux

package logs

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the log process and the task that writes, as processes that can be killed.
const roleEnv = "BRUME_LOGS_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "sink":
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		err = ServeSink(context.Background(), SinkConfig{Socket: os.Args[1], Log: log})
	case "small-disk-sink":
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		if err = unix.Mount("none", os.Args[2], "tmpfs", 0, "size="+smallDisk); err == nil {
			err = ServeSink(context.Background(), SinkConfig{Socket: os.Args[1], Log: log})
		}
	case "writer":
		err = writeNumbers(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// smallDisk is the size of the disk that the role small-disk-sink has for itself.
const smallDisk = "256k"

// role makes a command that runs this binary in another role.
func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// writeNumbers writes the numbers 0 to count-1, each in a line, to a pipe in writes of many sizes, and now and then says
// on standard output how far it got.
func writeNumbers(fifo, countText string) error {
	count, err := strconv.Atoi(countText)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	for n := range count {
		fmt.Fprintf(out, "%d\n", n)
		if rand.IntN(20) == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if rand.IntN(5000) == 0 {
			fmt.Println(n)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Close()
}
