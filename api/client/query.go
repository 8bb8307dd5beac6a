package client

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/brumehq/brume/api"
)

// Query are the parameters that reads share. The zero value reads the default namespace at once.
type Query struct {
	Namespace string        // "" is the client's; "*" is all
	Index     uint64        // above 0: wait until the answer's index is greater
	Wait      time.Duration // how long at most; 0 is the hub's default, five minutes
	Prefix    string
	Filter    string
	Reverse   bool
	PerPage   int
	NextToken string
	Params    map[string]string // what only this endpoint knows
}

// Meta says how current an answer is, and where the next page begins.
type Meta struct {
	Index       uint64
	KnownLeader bool
	LastContact time.Duration
	NextToken   string
}

func (c *Client) values(q Query) url.Values {
	v := url.Values{}
	set := func(k, s string) {
		if s != "" {
			v.Set(k, s)
		}
	}
	ns := q.Namespace
	if ns == "" {
		ns = c.namespace
	}
	set("namespace", ns)
	set("prefix", q.Prefix)
	set("filter", q.Filter)
	set("next_token", q.NextToken)
	if q.Index > 0 {
		v.Set("index", strconv.FormatUint(q.Index, 10))
	}
	if q.Wait > 0 {
		v.Set("wait", strconv.FormatInt(q.Wait.Milliseconds(), 10)+"ms")
	}
	if q.Reverse {
		v.Set("reverse", "true")
	}
	if q.PerPage > 0 {
		v.Set("per_page", strconv.Itoa(q.PerPage))
	}
	for k, s := range q.Params {
		v.Set(k, s)
	}
	return v
}

func metaOf(h http.Header) Meta {
	index, _ := strconv.ParseUint(h.Get(api.HeaderIndex), 10, 64)
	ms, _ := strconv.ParseInt(h.Get(api.HeaderLastContact), 10, 64)
	return Meta{
		Index:       index,
		KnownLeader: h.Get(api.HeaderKnownLeader) == "true",
		LastContact: time.Duration(ms) * time.Millisecond,
		NextToken:   h.Get(api.HeaderNextToken),
	}
}
