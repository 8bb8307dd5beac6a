package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

// hub answers every request with serve; the client asks it with a token.
func hub(t *testing.T, serve http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(serve)
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{Address: srv.URL, Token: "secret", Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestErrorsKeepTheirKindAcrossTheWire(t *testing.T) {
	for status, kind := range map[int]error{
		http.StatusNotFound: api.ErrNotFound, http.StatusBadRequest: api.ErrInvalid, http.StatusConflict: api.ErrConflict,
		http.StatusForbidden: api.ErrDenied, http.StatusInternalServerError: api.ErrNoLeader,
	} {
		t.Run(kind.Error(), func(t *testing.T) {
			c := hub(t, func(w http.ResponseWriter, _ *http.Request) {
				err := fmt.Errorf("node n1: %w", kind)
				w.Header().Set(api.HeaderError, api.KindName(err))
				http.Error(w, err.Error(), status)
			})
			_, _, err := c.Node(t.Context(), "n1", client.Query{})
			if !errors.Is(err, kind) {
				t.Errorf("%v is not %v", err, kind)
			}
			if want := "node n1: " + kind.Error(); err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
		})
	}
}

func TestAnErrorWithoutAKindKeepsItsStatus(t *testing.T) {
	c := hub(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not supported yet", http.StatusNotImplemented)
	})
	_, err := c.Leader(t.Context())
	want := &client.StatusError{Status: http.StatusNotImplemented, Text: "not supported yet"}
	if got, _ := errors.AsType[*client.StatusError](err); !cmp.Equal(want, got) {
		t.Errorf("error %#v, want %#v", err, want)
	}
}

func TestNoAnswerNamesTheHub(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c, err := client.New(client.Config{Address: srv.URL, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Leader(t.Context())
	if want := "hub " + strings.TrimPrefix(srv.URL, "http://"); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want one that begins with %q", err, want)
	}
}

// asked is what a hub sees of a request.
type asked struct{ Method, Path, Query, Token string }

func TestRequestsNameWhatTheyAskFor(t *testing.T) {
	for name, row := range map[string]struct {
		call func(*testing.T, *client.Client)
		want asked
	}{
		"a job's id is one segment": {
			func(t *testing.T, c *client.Client) { _, _, _ = c.Job(t.Context(), "a/b c?d", client.Query{}) },
			asked{"GET", "/v1/job/a%2Fb%20c%3Fd", "namespace=default", "secret"},
		},
		"so is any other id": {
			func(t *testing.T, c *client.Client) { _, _, _ = c.Allocation(t.Context(), "../a%2Fb", client.Query{}) },
			asked{"GET", "/v1/allocation/..%2Fa%252Fb", "namespace=default", "secret"},
		},
		"a blocking query": {
			func(t *testing.T, c *client.Client) {
				_, _, _ = c.Jobs(t.Context(), client.Query{
					Namespace: "*", Index: 7, Wait: 90 * time.Second, Prefix: "w", Filter: `Status == "dead"`,
					Reverse: true, PerPage: 20, NextToken: "n", Params: map[string]string{"meta": "true"},
				})
			},
			asked{"GET", "/v1/jobs", url.Values{
				"namespace": {"*"}, "index": {"7"}, "wait": {"90000ms"}, "prefix": {"w"}, "filter": {`Status == "dead"`},
				"reverse": {"true"}, "per_page": {"20"}, "next_token": {"n"}, "meta": {"true"},
			}.Encode(), "secret"},
		},
		"a purge keeps other parameters": {
			func(t *testing.T, c *client.Client) {
				_, _ = c.StopJob(t.Context(), "web", true, client.Query{Params: map[string]string{"eval_priority": "60"}})
			},
			asked{"DELETE", "/v1/job/web", "eval_priority=60&namespace=default&purge=true", "secret"},
		},
		"a registration goes to its job's namespace": {
			func(t *testing.T, c *client.Client) {
				_, _ = c.RegisterJob(t.Context(), &api.JobRegisterRequest{Job: &api.Job{ID: "web", Namespace: "team"}})
			},
			asked{"PUT", "/v1/jobs", "namespace=team", "secret"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got asked
			c := hub(t, func(w http.ResponseWriter, r *http.Request) {
				got = asked{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get(api.HeaderToken)}
				_, _ = io.WriteString(w, "null")
			})
			row.call(t, c)
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadsSayHowCurrentTheyAre(t *testing.T) {
	c := hub(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.HeaderIndex, "42")
		w.Header().Set(api.HeaderKnownLeader, "true")
		w.Header().Set(api.HeaderLastContact, "15")
		w.Header().Set(api.HeaderNextToken, "next")
		_, _ = io.WriteString(w, `[{"ID":"web"}]`)
	})
	jobs, meta, err := c.Jobs(t.Context(), client.Query{})
	if err != nil {
		t.Fatal(err)
	}
	want := client.Meta{Index: 42, KnownLeader: true, LastContact: 15 * time.Millisecond, NextToken: "next"}
	if diff := cmp.Diff(want, meta); diff != "" {
		t.Errorf("meta (-want +got):\n%s", diff)
	}
	if len(jobs) != 1 || jobs[0].ID != "web" {
		t.Errorf("jobs %+v, want web", jobs)
	}
}

func TestARedirectDoesNotCarryTheTokenAway(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host was asked, with token %q", r.Header.Get(api.HeaderToken))
	}))
	defer other.Close()
	c := hub(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.Leader(t.Context())
	if e, _ := errors.AsType[*client.StatusError](err); e == nil || e.Status != http.StatusTemporaryRedirect {
		t.Errorf("error %v, want the redirect's status", err)
	}
}

func TestLogFramesLeaveHeartbeatsOut(t *testing.T) {
	sent := []api.StreamFrame{
		{Offset: 3, Data: []byte("one"), File: "alloc/logs/web.stdout.0"},
		{},
		{File: "alloc/logs/web.stdout.0", FileEvent: "file deleted"},
	}
	var query url.Values
	c := hub(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Query()
		for _, f := range sent {
			_ = json.NewEncoder(w).Encode(f)
		}
	})
	var got []api.StreamFrame
	err := c.LogFrames(t.Context(), client.LogQuery{Alloc: "a1", Task: "web", Type: "stdout", Follow: true, Tail: 5},
		func(f api.StreamFrame) error { got = append(got, f); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.StreamFrame{sent[0], sent[2]}, got); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	want := url.Values{
		"task": {"web"}, "type": {"stdout"}, "follow": {"true"}, "plain": {"false"}, "offset": {"0"}, "origin": {"start"},
		"tail": {"5"}, "namespace": {"default"},
	}
	if diff := cmp.Diff(want, query); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	stop := errors.New("enough")
	err = c.LogFrames(t.Context(), client.LogQuery{Alloc: "a1"}, func(api.StreamFrame) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("error %v, want the reader's own", err)
	}
}

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"no scheme":         {Address: "127.0.0.1:4646"},
		"another scheme":    {Address: "ftp://127.0.0.1"},
		"no host":           {Address: "http://"},
		"no CA in the file": {CACert: []byte("hello")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := client.New(cfg); err == nil {
				t.Errorf("New(%+v) made a client", cfg)
			}
		})
	}
}
