//go:build linux

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

// logDir makes a log directory that holds lines over two files.
func logDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"web.stdout.3": "one\ntwo\nth", "web.stdout.4": "ree\nfour\n", "web.stderr.0": "oops\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// findIn knows one allocation, "a1", of which the task "late" has not started.
func findIn(t *testing.T, dir string, ended <-chan struct{}) Find {
	return func(allocID, task string) (Source, error) {
		switch {
		case allocID != "a1":
			return Source{}, UnknownAllocation(allocID)
		case task == "late":
			return Source{}, NotStarted(task)
		case task != "web":
			return Source{}, UnknownTask(task)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Error(err)
		}
		return Source{Dir: root, Ended: ended}, err
	}
}

func TestLogsAreServed(t *testing.T) {
	over := make(chan struct{})
	close(over)
	h := NewHandler(findIn(t, logDir(t), over), testLog(t))
	const frame3 = `{"Offset":10,"Data":"b25lCnR3bwp0aA==","File":"alloc/logs/web.stdout.3"}` + "\n"
	const frame4 = `{"Offset":9,"Data":"cmVlCmZvdXIK","File":"alloc/logs/web.stdout.4"}` + "\n"
	for _, tt := range []struct {
		rule, path string
		status     int
		kind, body string
	}{
		{"plain is the bytes", "a1?task=web&type=stdout&plain=true", 200, "", "one\ntwo\nthree\nfour\n"},
		{"a stream by its type", "a1?task=web&type=stderr&plain=true", 200, "", "oops\n"},
		{"without plain there are frames", "a1?task=web&type=stdout", 200, "", frame3 + frame4},
		{"following ends with the task", "a1?task=web&type=stdout&follow=true&plain=true", 200, "", "one\ntwo\nthree\nfour\n"},
		{"an offset from the start", "a1?task=web&type=stdout&plain=true&offset=4", 200, "", "two\nthree\nfour\n"},
		{"an offset beyond the end", "a1?task=web&type=stdout&plain=true&offset=400", 200, "", ""},
		{"an offset from the end", "a1?task=web&type=stdout&plain=true&offset=5&origin=end", 200, "", "four\n"},
		{"more than there is from the end", "a1?task=web&type=stdout&plain=true&offset=500&origin=end", 200, "", "one\ntwo\nthree\nfour\n"},
		{"the last lines", "a1?task=web&type=stdout&plain=true&tail=2", 200, "", "three\nfour\n"},
		{"no task", "a1?type=stdout", 400, "invalid", "must provide task name"},
		{"a task that is a path", "a1?type=stdout&task=..%2Fweb", 400, "invalid", `invalid task name "../web"`},
		{"no type", "a1?task=web", 400, "invalid", `type "" is neither "stdout" nor "stderr"`},
		{"a wrong origin", "a1?task=web&type=stdout&origin=middle", 400, "invalid", `origin "middle" is neither "start" nor "end"`},
		{"a wrong offset", "a1?task=web&type=stdout&offset=-1", 400, "invalid", `invalid offset "-1"`},
		{"a wrong flag", "a1?task=web&type=stdout&follow=maybe", 400, "invalid", `invalid follow "maybe"`},
		{"an allocation of another node", "b2?task=web&type=stdout", 404, "not-found", `Unknown allocation "b2"`},
		{"a task of another job", "a1?task=db&type=stdout", 404, "not-found", `unknown task name "db"`},
		{"a task to come", "a1?task=late&type=stdout", 404, "not-found", `task "late" not started yet. No logs available`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+tt.path, nil))
			if w.Code != tt.status || w.Header().Get(api.HeaderError) != tt.kind || w.Body.String() != tt.body {
				t.Errorf("answered %d, kind %q, body %q, want %d, %q, %q",
					w.Code, w.Header().Get(api.HeaderError), w.Body, tt.status, tt.kind, tt.body)
			}
		})
	}
}

// client takes a response and notes when each frame came.
type client struct {
	http.ResponseWriter
	began time.Time

	mu      sync.Mutex
	pending bytes.Buffer
	got     []string
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.Write(p)
}

// Flush turns what was written since the last flush into one line for each frame.
func (c *client) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for dec := json.NewDecoder(&c.pending); dec.More(); {
		var f api.StreamFrame
		if err := dec.Decode(&f); err != nil {
			c.got = append(c.got, err.Error())
			return
		}
		c.got = append(c.got, fmt.Sprintf("%v %q%s", time.Since(c.began), f.Data, f.FileEvent))
	}
	c.pending.Reset()
}

// TestFollowersGetFramesInTime follows a stream in virtual time.
func TestFollowersGetFramesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := logDir(t)
		ended := make(chan struct{})
		h := NewHandler(findIn(t, dir, ended), testLog(t))
		c := &client{ResponseWriter: httptest.NewRecorder(), began: time.Now()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(c, httptest.NewRequest(http.MethodGet, Path+"a1?task=web&type=stdout&follow=true&tail=1", nil))
		}()
		add := func(name, text string) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			write(t, f, []byte(text))
		}
		time.Sleep(1100 * time.Millisecond)
		add("web.stdout.4", "five\n")
		time.Sleep(maxPoll) // a follower sees it by now
		synctest.Wait()
		add("web.stdout.4", "six\n")
		add("web.stdout.5", "seven\n")
		time.Sleep(1500 * time.Millisecond)
		add("web.stdout.5", "last\n")
		close(ended)
		<-done
		var frames []string
		for _, g := range c.got {
			at, rest, _ := strings.Cut(g, " ")
			d, err := time.ParseDuration(at)
			if err != nil {
				t.Fatal(g)
			}
			frames = append(frames, fmt.Sprintf("%v %s", d.Truncate(200*time.Millisecond), rest))
		}
		want := []string{
			`0s "four\n"`, `1s ""`, `1s "five\n"`, `1.2s "six\n"`, `1.2s "seven\n"`, `2s ""`, `2.6s "last\n"`,
		}
		if d := cmp.Diff(want, frames); d != "" {
			t.Errorf("frames (+), want (-):\n%s\nexactly: %q", d, c.got)
		}
	})
}

func TestFollowingEndsWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(findIn(t, logDir(t), nil), testLog(t))
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			req := httptest.NewRequest(http.MethodGet, Path+"a1?task=web&type=stdout&follow=true&plain=true", nil)
			h.ServeHTTP(w, req.WithContext(ctx))
		}()
		time.Sleep(time.Hour)
		cancel()
		<-done
		if got := w.Body.String(); got != "one\ntwo\nthree\nfour\n" {
			t.Errorf("got %q", got)
		}
	})
}

// FuzzParseQuery: whatever a client sends, what is accepted names one file's stream and lies within bounds.
func FuzzParseQuery(f *testing.F) {
	f.Add("task=web&type=stdout&follow=true&offset=10&origin=end&plain=1&tail=5")
	f.Add("task=../../etc/passwd&type=stdout")
	f.Add("task=web&type=stderr&offset=99999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseQuery(v)
		if err != nil {
			if api.KindName(err) != "invalid" {
				t.Errorf("error %v is not of the kind invalid", err)
			}
			return
		}
		base := q.task + "." + q.stream
		if filepath.Base(base) != base || strings.Contains(base, "\x00") {
			t.Errorf("base %q is not one name", base)
		}
		if q.offset < 0 || q.tail < 0 {
			t.Errorf("offset %d, tail %d", q.offset, q.tail)
		}
	})
}
