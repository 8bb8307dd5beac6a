package plugins

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brumehq/brume/plugins/wire"
)

// maxExecOutput bounds each output of a command whose caller waits for all of it at once.
const maxExecOutput = 1 << 20

func (s *driverServer) ExecTask(ctx context.Context, r *wire.ExecTaskRequest) (*wire.ExecTaskResponse, error) {
	if timeout := durationFromWire(r.GetTimeout()); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var stdout, stderr boundedBuffer
	result, err := s.c.Exec(ctx, r.GetTaskId(), r.GetCommand(), ExecIO{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return nil, toStatus(err)
	}
	return &wire.ExecTaskResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Result: result.toWire()}, nil
}

// boundedBuffer keeps the first maxExecOutput bytes and swallows the rest.
type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxExecOutput-b.Len())])
	return len(p), nil
}

func (s *driverServer) ExecTaskStreaming(stream wire.Driver_ExecTaskStreamingServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	setup := first.GetSetup()
	if setup == nil {
		return status.Error(codes.InvalidArgument, "the first message does not say what to run")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	stdin, feed := io.Pipe()
	defer stdin.Close()
	resize := make(chan TerminalSize)
	go receiveInput(ctx, stream, feed, resize) // ends with the stream, which ends when this returns
	out := &execSender{send: stream.Send}
	result, err := s.c.Exec(ctx, setup.GetTaskId(), setup.GetCommand(), ExecIO{
		Stdin: stdin, Stdout: out.writer(false), Stderr: out.writer(true), TTY: setup.GetTty(), Resize: resize,
	})
	if err != nil {
		return toStatus(err)
	}
	return out.frame(&wire.ExecTaskStreamingResponse{Exited: true, Result: result.toWire()})
}

// receiveInput passes on what the host sends until the stream ends.
func receiveInput(ctx context.Context, stream wire.Driver_ExecTaskStreamingServer, stdin *io.PipeWriter, resize chan<- TerminalSize) {
	for {
		m, err := stream.Recv()
		if err != nil {
			stdin.CloseWithError(io.EOF)
			return
		}
		if size := m.GetTtySize(); size != nil {
			select {
			case resize <- TerminalSize{int(size.GetHeight()), int(size.GetWidth())}:
			case <-ctx.Done():
			}
		}
		if data := m.GetStdin().GetData(); len(data) > 0 {
			_, _ = stdin.Write(data) // it fails only when the command has ended, and then its input is nobody's
		}
		if m.GetStdin().GetClose() {
			stdin.Close()
		}
	}
}

// execSender sends frames from several goroutines, one at a time.
type execSender struct {
	mu   sync.Mutex
	send func(*wire.ExecTaskStreamingResponse) error
}

func (s *execSender) frame(m *wire.ExecTaskStreamingResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(m)
}

func (s *execSender) writer(stderr bool) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		op := &wire.ExecTaskStreamingIOOperation{Data: p}
		m := &wire.ExecTaskStreamingResponse{Stdout: op}
		if stderr {
			m = &wire.ExecTaskStreamingResponse{Stderr: op}
		}
		if err := s.frame(m); err != nil {
			return 0, err
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Exec runs a command in the plugin. A Read of io.Stdin may still be pending when it returns; the caller ends it.
func (r *remote) Exec(ctx context.Context, taskID string, command []string, io ExecIO) (ExitResult, error) {
	bound, cancel := r.bound(ctx)
	defer cancel()
	stream, err := r.driver.ExecTaskStreaming(bound)
	if err != nil {
		return ExitResult{}, r.failure(ctx, err)
	}
	in := &execInput{stream: stream}
	setup := &wire.ExecTaskStreamingRequest_Setup{TaskId: taskID, Command: command, Tty: io.TTY}
	_ = in.frame(&wire.ExecTaskStreamingRequest{Setup: setup}) // a failure shows in Recv, with its reason
	if io.Stdin != nil {
		go in.copy(io.Stdin)
	} else {
		in.closeStdin()
	}
	if io.Resize != nil {
		go in.resizes(bound, io.Resize)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return ExitResult{}, r.failure(ctx, cut(err))
		}
		if err := errors.Join(deliver(io.Stdout, m.GetStdout()), deliver(io.Stderr, m.GetStderr())); err != nil {
			return ExitResult{}, err
		}
		if m.GetExited() {
			return exitFromWire(m.GetResult()), nil
		}
	}
}

// cut makes the end of a stream before the command's an error.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unknown, "the driver ended the stream before the command ended")
	}
	return err
}

func deliver(to io.Writer, op *wire.ExecTaskStreamingIOOperation) error {
	if to == nil || len(op.GetData()) == 0 {
		return nil
	}
	_, err := to.Write(op.GetData())
	return err
}

// execInput sends a host's frames from several goroutines, one at a time.
type execInput struct {
	mu     sync.Mutex
	stream wire.Driver_ExecTaskStreamingClient
}

func (in *execInput) frame(m *wire.ExecTaskStreamingRequest) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stream.Send(m)
}

// closeStdin ends the command's input; if that cannot be sent, the stream has ended and Recv says why.
func (in *execInput) closeStdin() {
	_ = in.frame(&wire.ExecTaskStreamingRequest{Stdin: &wire.ExecTaskStreamingIOOperation{Close: true}})
}

func (in *execInput) copy(stdin io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := stdin.Read(buf)
		if n > 0 {
			op := &wire.ExecTaskStreamingIOOperation{Data: buf[:n]}
			if in.frame(&wire.ExecTaskStreamingRequest{Stdin: op}) != nil {
				return
			}
		}
		if err != nil {
			in.closeStdin()
			return
		}
	}
}

func (in *execInput) resizes(ctx context.Context, sizes <-chan TerminalSize) {
	for {
		select {
		case s, ok := <-sizes:
			size := &wire.ExecTaskStreamingRequest_TerminalSize{Height: int32(s.Height), Width: int32(s.Width)}
			if !ok || in.frame(&wire.ExecTaskStreamingRequest{TtySize: size}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
