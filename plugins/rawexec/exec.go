package rawexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/brumehq/brume/plugins"
)

// Exec runs a command beside a task: as its user, in its directory, with its environment. It has no terminal.
func (d *Driver) Exec(ctx context.Context, id string, command []string, pipes plugins.ExecIO) (plugins.ExitResult, error) {
	if _, err := d.inspect(ctx, id); err != nil {
		return plugins.ExitResult{}, err
	}
	task := d.known(id)
	if task == nil {
		return plugins.ExitResult{}, plugins.ErrTaskNotFound
	}
	if pipes.TTY {
		return plugins.ExitResult{}, fmt.Errorf("%w: give a command a terminal", plugins.ErrUnsupported)
	}
	if len(command) == 0 {
		return plugins.ExitResult{}, errors.New("no command")
	}
	path, err := find(command[0], task)
	if err != nil {
		return plugins.ExitResult{}, err
	}
	credential, err := credentialOf(task.User)
	if err != nil {
		return plugins.ExitResult{}, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Env, cmd.Dir = command, environ(task.Env), task.TaskDir()
	cmd.Stdout, cmd.Stderr = pipes.Stdout, pipes.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if credential != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{
			Uid: credential.UID, Gid: credential.GID, Groups: credential.Groups,
		}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputPatience
	if err := feed(cmd, pipes.Stdin); err != nil {
		return plugins.ExitResult{}, err
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return plugins.ExitResult{}, ctx.Err()
	}
	if cmd.ProcessState == nil { // it did not start
		return plugins.ExitResult{}, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus) // on Linux it is
	if status.Signaled() {
		return plugins.ExitResult{ExitCode: 128 + int(status.Signal()), Signal: int(status.Signal())}, nil
	}
	return plugins.ExitResult{ExitCode: status.ExitStatus()}, nil
}

// outputPatience is how long a command's output is still read after it has ended: its children may hold it open.
const outputPatience = time.Second

// feed copies from to the command's input. The copying goroutine ends with the command, or when from's Read next returns:
// a command must not wait for input that it did not ask for.
func feed(cmd *exec.Cmd, from io.Reader) error {
	if from == nil {
		return nil
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		defer in.Close()
		_, _ = io.Copy(in, from) // it fails when the command has ended
	}()
	return nil
}
