package link

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	readerSize  = 4 << 10 // also the longest head that the loop takes
	maxLoopBody = 1 << 20 // of a request; read whole before the handler runs
)

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }}

// loop serves HTTP/1.1 requests on a stream one after the other. It is small in memory: while it waits for a request,
// and while a handler that has its request parks, no buffer is held.
func (sv *serving) loop(st *stream) {
	var ahead []byte // read already, of the next request
	for {
		if len(ahead) == 0 {
			if n, err := st.Read(st.first[:]); n == 0 || err != nil {
				st.Close()
				return
			}
			ahead = st.first[:]
		}
		req, rest, err := sv.readRequest(st, ahead)
		if err != nil {
			st.Close()
			return
		}
		if req == nil {
			sv.std().take(&replayConn{stream: st, r: io.MultiReader(bytes.NewReader(rest), st)})
			return
		}
		ahead = rest
		if len(ahead) == 0 {
			st.Shrink()
		}
		if ahead, err = sv.answer(st, req, ahead); err != nil {
			st.Close()
			return
		}
	}
}

// readRequest reads a request and its body; rest is what came after it. A request that is not plain is nil, and rest
// all that was read.
func (sv *serving) readRequest(st *stream, ahead []byte) (req *http.Request, rest []byte, err error) {
	if err := st.SetReadDeadline(time.Now().Add(headTimeout)); err != nil {
		return nil, nil, err
	}
	br := readers.Get().(*bufio.Reader)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	br.Reset(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), st))
	all, whole, err := peekHead(br)
	if err != nil {
		return nil, nil, err
	}
	if whole {
		if req, err = http.ReadRequest(br); err != nil {
			return nil, nil, err
		}
	}
	if !whole || !plain(req) { // all is intact: parsing what was buffered has read nothing over it
		return nil, bytes.Clone(all), st.SetReadDeadline(time.Time{})
	}
	if req.ContentLength > 0 {
		if err := st.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	if n := br.Buffered(); n > 0 {
		all, _ := br.Peek(n)
		rest = bytes.Clone(all)
	}
	return req, rest, st.SetReadDeadline(time.Time{})
}

// peekHead buffers a request's head and returns all that is buffered; whole is false if the head does not fit.
func peekHead(br *bufio.Reader) (all []byte, whole bool, err error) {
	for n := 1; n <= readerSize; n = br.Buffered() + 1 {
		if _, err := br.Peek(n); err != nil {
			return nil, false, err
		}
		all, _ = br.Peek(br.Buffered()) // cannot fail
		if bytes.Contains(all, []byte("\r\n\r\n")) {
			return all, true, nil
		}
	}
	return all, false, nil
}

// plain tells whether the loop can serve a request; net/http serves the others.
func plain(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.Method != http.MethodConnect &&
		len(r.TransferEncoding) == 0 && r.ContentLength >= 0 && r.ContentLength <= maxLoopBody &&
		r.Header.Get("Expect") == "" && r.Header.Get("Upgrade") == "" && len(r.Trailer) == 0
}

// answer runs the handler. It returns what the client sent beyond the request, or an error if the stream cannot carry
// another request.
func (sv *serving) answer(st *stream, req *http.Request, ahead []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(sv.ctx)
	defer cancel()
	req.RemoteAddr = st.RemoteAddr().String()
	w := newResponse(st, req)
	watch := sv.watchClient(st, cancel)
	aborted := sv.run(w, req.WithContext(ctx))
	got, gone := sv.stopWatch(watch)
	if got {
		ahead = append(ahead, st.first[0])
	}
	if aborted || gone {
		w.discard()
		return nil, net.ErrClosed
	}
	keep, err := w.finish()
	if err == nil && (!keep || req.Close || tokenIn(req.Header, "Connection", "close")) {
		err = net.ErrClosed
	}
	return ahead, err
}

// run calls the handler; aborted tells that it panicked.
func (sv *serving) run(w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() {
		if v := recover(); v != nil { // http.ErrAbortHandler: recoverPanic has dealt with any other
			aborted = true
		}
	}()
	sv.handler.ServeHTTP(w, r)
	return false
}

// tokenIn tells whether a header has a token in one of its comma-separated lists.
func tokenIn(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// clientWatch finds out that the client of a running handler is gone. The session's keepalive looks, every three
// seconds: a goroutine that blocks in Read would see it at once, but cost each parked agent 5 KiB.
type clientWatch struct {
	st     *stream
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	got     bool // st.first holds the first byte of the next request
	gone    bool
}

func (sv *serving) watchClient(st *stream, cancel context.CancelFunc) *clientWatch {
	w := &clientWatch{st: st, cancel: cancel}
	sv.s.mu.Lock()
	defer sv.s.mu.Unlock()
	sv.s.watches[w] = struct{}{}
	return w
}

// look reads what is there, without waiting for more.
func (w *clientWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.got || w.gone {
		return
	}
	_ = w.st.SetReadDeadline(past) // yamux's deadlines cannot fail
	n, err := w.st.Read(w.st.first[:])
	w.got = n > 0
	if ne, ok := errors.AsType[net.Error](err); n == 0 && (!ok || !ne.Timeout()) {
		w.gone = true
		w.cancel()
	}
	_ = w.st.SetReadDeadline(time.Time{})
}

// stop ends the watch and tells what it saw.
func (sv *serving) stopWatch(w *clientWatch) (got, gone bool) {
	sv.s.mu.Lock()
	delete(sv.s.watches, w)
	sv.s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	return w.got, w.gone
}

// replayConn is a stream some of which was read already.
type replayConn struct {
	*stream
	r io.Reader
}

func (c *replayConn) Read(p []byte) (int, error) { return c.r.Read(p) }
