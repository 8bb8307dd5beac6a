package server

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brumehq/brume/api"
)

const (
	maxBody     = 8 << 20          // bytes of a request's body; a job is far below
	bodyTimeout = 30 * time.Second // from a request with a body to its answer: who sends slower holds a connection for nothing
	gzipMinimum = 1 << 10          // bytes; a smaller answer goes uncompressed
)

// endpoint answers requests of one path and method. An error that it returns becomes the answer if nothing was written.
type endpoint func(h *Hub, w http.ResponseWriter, r *http.Request) error

// route is one path of the API and what answers each of its methods.
type route struct {
	path string // as in package net/http: /v1/job/{id}
	get  endpoint
	put  endpoint // PUT and POST are one
	del  endpoint
	open bool // needs no token
}

// routeTable is the whole API.
func routeTable() []route {
	return slices.Concat(jobRoutes, workRoutes, nodeRoutes, agentRoutes, unbuiltRoutes)
}

// nodeVerb begins the paths below one node. They are told apart by their verb: the mux cannot order them against
// /v1/node/pool/{name}.
const nodeVerb = "/v1/node/{id}/"

// routes returns the HTTP API.
func (h *Hub) routes() http.Handler {
	mux := http.NewServeMux()
	verbs := map[string]http.Handler{}
	for _, rt := range routeTable() {
		if verb, ok := strings.CutPrefix(rt.path, nodeVerb); ok {
			verbs[verb] = h.handler(rt)
			continue
		}
		mux.Handle(rt.path, h.handler(rt))
	}
	mux.HandleFunc(nodeVerb+"{verb}", func(w http.ResponseWriter, r *http.Request) {
		if serve, ok := verbs[r.PathValue("verb")]; ok {
			serve.ServeHTTP(w, r)
			return
		}
		noSuchPath(w, r)
	})
	mux.HandleFunc("/", noSuchPath)
	return mux
}

// noSuchPath answers a path that is no route, as clients know it: without a word.
func noSuchPath(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }

// Routes lists the API as "METHOD /path", for tests that must cover each of them.
func Routes() []string {
	var out []string
	for _, rt := range routeTable() {
		for _, m := range []struct {
			method string
			serve  endpoint
		}{{http.MethodGet, rt.get}, {http.MethodPut, rt.put}, {http.MethodDelete, rt.del}} {
			if m.serve != nil {
				out = append(out, m.method+" "+rt.path)
			}
		}
	}
	return out
}

// handler checks token and method, then lets the endpoint answer.
func (h *Hub) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		var serve endpoint
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			serve = rt.get
		case http.MethodPut, http.MethodPost:
			serve = rt.put
		case http.MethodDelete:
			serve = rt.del
		}
		if !rt.open {
			if err := h.token(secretOf(r)); err != nil {
				writeError(w, err)
				return
			}
		}
		if serve == nil {
			writeError(w, withStatus(http.StatusMethodNotAllowed, api.E(api.ErrInvalid, "Invalid method")))
			return
		}
		if region := r.URL.Query().Get("region"); region != "" && !h.inRegion(region) {
			writeError(w, withStatus(http.StatusInternalServerError, errRegion))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if r.Body != http.NoBody && r.ContentLength != 0 {
			// What cannot have a deadline is a recorder in a test: nothing arrives slowly there.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		if err := serve(h, w, r); err != nil {
			writeError(w, err)
		}
	})
}

// errRegion refuses what is meant for another region, in words that clients know.
var errRegion = api.E(api.ErrInvalid, "No path to region")

// inRegion reports whether a request for a region is for this one: clients say the default one where they know none.
func (h *Hub) inRegion(region string) bool {
	return region == h.cfg.Region || region == api.DefaultRegion
}

// secretOf is the token that a request carries, "" if none.
func secretOf(r *http.Request) string {
	if t := r.Header.Get(api.HeaderToken); t != "" {
		return t
	}
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return t
	}
	return ""
}

// statusError is an error whose status differs from that of its kind, because clients know it so.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// withStatus gives err a status of its own.
func withStatus(status int, err error) error { return &statusError{status, err} }

// writeError answers with an error: its status, its kind in X-Brume-Error and its bare text.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var own *statusError
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.As(err, &own):
		status = own.status
	case large:
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, api.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, api.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, api.ErrDenied):
		status = http.StatusForbidden
	case errors.Is(err, api.ErrConflict):
		status = http.StatusConflict
	}
	if kind := api.KindName(err); kind != "" {
		w.Header().Set(api.HeaderError, kind)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(err.Error())) // the client has gone: nobody is left to tell
}

// decode reads a JSON body; what is wrong with it is the client's error.
func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return err
		}
		return api.E(api.ErrInvalid, err.Error())
	}
	return nil
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid constant
	return w
}}

// writeJSON answers 200 with v, compressed where the client asks and it is worth it.
func writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	indent := ""
	if p := r.URL.Query().Get("pretty"); p != "" && p != "0" {
		indent = "    "
	}
	body, err := marshal(v, indent)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if len(body) < gzipMinimum || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, err = w.Write(body)
		return ignoreWrite(err)
	}
	w.Header().Set("Content-Encoding", "gzip")
	gz := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(gz)
	gz.Reset(w)
	_, err = gz.Write(body)
	return ignoreWrite(errors.Join(err, gz.Close()))
}

// ignoreWrite drops the error of writing to a client that has gone: nobody is left to answer.
func ignoreWrite(error) error { return nil }

// marshal is json.Marshal without the escaping of HTML: job files and clients hold "<" and "&" as they are. With an
// indent, members are on lines of their own.
func marshal(v any, indent string) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// writeIndexed answers a write: its index goes into the header.
func writeIndexed(w http.ResponseWriter, r *http.Request, index uint64, v any) error {
	w.Header().Set(api.HeaderIndex, strconv.FormatUint(index, 10))
	return writeJSON(w, r, v)
}

// flag reports whether a query parameter is given and not "false" or "0".
func flag(q url.Values, name string) bool {
	if !q.Has(name) {
		return false
	}
	v := q.Get(name)
	return v != "false" && v != "0"
}
