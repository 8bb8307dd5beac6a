//go:build linux

package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/brumehq/brume/api"
)

const (
	// Path is where the handler expects its requests: Path + the allocation's ID.
	Path = "/v1/client/fs/logs/"

	frameBytes     = 64 << 10
	heartbeatEvery = time.Second
	// While following, files are looked at after minPoll when something came, and ever less often up to maxPoll when
	// nothing does. Polling, since a machine has far fewer inotify instances than it may have readers.
	minPoll = 10 * time.Millisecond
	maxPoll = 160 * time.Millisecond
	// shownDir precedes a file's name in frames: its path in the allocation's directory.
	shownDir = "alloc/logs/"
)

// Source is where one task's logs are.
type Source struct {
	Dir *os.Root // the allocation's log directory; the handler closes it
	// Ended is closed when the task is dead and the log process has closed its streams, so that no more will come.
	Ended <-chan struct{}
}

// Find returns where a task's logs are. Its errors are UnknownAllocation, UnknownTask, NotStarted, or of another of the
// api's kinds.
type Find func(allocID, task string) (Source, error)

// UnknownAllocation is the error for an allocation that is not on this node.
func UnknownAllocation(id string) error {
	return api.E(api.ErrNotFound, fmt.Sprintf("Unknown allocation %q", id))
}

// UnknownTask is the error for a task that an allocation does not have.
func UnknownTask(task string) error {
	return api.E(api.ErrNotFound, fmt.Sprintf("unknown task name %q", task))
}

// NotStarted is the error for a task that has not run yet.
func NotStarted(task string) error {
	return api.E(api.ErrNotFound, fmt.Sprintf("task %q not started yet. No logs available", task))
}

// NewHandler serves GET Path+id: the output of one task, plain or in frames (api.StreamFrame), followed until the task
// has ended if asked.
func NewHandler(find Find, log *slog.Logger) http.Handler {
	return &handler{find: find, log: log}
}

type handler struct {
	find Find
	log  *slog.Logger
}

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	id := strings.TrimPrefix(req.URL.Path, Path)
	q, err := parseQuery(req.URL.Query())
	if err != nil {
		refuse(w, err)
		return
	}
	src, err := h.find(id, q.task)
	if err != nil {
		refuse(w, err)
		return
	}
	r, err := openAt(src.Dir, q)
	if err != nil {
		h.log.Warn("logs not readable", "alloc", id, "err", err)
		refuse(w, err)
		return
	}
	defer r.Close()
	out := newOutput(w, q.plain)
	if err := out.flush(); err != nil {
		return // the client has gone
	}
	if q.follow {
		err = follow(req.Context(), r, src.Ended, out)
	} else {
		_, err = pour(req.Context(), r, make([]byte, frameBytes), out)
	}
	if err != nil && req.Context().Err() == nil {
		h.log.Warn("log stream broken off", "alloc", id, "err", err)
		_, _ = fmt.Fprintln(w, err) // the status is sent; what remains is to say it in the stream
	}
}

// openAt opens the stream that q names where q wants it read from.
func openAt(dir *os.Root, q query) (r *Reader, err error) {
	r, err = Open(dir, q.task+"."+q.stream)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	switch {
	case q.tail > 0:
		err = r.SeekTail(q.tail)
	case q.fromEnd:
		err = r.SeekEnd(q.offset)
	default:
		err = r.SeekStart(q.offset)
	}
	if err == nil && !q.follow {
		err = r.StopAtEnd()
	}
	return r, err
}

// pour sends all that there is and reports whether there was anything.
func pour(ctx context.Context, r *Reader, buf []byte, out *output) (bool, error) {
	for any := false; ; any = true {
		if err := ctx.Err(); err != nil {
			return any, err
		}
		c, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			return any, nil
		}
		if err != nil {
			return any, err
		}
		if err := out.send(c); err != nil {
			return any, err
		}
	}
}

// follow sends what there is and what comes, until ended is closed and all is sent, or ctx is done.
func follow(ctx context.Context, r *Reader, ended <-chan struct{}, out *output) error {
	buf := make([]byte, frameBytes)
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	wait := minPoll
	poll := time.NewTimer(wait)
	defer poll.Stop()
	for {
		last := isClosed(ended) // looked at before reading: what was written before it closed is read now
		any, err := pour(ctx, r, buf, out)
		if err != nil {
			return err
		}
		if any {
			wait = minPoll
			err = out.flush()
		} else {
			wait = min(2*wait, maxPoll)
		}
		if err != nil || last {
			return err
		}
		poll.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := out.beat(); err != nil {
				return err
			}
		case <-ended:
		case <-poll.C:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// output writes chunks to a client.
type output struct {
	w     io.Writer
	rc    *http.ResponseController
	enc   *json.Encoder
	plain bool
}

func newOutput(w http.ResponseWriter, plain bool) *output {
	if plain {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff") // a task's output is no page of ours
	return &output{w: w, rc: http.NewResponseController(w), enc: json.NewEncoder(w), plain: plain}
}

func (o *output) send(c Chunk) error {
	if o.plain {
		_, err := o.w.Write(c.Data)
		return err
	}
	return o.enc.Encode(api.StreamFrame{Offset: c.Offset, Data: c.Data, File: shownDir + c.File, FileEvent: c.Event})
}

// beat shows that the stream lives. Plain text has no word for that.
func (o *output) beat() error {
	if o.plain {
		return nil
	}
	if err := o.enc.Encode(api.StreamFrame{}); err != nil {
		return err
	}
	return o.flush()
}

func (o *output) flush() error {
	if err := o.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// refuse answers an error before the first byte.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, api.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, api.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, api.ErrDenied):
		status = http.StatusForbidden
	}
	if kind := api.KindName(err); kind != "" {
		w.Header().Set(api.HeaderError, kind)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, err.Error()) // a client that has gone needs no answer
}
