package server

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/link"
)

// Filters name the fields of the full object; a field that is known but not built is nil.
func TestFilterNamesFieldsOfTheObject(t *testing.T) {
	job := api.NewJob(api.JobTypeBatch)
	job.ID = "nightly"
	job.Meta = map[string]string{"team": "ops"}
	tests := []struct {
		rule, expr string
		want       bool
	}{
		{"equal", `ID == "nightly"`, true},
		{"not equal", `ID != "nightly"`, false},
		{"map entry", `Meta["team"] == "ops"`, true},
		{"absent is nil", `Periodic is nil`, true},
		{"absent is not set", `Periodic is not nil`, false},
		{"and", `Type == "batch" and Priority == 50`, true},
		{"empty matches all", ``, true},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			match, err := filter(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			got := match == nil
			if match != nil {
				if got, err = match(filteredJob(job)); err != nil {
					t.Fatal(err)
				}
			}
			if got != tt.want {
				t.Errorf("filter(%s) = %t, want %t", tt.expr, got, tt.want)
			}
		})
	}
	if _, err := filter(`ID ==`); api.KindName(err) != "invalid" {
		t.Errorf("a broken filter gave %v, want an invalid request", err)
	}
}

// No two rows of the route table answer the same method of the same path, and the mux takes them all.
func TestRoutesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Routes() {
		if seen[r] {
			t.Errorf("%s stands twice in the table", r)
		}
		seen[r] = true
	}
	(&Hub{}).routes() // panics if patterns conflict
}

// answerer is an agent's end of a link.
type answerer func(*http.Request) *http.Response

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// An agent learns no token of the caller's, and cannot make the caller take it elsewhere.
func TestProxyPassesNothingOnThatIsNotTheAnswer(t *testing.T) {
	ask := func(status int, header http.Header) (asked *http.Request, got *http.Response) {
		h := newHub(Config{})
		proxy := h.nodeProxy("node", "n1", answerer(func(r *http.Request) *http.Response {
			asked = r
			return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: io.NopCloser(strings.NewReader("line"))}
		}))
		r := httptest.NewRequest(http.MethodGet, "/v1/client/fs/logs/1?task=t", nil)
		for _, name := range []string{api.HeaderToken, "Authorization", "Cookie", "X-Forwarded-For"} {
			r.Header.Set(name, "secret")
		}
		w := httptest.NewRecorder()
		proxy.ServeHTTP(w, r)
		return asked, w.Result()
	}

	asked, got := ask(http.StatusOK, http.Header{
		"Content-Type": {"text/plain"}, "Set-Cookie": {"a=b"}, "Location": {"https://elsewhere"}, "Alt-Svc": {`h2="elsewhere:443"`},
		"Strict-Transport-Security": {"max-age=1"}, api.HeaderIndex: {"7"},
	})
	for name, values := range asked.Header {
		if slices.Contains(values, "secret") {
			t.Errorf("the agent is sent the caller's %s", name)
		}
	}
	if asked.URL.RawQuery != "task=t" {
		t.Errorf("the agent is asked %q, want the caller's question", asked.URL.RawQuery)
	}
	if body, _ := io.ReadAll(got.Body); got.StatusCode != http.StatusOK || string(body) != "line" {
		t.Errorf("answer is %d %q, want the agent's", got.StatusCode, body)
	}
	if want := (http.Header{"Content-Type": {"text/plain"}}); !reflect.DeepEqual(got.Header, want) {
		t.Errorf("answer carries %v, want %v", got.Header, want)
	}
	for _, status := range []int{http.StatusSwitchingProtocols, http.StatusFound, http.StatusTemporaryRedirect} {
		if _, got := ask(status, http.Header{"Location": {"https://elsewhere"}}); got.StatusCode != http.StatusInternalServerError {
			t.Errorf("an agent's answer of status %d came through as %d, want 500", status, got.StatusCode)
		}
	}
	if _, got := ask(http.StatusNotFound, http.Header{api.HeaderError: {"not-found"}}); got.StatusCode != http.StatusNotFound || got.Header.Get(api.HeaderError) != "not-found" {
		t.Errorf("an agent's refusal came through as %d of kind %q", got.StatusCode, got.Header.Get(api.HeaderError))
	}
}

// A client that sends its body too slowly, or not at all, is sent away after bodyTimeout.
func TestSlowBodyEndsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wires := link.NewMemory()
		defer wires.Close()
		ln, err := wires.Listen("hub:1")
		if err != nil {
			t.Fatal(err)
		}
		h := &Hub{cfg: Config{Dev: true}}
		srv := &http.Server{Handler: h.handler(route{path: "/v1/jobs", put: registerJob})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()
		conn, err := wires.Dial(t.Context(), "hub:1")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := io.WriteString(conn, "PUT /v1/jobs HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); resp.StatusCode != http.StatusBadRequest || took != bodyTimeout {
			t.Errorf("answer %d after %s, want %d after %s", resp.StatusCode, took, http.StatusBadRequest, bodyTimeout)
		}
		conn.Close()
		srv.Close()
		<-served
	})
}
