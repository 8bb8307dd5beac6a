package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/brumehq/brume/api"
)

// LogQuery names a task's output stream and where to read it from.
type LogQuery struct {
	Alloc  string
	Task   string
	Type   string // "stdout" or "stderr"
	Follow bool
	Offset int64  // bytes from Origin
	Origin string // "start" or "end"
	Tail   int    // above 0: only the last Tail lines; Offset and Origin do not count then
}

func (c *Client) openLogs(ctx context.Context, q LogQuery, plain bool) (io.ReadCloser, error) {
	params := map[string]string{
		"task": q.Task, "type": q.Type, "follow": strconv.FormatBool(q.Follow),
		"offset": strconv.FormatInt(q.Offset, 10), "origin": q.Origin, "plain": strconv.FormatBool(plain),
	}
	if q.Origin == "" {
		params["origin"] = "start"
	}
	if q.Tail > 0 {
		params["tail"] = strconv.Itoa(q.Tail)
	}
	r := request{method: http.MethodGet, path: "/v1/client/fs/logs/" + url.PathEscape(q.Alloc), query: c.values(Query{Params: params})}
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Logs opens a task's output as plain bytes. The caller closes it; with Follow it ends when the task has and all is read.
func (c *Client) Logs(ctx context.Context, q LogQuery) (io.ReadCloser, error) {
	return c.openLogs(ctx, q, true)
}

// LogFrames calls each with every frame of a task's output, heartbeats left out, until the stream ends.
func (c *Client) LogFrames(ctx context.Context, q LogQuery, each func(api.StreamFrame) error) error {
	body, err := c.openLogs(ctx, q, false)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var f api.StreamFrame
		if err := dec.Decode(&f); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if len(f.Data) == 0 && f.FileEvent == "" {
			continue
		}
		if err := each(f); err != nil {
			return err
		}
	}
}
