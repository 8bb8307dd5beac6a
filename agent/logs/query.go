//go:build linux

package logs

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/brumehq/brume/api"
)

// query is what a request for logs asks.
type query struct {
	task   string
	stream string // "stdout" or "stderr"
	follow bool
	plain  bool

	fromEnd bool
	offset  int64
	tail    int // above 0: only the last lines; offset does not count then
}

// parseQuery reads a request's parameters: task, type, follow, plain, origin, offset, and tail, which is ours.
func parseQuery(v url.Values) (query, error) {
	q := query{task: v.Get("task"), stream: v.Get("type")}
	if q.task == "" {
		return q, api.E(api.ErrInvalid, "must provide task name")
	}
	if !validBase(q.task) {
		return q, api.E(api.ErrInvalid, fmt.Sprintf("invalid task name %q", q.task))
	}
	if q.stream != "stdout" && q.stream != "stderr" {
		return q, api.E(api.ErrInvalid, fmt.Sprintf(`type %q is neither "stdout" nor "stderr"`, q.stream))
	}
	switch v.Get("origin") {
	case "", "start":
	case "end":
		q.fromEnd = true
	default:
		return q, api.E(api.ErrInvalid, fmt.Sprintf(`origin %q is neither "start" nor "end"`, v.Get("origin")))
	}
	var err error
	parse := func(name string, set func(string) error) {
		if text := v.Get(name); err == nil && text != "" && set(text) != nil {
			err = api.E(api.ErrInvalid, fmt.Sprintf("invalid %s %q", name, text))
		}
	}
	parse("follow", boolInto(&q.follow))
	parse("plain", boolInto(&q.plain))
	parse("offset", func(s string) (err error) {
		if q.offset, err = strconv.ParseInt(s, 10, 64); err == nil && q.offset < 0 {
			err = strconv.ErrRange
		}
		return err
	})
	parse("tail", func(s string) (err error) {
		if q.tail, err = strconv.Atoi(s); err == nil && q.tail < 0 {
			err = strconv.ErrRange
		}
		return err
	})
	return q, err
}

func boolInto(to *bool) func(string) error {
	return func(s string) (err error) {
		*to, err = strconv.ParseBool(s)
		return err
	}
}
