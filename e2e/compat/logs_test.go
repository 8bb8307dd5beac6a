package compat

import (
	"io"
	"strconv"
	"strings"
	"testing"

	public "github.com/hashicorp/nomad/api"
)

// part is which part of which stream is read.
type part struct {
	stream, origin string
	offset         int64
	follow         bool
}

// logs reads a task's output through the frames of the public client, and checks the frames.
func logs(t *testing.T, c *cluster, alloc *public.Allocation, p part) string {
	t.Helper()
	frames, errs := c.AllocFS().Logs(alloc, p.follow, "main", p.stream, p.origin, p.offset, t.Context().Done(), nil)
	var text strings.Builder
	for last := int64(0); ; {
		select {
		case f, ok := <-frames:
			if !ok {
				return text.String()
			}
			if f.File != "alloc/logs/main."+p.stream+".0" || f.FileEvent != "" {
				t.Errorf("frame of %q %q, want of the first file of %s", f.File, f.FileEvent, p.stream)
			}
			if text.Write(f.Data); last != 0 && f.Offset != last+int64(len(f.Data)) {
				t.Errorf("%d bytes after %d end at %d", len(f.Data), last, f.Offset)
			}
			last = f.Offset
		case err := <-errs:
			t.Fatal(err)
		}
	}
}

// A task's output is read through the public client: whole, in part, from either end, and as it is written.
func TestLogs(t *testing.T) {
	t.Parallel()
	c := dev(t)
	c.register(batchJob("said", `for i in 1 2 3; do echo line $i; done; echo oh dear >&2`))
	done := c.allocs("said", func(a *public.AllocationListStub) bool { return a.ClientStatus == "complete" })[0]
	c.readParts(t, done)
	c.refuseLogs(t, done)

	slow := batchJob("says", `i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.02; done`)
	c.register(slow)
	going := c.allocs("says", func(a *public.AllocationListStub) bool {
		return a.ClientStatus == "running" || a.ClientStatus == "complete"
	})[0]
	want := ""
	for i := range 20 {
		want += strconv.Itoa(i) + "\n"
	}
	if got := logs(t, c, &public.Allocation{ID: going.ID, NodeID: going.NodeID}, part{"stdout", "start", 0, true}); got != want {
		t.Errorf("followed to the end: %q, want %q", got, want)
	}
}

func (c *cluster) readParts(t *testing.T, a *public.AllocationListStub) {
	alloc := &public.Allocation{ID: a.ID, NodeID: a.NodeID}
	const out, err = "line 1\nline 2\nline 3\n", "oh dear\n"
	for _, tt := range []struct {
		rule string
		part part
		want string
	}{
		{"all", part{"stdout", "start", 0, false}, out},
		{"the other stream", part{"stderr", "start", 0, false}, err},
		{"from an offset", part{"stdout", "start", 7, false}, out[7:]},
		{"from the end", part{"stdout", "end", 7, false}, out[len(out)-7:]},
		{"from before the beginning", part{"stdout", "end", 1000, false}, out},
		{"from beyond the end", part{"stdout", "start", 1000, false}, ""},
		{"followed, of a task that has ended", part{"stdout", "start", 0, true}, out},
		{"followed from the end", part{"stdout", "end", 7, true}, out[len(out)-7:]},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			if got := logs(t, c, alloc, tt.part); got != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		got := c.do("GET", "/v1/client/fs/logs/"+a.ID+"?task=main&type=stdout&plain=true", "", "X-Nomad-Token", c.token)
		if got.body != out || got.contentType != "text/plain; charset=utf-8" {
			t.Errorf("read %q of %s, want %q as text", got.body, got.contentType, out)
		}
	})
	t.Run("from the node", func(t *testing.T) { // as the client asks first, before it falls back to the hub
		node, err := c.GetNodeClient(a.NodeID, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		if node.Address() != c.address {
			t.Errorf("the node is at %s, want at the hub's %s", node.Address(), c.address)
		}
		body, err := node.Raw().Response("/v1/client/fs/logs/"+a.ID, &public.QueryOptions{
			Params: map[string]string{"task": "main", "type": "stdout", "plain": "true"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if text, err := io.ReadAll(body); err != nil || string(text) != out {
			t.Errorf("read %q, error %v, want %q", text, err, out)
		}
	})
}

func (c *cluster) refuseLogs(t *testing.T, a *public.AllocationListStub) {
	for _, tt := range []struct {
		rule, query string
		status      int
		text        string
	}{
		{"no such task", "task=nope&type=stdout", 404, `unknown task name "nope"`},
		{"no task", "type=stdout", 400, "must provide task name"},
		{"no such stream", "task=main&type=x", 400, `type "x" is neither "stdout" nor "stderr"`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			if got := c.do("GET", "/v1/client/fs/logs/"+a.ID+"?"+tt.query, "", "X-Nomad-Token", c.token); got.status != tt.status || got.body != tt.text {
				t.Errorf("answered %d %q, want %d %q", got.status, got.body, tt.status, tt.text)
			}
		})
	}
}

// The same with TLS and tokens, through a client that has its own configuration for both.
func TestLogsOverTLS(t *testing.T) {
	t.Parallel()
	s := newSecure(t)
	s.agent(t, "n1")
	client, err := public.NewClient(&public.Config{Address: s.address, SecretID: s.token, TLSConfig: &public.TLSConfig{
		CACertPEM: s.ca, TLSServerName: "server.global.nomad",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.Client = client
	s.register(batchJob("said", `for i in 1 2 3; do echo line $i; done; echo oh dear >&2`))
	done := s.allocs("said", func(a *public.AllocationListStub) bool { return a.ClientStatus == "complete" })[0]
	s.readParts(t, done)
}
