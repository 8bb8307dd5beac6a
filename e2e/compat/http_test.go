package compat

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

// reply is a plain answer.
type reply struct {
	status      int
	body        string
	contentType string
	header      http.Header
}

// do sends a request as it stands: the public client would add to it.
func (c *cluster) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.address+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	in := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if in, err = gzip.NewReader(in); err != nil {
			c.t.Fatal(err)
		}
	}
	text, err := io.ReadAll(in)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{resp.StatusCode, string(text), resp.Header.Get("Content-Type"), resp.Header}
}

// What is refused is refused with the status and the bare text that clients match on.
func TestErrorsAreBareTexts(t *testing.T) {
	t.Parallel()
	c := hub(t)
	const text = "text/plain; charset=utf-8"
	for _, tt := range []struct {
		rule, method, path, body string
		want                     reply
	}{
		{"unknown path", "GET", "/v1/nope", "", reply{status: 404}},
		{"unknown path below a node", "GET", "/v1/node/" + noID + "/nope", "", reply{status: 404}},
		{"no path", "GET", "/", "", reply{status: 404}},
		{"write where there are reads only", "PUT", "/v1/nodes", "{}", reply{status: 405, body: "Invalid method", contentType: text}},
		{"method that no route has", "PATCH", "/v1/jobs", "", reply{status: 405, body: "Invalid method", contentType: text}},
		{"delete of a list", "DELETE", "/v1/jobs", "", reply{status: 405, body: "Invalid method", contentType: text}},
		{"no such job", "GET", "/v1/job/nope", "", reply{status: 404, body: "job not found", contentType: text}},
		{"no such job's summary", "GET", "/v1/job/nope/summary", "", reply{status: 404, body: "job not found", contentType: text}},
		{"no such job's versions", "GET", "/v1/job/nope/versions", "", reply{status: 404, body: "job not found", contentType: text}},
		{"deregister no such job", "DELETE", "/v1/job/nope", "", reply{status: 404, body: "job not found", contentType: text}},
		{"no such allocation", "GET", "/v1/allocation/" + noID, "", reply{status: 404, body: "alloc not found", contentType: text}},
		{"no id of an allocation", "GET", "/v1/allocation/nope", "", reply{status: 404, body: "alloc not found", contentType: text}},
		{"stop no such allocation", "PUT", "/v1/allocation/" + noID + "/stop", "", reply{status: 404, body: "alloc not found", contentType: text}},
		{"stop no id of an allocation", "PUT", "/v1/allocation/nope/stop", "", reply{status: 404, body: "alloc not found", contentType: text}},
		{"no such evaluation", "GET", "/v1/evaluation/" + noID, "", reply{status: 404, body: "eval not found", contentType: text}},
		{"no such evaluation's allocations", "GET", "/v1/evaluation/nope/allocations", "", reply{status: 404, body: "eval not found", contentType: text}},
		{"no such node", "GET", "/v1/node/" + noID, "", reply{status: 404, body: "node not found", contentType: text}},
		{"no such node's allocations", "GET", "/v1/node/nope/allocations", "", reply{status: 404, body: "node not found", contentType: text}},
		{"logs of no such allocation", "GET", "/v1/client/fs/logs/" + noID + "?task=t&type=stdout", "",
			reply{status: 404, body: `Unknown allocation "` + noID + `"`, contentType: text}},
		{"no job in a registration", "PUT", "/v1/jobs", "{}", reply{status: 400, body: "Job must be specified", contentType: text}},
		{"a job without its key", "PUT", "/v1/jobs", `{"ID":"a","TaskGroups":[]}`, reply{status: 400, body: "Job must be specified", contentType: text}},
		{"no job in a validation", "PUT", "/v1/validate/job", "{}", reply{status: 400, body: "Job must be specified", contentType: text}},
		{"another job than the path names", "PUT", "/v1/job/b", `{"Job":{"ID":"a"}}`, reply{status: 400, body: "Job ID does not match name", contentType: text}},
		{"nothing to parse", "PUT", "/v1/jobs/parse", "{}", reply{status: 400, body: "Job spec is empty", contentType: text}},
		{"no body", "PUT", "/v1/jobs", "", reply{status: 400, body: "EOF", contentType: text}},
		{"broken body", "PUT", "/v1/jobs", `{"Job":`, reply{status: 400, body: "unexpected EOF", contentType: text}},
		{"body of another type", "PUT", "/v1/validate/job", `{"Job":[]}`, reply{status: 400, body: "job: want an object", contentType: text}},
		{"index that is no number", "GET", "/v1/jobs?index=x", "", reply{status: 400, body: "Invalid index", contentType: text}},
		{"wait that is no duration", "GET", "/v1/jobs?index=1&wait=x", "", reply{status: 400, body: "Invalid wait time", contentType: text}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c.t = t
			got := c.do(tt.method, tt.path, tt.body)

			if got.status != tt.want.status || got.body != tt.want.body || got.contentType != tt.want.contentType {
				t.Errorf("answered %d %q of %s, want %d %q of %s", got.status, got.body, got.contentType, tt.want.status, tt.want.body, tt.want.contentType)
			}
		})
	}
}

