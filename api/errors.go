package api

import "errors"

// The five kinds of error. Servers map a kind to a status and name it in the X-Brume-Error header; the client maps it
// back, so errors.Is works across the wire whatever the status code is.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
	ErrConflict = errors.New("conflict")
	ErrDenied   = errors.New("Permission denied") //nolint:staticcheck // the text that clients know
	ErrNoLeader = errors.New("No cluster leader") //nolint:staticcheck // the text that clients know
)

// Error is an error of one of the five kinds whose text stands for itself ("job not found").
type Error struct {
	Kind error  // one of the five
	Text string // whole message, as clients match on it
}

// E makes an Error: E(ErrNotFound, "job not found").
func E(kind error, text string) error { return &Error{Kind: kind, Text: text} }

// Error returns the text alone.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// kinds pairs each kind with its name in HeaderError.
var kinds = [...]struct {
	name string
	err  error
}{
	{"not-found", ErrNotFound},
	{"invalid", ErrInvalid},
	{"conflict", ErrConflict},
	{"denied", ErrDenied},
	{"no-leader", ErrNoLeader},
}

// KindName returns the name of err's kind as HeaderError carries it, "" if it has none.
func KindName(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return ""
}

// KindOfName is the inverse of KindName: nil for a name that is none.
func KindOfName(name string) error {
	for _, k := range kinds {
		if k.name == name {
			return k.err
		}
	}
	return nil
}
