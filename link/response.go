package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"
)

// maxBuffered is how much of an answer is kept back, so that a short one has a length and is one write.
const maxBuffered = 16 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// errShort ends a stream whose handler promised a longer body than it wrote.
var errShort = errors.New("body shorter than its Content-Length")

// response is the small loop's http.ResponseWriter and http.Flusher. It holds no buffer before the handler writes.
type response struct {
	st      *stream
	req     *http.Request
	header  http.Header   // what is sent; the handler's until status is known
	late    http.Header   // the handler's after that; nobody reads it
	status  int           // 0 until known
	buf     *bytes.Buffer // pooled; nil until something is written
	sent    bool          // the head is on the wire; header no longer counts
	chunked bool          // how the body follows a sent head
	length  int64         // the body's promised length, -1 if none was
	written int64
	err     error // the stream's first error
}

func newResponse(st *stream, req *http.Request) *response {
	return &response{st: st, req: req, header: make(http.Header), length: -1}
}

// Header is as http.ResponseWriter says.
func (w *response) Header() http.Header {
	if w.status == 0 {
		return w.header
	}
	if w.late == nil {
		w.late = w.header.Clone()
	}
	return w.late
}

// WriteHeader is as http.ResponseWriter says; informational statuses are not sent.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.status = status
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	} else {
		w.header.Del("Content-Length")
	}
}

// Write is as http.ResponseWriter says.
func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
	if !w.bodyAllowed() {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	w.guessType(p)
	if w.req.Method == http.MethodHead {
		return len(p), nil
	}
	if w.buf == nil {
		w.buf = buffers.Get().(*bytes.Buffer)
	}
	if w.buf.Len()+len(p) <= maxBuffered {
		return w.buf.Write(p)
	}
	w.flush()
	if w.err == nil {
		w.err = w.send(p)
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// guessType sets the type that the first bytes of a body suggest, if the handler named none.
func (w *response) guessType(p []byte) {
	if w.sent || len(p) == 0 || w.header.Get("Content-Encoding") != "" {
		return
	}
	if _, set := w.header["Content-Type"]; !set {
		w.header.Set("Content-Type", http.DetectContentType(p))
	}
}

// Flush sends what was written.
func (w *response) Flush() {
	w.WriteHeader(http.StatusOK)
	if w.err == nil {
		w.flush()
	}
}

func (w *response) flush() {
	if !w.sent {
		w.sent = true
		w.chunked = w.length < 0 && w.bodyAllowed() && w.req.Method != http.MethodHead
		w.err = w.sendHead()
	}
	if w.err == nil && w.buf != nil && w.buf.Len() > 0 {
		w.err = w.send(w.buf.Bytes())
		w.buf.Reset()
	}
}

// finish sends what is left; keep tells that the stream can carry another request.
func (w *response) finish() (keep bool, err error) {
	defer w.discard()
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return false, w.err
	}
	if w.length >= 0 && w.written != w.length && w.bodyAllowed() && w.req.Method != http.MethodHead {
		return false, errShort
	}
	if !w.sent {
		return w.keepAlive(), w.sendWhole()
	}
	if w.flush(); w.err == nil && w.chunked {
		_, w.err = io.WriteString(w.st, "0\r\n\r\n")
	}
	return w.keepAlive(), w.err
}

// sendWhole sends head and body in one write.
func (w *response) sendWhole() error {
	var body []byte
	if w.buf != nil {
		body = w.buf.Bytes()
	}
	// A HEAD says what GET would: no length where that would be chunked, or where the handler skipped the body.
	head := w.req.Method == http.MethodHead
	if w.bodyAllowed() && w.length < 0 && (!head || w.written > 0 && w.written <= maxBuffered) {
		w.length = w.written
		w.header.Set("Content-Length", strconv.FormatInt(w.length, 10))
	}
	out := buffers.Get().(*bytes.Buffer)
	defer putBuffer(out)
	w.writeHead(out)
	out.Write(body)
	_, err := w.st.Write(out.Bytes())
	return err
}

func (w *response) sendHead() error {
	if w.chunked {
		w.header.Set("Transfer-Encoding", "chunked")
	}
	out := buffers.Get().(*bytes.Buffer)
	defer putBuffer(out)
	w.writeHead(out)
	_, err := w.st.Write(out.Bytes())
	return err
}

func (w *response) writeHead(out *bytes.Buffer) {
	if !w.bodyAllowed() {
		w.header.Del("Content-Length")
	}
	if _, set := w.header["Date"]; !set {
		w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	fmt.Fprintf(out, "HTTP/1.1 %03d %s\r\n", w.status, http.StatusText(w.status))
	_ = w.header.Write(out) // into memory: cannot fail
	out.WriteString("\r\n")
}

// send writes a part of the body.
func (w *response) send(p []byte) error {
	if !w.chunked {
		_, err := w.st.Write(p)
		return err
	}
	out := buffers.Get().(*bytes.Buffer)
	defer putBuffer(out)
	cw := httputil.NewChunkedWriter(out)
	if _, err := cw.Write(p); err != nil {
		return err
	}
	_, err := w.st.Write(out.Bytes())
	return err
}

// discard gives the buffer back.
func (w *response) discard() {
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
}

func (w *response) bodyAllowed() bool {
	return w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

func (w *response) keepAlive() bool { return !tokenIn(w.header, "Connection", "close") }

// putBuffer keeps a buffer for the next answer, unless it has grown large.
func putBuffer(b *bytes.Buffer) {
	if b.Cap() > 4*maxBuffered {
		return
	}
	b.Reset()
	buffers.Put(b)
}
