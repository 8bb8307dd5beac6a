package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/yamux"
)

// answers is a handler with a path for each way to answer.
func answers(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/nothing":
	case "/text":
		io.WriteString(w, "some text "+string(body))
	case "/json":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("X-Twice", "1")
		w.Header().Add("X-Twice", "2")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "{}")
	case "/twice":
		w.WriteHeader(http.StatusNotFound)
		w.WriteHeader(http.StatusOK)
		w.Header().Set("X-Late", "1")
	case "/empty":
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	case "/unchanged":
		w.WriteHeader(http.StatusNotModified)
	case "/large":
		for range 100 {
			io.WriteString(w, strings.Repeat("x", 1000))
		}
	case "/huge":
		w.Write(make([]byte, 3<<20))
	case "/length":
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "four")
		if _, err := io.WriteString(w, "more"); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	case "/length/large":
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 100000))
	case "/flush":
		w.(http.Flusher).Flush()
		io.WriteString(w, "after")
	case "/flush/parts":
		for i := range 3 {
			fmt.Fprint(w, i)
			http.NewResponseController(w).Flush()
		}
	case "/close":
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	case "/injection":
		w.Header().Set("X-Evil", "a\r\nX-More: b")
	default:
		http.NotFound(w, r)
	}
}

// TestLoopAnswersAsNetHTTP compares the hub's loop with net/http, which answers at the agent.
func TestLoopAnswersAsNetHTTP(t *testing.T) {
	type reply struct {
		Status   int
		Header   http.Header
		Length   int64
		Transfer []string
		Body     string
	}
	ask := func(s *Session, method, path, body string) reply {
		req, _ := http.NewRequest(method, "http://link"+path, strings.NewReader(body))
		resp, err := s.RoundTripper().RoundTrip(req)
		if err != nil {
			return reply{Body: "error: " + err.Error()}
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			text = append(text, err.Error()...)
		}
		if resp.Header.Get("Date") == "" {
			t.Errorf("%s %s: no date", method, path)
		}
		resp.Header.Del("Date")
		return reply{resp.StatusCode, resp.Header, resp.ContentLength, resp.TransferEncoding, string(text)}
	}
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(answers)
		w := newWorld(t, worldOptions{hub: h})
		defer w.close()
		agent, hub := w.connect("n1", h)
		defer agent.Close()
		for _, path := range []string{
			"/nothing", "/text", "/json", "/twice", "/empty", "/unchanged", "/large", "/huge", "/length", "/length/large",
			"/flush", "/flush/parts", "/close", "/injection", "/unknown",
		} {
			for _, method := range []string{"GET", "HEAD", "PUT"} {
				body := ""
				if method == "PUT" {
					body = "with a body"
				}
				if diff := cmp.Diff(ask(hub, method, path, body), ask(agent, method, path, body)); diff != "" {
					t.Errorf("%s %s (-net/http +loop):\n%s", method, path, diff)
				}
			}
		}
	})
}

// raw writes text to a stream of its own and returns all that comes back, until wait has passed with nothing.
func raw(t *testing.T, s *Session, text string) string {
	t.Helper()
	st, err := s.yam.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := io.WriteString(st, text); err != nil {
		t.Fatal(err)
	}
	st.SetReadDeadline(time.Now().Add(time.Second))
	out, _ := io.ReadAll(st)
	return string(out)
}