// PUT and POST are one, and so are GET and HEAD but for the body.
func TestMethodsAreInterchangeable(t *testing.T) {
	t.Parallel()
	c := hub(t)
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		if got := c.do(method, "/v1/jobs/parse", `{"JobHCL":"job \"a\" {\n group \"g\" {\n task \"t\" { driver = \"raw_exec\" }\n}\n}"}`); got.status != 200 {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
	get, head := c.do(http.MethodGet, "/v1/jobs", ""), c.do(http.MethodHead, "/v1/jobs", "")
	if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != "3" {
		t.Errorf("HEAD answered %d %q of length %s, want the length of %q", head.status, head.body, head.header.Get("Content-Length"), get.body)
	}
	for _, name := range []string{"X-Nomad-Index", "X-Nomad-Knownleader", "X-Nomad-Lastcontact", "Content-Type", "Vary"} {
		if get.header.Get(name) == "" || get.header.Get(name) != head.header.Get(name) {
			t.Errorf("%s is %q with GET and %q with HEAD", name, get.header.Get(name), head.header.Get(name))
		}
	}
	if got := get.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q, want application/json", got)
	}
}

// Answers are indented on request, never escaped for HTML, and compressed when it is asked for and worth it.
func TestBodies(t *testing.T) {
	t.Parallel()
	c := hub(t)
	c.register(nowhere("a"))
	compact := c.do("GET", "/v1/job/a", "")
	if !strings.Contains(compact.body, `"<a&b>"`) || strings.Contains(compact.body, "\n ") {
		t.Errorf("escaped or indented:\n%s", compact.body)
	}
	if compact.header.Get("Content-Encoding") != "" || compact.header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("compressed without being asked, or Vary missing: %v", compact.header)
	}
	for _, query := range []string{"?pretty", "?pretty=", "?pretty=0"} {
		if got := c.do("GET", "/v1/job/a"+query, ""); got.body != compact.body {
			t.Errorf("%s changed the answer:\n%s", query, got.body)
		}
	}
	for _, query := range []string{"?pretty=1", "?pretty=true"} {
		if got := c.do("GET", "/v1/job/a"+query, ""); !strings.HasPrefix(got.body, "{\n    \"ID\": \"a\",") || strings.Contains(got.body, `\u003c`) {
			t.Errorf("%s answered:\n%s", query, got.body)
		}
	}
	packed := c.do("GET", "/v1/job/a", "", "Accept-Encoding", "gzip")
	if packed.header.Get("Content-Encoding") != "gzip" || packed.body != compact.body {
		t.Errorf("asked for gzip: %v\n%s", packed.header, packed.body)
	}
	if small := c.do("GET", "/v1/regions", "", "Accept-Encoding", "gzip"); small.header.Get("Content-Encoding") != "" || small.body != "[\"global\"]\n" {
		t.Errorf("small answer: %v %q", small.header, small.body)
	}
}
