package server

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/server/state"
)

// maxWait is how long a blocking query may take, and takes if the client does not say.
const maxWait = 5 * time.Minute

// read is a request for state: what it asks about, and from which index on it wants to know.
type read struct {
	*http.Request
	namespace string // "*" is all
	prefix    string
	filter    string
	index     uint64
	wait      time.Duration
	page      page
}

// answer is what a read found: index is that of the object, or of the newest change of its table.
type answer struct {
	body  any
	index uint64
	next  string // where the next page begins
}

// query answers a read from a snapshot; keys are what it depends on.
type query struct {
	keys func(q *read) []state.Key
	find func(h *Hub, snap *state.Snapshot, q *read) (answer, error)
}

// reads makes an endpoint of a query, blocking while the client asks for something newer than there is.
func reads(q query) endpoint {
	return func(h *Hub, w http.ResponseWriter, r *http.Request) error {
		rd, err := parseRead(r)
		if err != nil {
			return err
		}
		a, err := h.await(r.Context(), q, rd)
		if err != nil {
			return err
		}
		h.stamp(w, a)
		return writeJSON(w, r, a.body)
	}
}

// stamp writes the headers that say how current an answer is.
func (h *Hub) stamp(w http.ResponseWriter, a answer) {
	_, known := h.leader()
	hd := w.Header()
	hd.Set(api.HeaderIndex, strconv.FormatUint(max(a.index, 1), 10))
	hd.Set(api.HeaderKnownLeader, strconv.FormatBool(known))
	hd.Set(api.HeaderLastContact, strconv.FormatInt(h.lastContact().Milliseconds(), 10))
	if a.next != "" {
		hd.Set(api.HeaderNextToken, a.next)
	}
}

// await answers at once, or when the answer's index passes the one asked for, or when the wait is over.
func (h *Hub) await(ctx context.Context, q query, r *read) (answer, error) {
	if r.index == 0 {
		return q.find(h, h.store.Snapshot(), r)
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait+rand.N(r.wait/16+1))
	defer cancel()
	for {
		changed, stop := h.store.Watch(q.keys(r)...)
		a, err := q.find(h, h.store.Snapshot(), r)
		if err != nil || max(a.index, 1) > r.index {
			stop()
			return a, err
		}
		select {
		case <-changed:
			stop()
		case <-ctx.Done():
			stop()
			return a, nil
		}
	}
}

// parseRead reads the parameters that all reads share.
func parseRead(r *http.Request) (*read, error) {
	v := r.URL.Query()
	rd := &read{Request: r, prefix: v.Get("prefix"), filter: v.Get("filter"), wait: maxWait}
	var err error
	if rd.namespace, err = namespaceOf(r); err != nil {
		return nil, err
	}
	if s := v.Get("index"); s != "" {
		if rd.index, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, api.E(api.ErrInvalid, "Invalid index")
		}
	}
	if s := v.Get("wait"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return nil, api.E(api.ErrInvalid, "Invalid wait time")
		}
		if d > 0 {
			rd.wait = min(d, maxWait)
		}
	}
	rd.page, err = parsePage(v)
	return rd, err
}

// namespaceOf is the namespace that a request works in. Only the default one exists yet; "*" reads all.
func namespaceOf(r *http.Request) (string, error) {
	switch ns := r.URL.Query().Get("namespace"); ns {
	case "", api.DefaultNamespace:
		return api.DefaultNamespace, nil
	case api.AllNamespaces:
		return api.AllNamespaces, nil
	default:
		return "", api.E(api.ErrInvalid, "namespace \""+ns+"\": not supported yet, only \"default\" exists")
	}
}

// writeNamespace is namespaceOf for writes, which need one namespace.
func writeNamespace(r *http.Request) (string, error) {
	ns, err := namespaceOf(r)
	if err == nil && ns == api.AllNamespaces {
		return "", api.E(api.ErrInvalid, "namespace \"*\" is for reading only")
	}
	return ns, err
}
