package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brumehq/brume/plugins/wire"
)

var (
	// ErrTaskNotFound is a driver's answer for a task that it does not know.
	ErrTaskNotFound = errors.New(wire.TaskNotFound)
	// ErrExitUnknown is a driver's answer for a task that ended unseen.
	ErrExitUnknown = errors.New("the task ended and its exit code is unknown")
	// ErrUnsupported is the answer of a driver that cannot do what is asked.
	ErrUnsupported = errors.New("the driver cannot do this")
	// ErrPluginGone is the answer of a Client whose plugin process has ended. Its tasks may well go on.
	ErrPluginGone = errors.New("the driver's plugin is gone")
)

// recoverableError is an error of Start after which another try may succeed.
type recoverableError struct{ err error }

func (e *recoverableError) Error() string { return e.err.Error() }
func (e *recoverableError) Unwrap() error { return e.err }

// NewRecoverable returns err as one after which starting the task again may succeed. Of nil it returns nil.
func NewRecoverable(err error) error {
	if err == nil {
		return nil
	}
	return &recoverableError{err}
}

// Recoverable reports whether starting a task again may succeed after err.
func Recoverable(err error) bool {
	_, ok := errors.AsType[*recoverableError](err)
	return ok
}

// toStatus is how an error of a driver travels. Kinds that the ecosystem has no code for travel as their text.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case Recoverable(err):
		st, detailErr := status.New(codes.FailedPrecondition, err.Error()).
			WithDetails(&wire.RecoverableError{Recoverable: true})
		if detailErr != nil { // cannot be: the message is ours
			return status.Error(codes.FailedPrecondition, err.Error())
		}
		return st.Err()
	case errors.Is(err, ErrUnsupported):
		return status.Error(codes.Unimplemented, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// maxErrorText bounds what is kept of a plugin's error.
const maxErrorText = 4 << 10

// fromStatus is what a driver's error is on the host's side.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if st.Code() == codes.Unimplemented {
		return ErrUnsupported
	}
	plain := fromText(st.Message())
	for _, d := range st.Details() {
		if r, ok := d.(*wire.RecoverableError); ok && r.GetRecoverable() {
			return NewRecoverable(plain)
		}
	}
	return plain
}

// fromText finds the sentinels that travel as text.
func fromText(text string) error {
	text = clip(text, maxErrorText)
	for _, known := range []error{ErrTaskNotFound, ErrExitUnknown} {
		if text == known.Error() {
			return known
		}
		if before, after, ok := strings.Cut(text, known.Error()); ok {
			return fmt.Errorf("%s%w%s", before, known, after)
		}
	}
	return errors.New(text)
}

// clip cuts s to n bytes at a rune's start, and makes it valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