func TestLoopTakesWhatClientsSend(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack: %v", err)
				return
			}
			defer conn.Close()
			line, _ := rw.ReadString('\n')
			fmt.Fprintf(conn, "upgraded: %s", line)
			return
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "<%s %s %d %v %v>", r.Method, r.RequestURI, len(body), err, r.Context().Err())
	})
	get := "GET /a HTTP/1.1\r\nHost: link\r\n\r\n"
	big := strings.Repeat("x", maxLoopBody+1)
	for name, c := range map[string]struct {
		text string
		want []string // parts of what comes back, in order
	}{
		"one request":                {get, []string{"200 OK", "<GET /a 0 <nil> <nil>>"}},
		"pipelined requests":         {get + get + "PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + get, []string{"<GET /a", "<GET /a", "<PUT /b 3", "<GET /a"}},
		"pipelined to net/http":      {get + "PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + get, []string{"<GET /a", "<PUT /b 3", "<GET /a"}},
		"a chunked body":             {"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", []string{"<PUT /b 3 <nil>"}},
		"a large body":               {fmt.Sprintf("PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(big), big), []string{fmt.Sprintf("<PUT /b %d <nil>", len(big))}},
		"a head beyond the buffer":   {"GET /a HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", readerSize) + "\r\n\r\n", []string{"<GET /a"}},
		"a client that waits for ok": {"PUT /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", []string{"100 Continue", "<PUT /b 3"}},
		"an upgrade":                 {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n", []string{"upgraded: hello"}},
		"HTTP/1.0":                   {"GET /a HTTP/1.0\r\n\r\n", []string{"HTTP/1.0 200 OK", "<GET /a"}},
		"the last request":           {"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + get, []string{"<GET /a"}},
		"no HTTP":                    {"\x16\x03\x01 hello\r\n\r\n", nil},
		"a negative length":          {"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", nil},
		"two lengths":                {"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, worldOptions{hub: echo}, func(t *testing.T, w *world) {
				agent, _ := w.connect("n1", nil)
				defer agent.Close()
				got := raw(t, agent, c.text)
				rest := got
				for _, want := range c.want {
					_, after, ok := strings.Cut(rest, want)
					if !ok {
						t.Fatalf("got %q, want parts %q in order", got, c.want)
					}
					rest = after
				}
				if strings.Contains(rest, "200 OK") || c.want == nil && got != "" {
					t.Errorf("got %q beyond %q", rest, c.want)
				}
				if err := agent.Err(); err != nil {
					t.Errorf("the session ended: %v", err)
				}
			})
		})
	}
}

func TestSlowRequestIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want time.Duration
	}{
		"head": {"GET / HT", headTimeout},
		"body": {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na", bodyTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
				agent, _ := w.connect("n1", nil)
				defer agent.Close()
				st, err := agent.yam.OpenStream()
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				time.Sleep(time.Hour) // an idle stream is not dropped
				start := time.Now()
				io.WriteString(st, c.text)
				io.ReadAll(st)
				if took := time.Since(start); took != c.want {
					t.Errorf("dropped after %s, want %s", took, c.want)
				}
			})
		})
	}
}

func TestShortBodyIsAnError(t *testing.T) {
	short := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "short")
	})
	bubble(t, worldOptions{hub: short}, func(t *testing.T, w *world) {
		agent, _ := w.connect("n1", nil)
		defer agent.Close()
		if got, err := get(t.Context(), agent, "/"); err == nil {
			t.Errorf("got %q without an error", got)
		}
	})
}

func TestAgentHasSoManyStreams(t *testing.T) {
	bubble(t, worldOptions{hub: parkedForEver{}}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", nil)
		defer agent.Close()
		var streams []*yamux.Stream
		for range maxStreams {
			st, err := agent.yam.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(st, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
			streams = append(streams, st)
		}
		ask := func(wait time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://link/x", nil)
			_, err := agent.RoundTripper().RoundTrip(req)
			return err
		}
		if err := ask(time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v, want it to wait", err)
		}
		for _, st := range streams {
			st.Close()
		}
		time.Sleep(time.Minute)
		if n := hub.yam.NumStreams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
		if err := ask(time.Second); !errors.Is(err, context.DeadlineExceeded) || agent.Err() != nil {
			t.Errorf("after the others ended: %v, %v", err, agent.Err())
		}
	})
}

// parkedForEver parks every request until its context ends.
type parkedForEver struct{}

func (parkedForEver) ServeHTTP(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestStreamsAreFreed(t *testing.T) {
	bubble(t, worldOptions{hub: hello("hub")}, func(t *testing.T, w *world) {
		agent, hub := w.connect("n1", hello("agent"))
		defer agent.Close()
		for range 50 {
			done := make(chan struct{})
			for range 10 {
				go func() {
					defer func() { done <- struct{}{} }()
					get(t.Context(), agent, "/a")
					get(t.Context(), hub, "/b")
				}()
			}
			for range 10 {
				<-done
			}
		}
		time.Sleep(idleStream + time.Second)
		if a, h := agent.yam.NumStreams(), hub.yam.NumStreams(); a != 0 || h != 0 {
			t.Errorf("%d and %d streams are left", a, h)
		}
	})
}

func FuzzLoop(f *testing.F) {
	w := newWorld(f, worldOptions{hub: http.HandlerFunc(answers)})
	agent, _ := w.connect("n1", nil)
	f.Cleanup(func() {
		agent.Close()
		w.close()
	})
	f.Add([]byte("GET /text HTTP/1.1\r\nHost: link\r\n\r\n"))
	f.Add([]byte("PUT /text HTTP/1.1\r\nHost: link\r\nContent-Length: 3\r\n\r\nabcGET /flush HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("PUT /text HTTP/1.1\r\nHost: link\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 100<<10 {
			return // more than a window would have to be read while it is written
		}
		st, err := agent.yam.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write(data); err != nil && !strings.Contains(err.Error(), "closed") && !strings.Contains(err.Error(), "reset") {
			t.Fatal(err)
		}
		st.Close() // no more to come; what is answered can still be read
		br := bufio.NewReader(st)
		for {
			if _, err := br.ReadByte(); err != nil {
				break
			}
		}
		if err := agent.Err(); err != nil {
			t.Fatalf("the session ended: %v", err)
		}
	})
}
