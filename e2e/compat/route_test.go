package compat

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	public "github.com/hashicorp/nomad/api"

	"github.com/brumehq/brume/server"
)

// row holds one endpoint against the public client.
type row struct {
	route string // as server.Routes lists it: "GET /v1/jobs"
	rule  string // what a further row of the route shows
	try   func(t *testing.T, w *world)
}

// as names a further row of a route.
func (r row) as(rule string) row {
	r.rule = rule
	return r
}

// read is a row for an endpoint that answers 200: want returns the whole value that is expected, taking from got only
// what it has checked.
func read[T any](route string, call func(*world) (T, *public.QueryMeta, error), want func(*testing.T, *world, T) T) row {
	return row{route: route, try: func(t *testing.T, w *world) {
		got, meta, err := call(w)
		if err != nil {
			t.Fatal(err)
		}
		index := w.wire.index(t)
		if known := w.wire.header.Get("X-Nomad-KnownLeader"); known != "true" {
			t.Errorf("leader known: %q, want true", known)
		}
		if meta != nil && (meta.LastIndex != index || !meta.KnownLeader || meta.LastContact < 0) {
			t.Errorf("client read %+v from a header with index %d", meta, index)
		}
		if d := diff(want(t, w, got), got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}}
}

// write is a row for a write that answers 200.
func write[T any](route string, call func(*world) (T, *public.WriteMeta, error), want func(*testing.T, *world, T) T) row {
	return row{route: route, try: func(t *testing.T, w *world) {
		got, meta, err := call(w)
		if err != nil {
			t.Fatal(err)
		}
		if index := w.wire.index(t); meta != nil && meta.LastIndex != index {
			t.Errorf("client read %+v from a header with index %d", meta, index)
		}
		if d := diff(want(t, w, got), got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}}
}

// answer is a row for an endpoint that answers 200 without an index: it is not about replicated state.
func answer[T any](route string, call func(*world) (T, error), want func(*testing.T, *world, T) T) row {
	return row{route: route, try: func(t *testing.T, w *world) {
		got, err := call(w)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(want(t, w, got), got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}}
}

// refusal is a row for a request that is answered with an error of this status and text.
func refusal(route string, status int, text string, call func(*world) error) row {
	return row{route: route, try: func(t *testing.T, w *world) { refused(t, call(w), status, text) }}
}

// unbuilt is a row for a known endpoint that does nothing yet.
func unbuilt(route string, call func(*world) error) row {
	return row{route: route, try: func(t *testing.T, w *world) {
		err := call(w)
		refused(t, err, http.StatusNotImplemented, w.wire.method+" "+w.wire.path+": not supported yet")
	}}
}

// paid is a row for an endpoint that no free server has.
func paid(route string, call func(*world) error) row {
	return refusal(route, http.StatusNotImplemented, "Nomad Enterprise only endpoint", call)
}

// refused checks that err is an answer with this status and text.
func refused(t *testing.T, err error, status int, text string) {
	t.Helper()
	var un public.UnexpectedResponseError
	if !errors.As(err, &un) {
		t.Fatalf("error %v, want status %d: %s", err, status, text)
	}
	if un.StatusCode() != status || un.Body() != text {
		t.Errorf("refused with %d %q, want %d %q", un.StatusCode(), un.Body(), status, text)
	}
}

// diff compares whole values. Absent and empty maps are one on the wire, in both directions; lists are not: a list that
// is answered is never null.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().Type() != nil && p.Last().Type().Kind() == reflect.Map
	}, cmpopts.EquateEmpty()))
}

// is expects one value.
func is[T any](v T) func(*testing.T, *world, T) T { return func(*testing.T, *world, T) T { return v } }

// fails is the error of a call, whatever it returns beside it.
func fails(results ...any) error {
	err, _ := results[len(results)-1].(error) // nil if there is none
	return err
}

// noMeta makes a read of a call that hides its meta data: the recorded headers are checked all the same.
func noMeta[T any](v T, err error) (T, *public.QueryMeta, error) { return v, nil, err }

// wire notes the last request and the headers of its answer.
type wire struct {
	next         http.RoundTripper
	method, path string // of the last request, the path as it is escaped
	header       http.Header
}

// RoundTrip does the request. One goroutine uses a wire.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	w.method, w.path, w.header = r.Method, r.URL.EscapedPath(), nil
	if err == nil {
		w.header = resp.Header
	}
	return resp, err
}

// index is the index of the last answer, which every answer about state has.
func (w *wire) index(t *testing.T) uint64 {
	t.Helper()
	index, err := strconv.ParseUint(w.header.Get("X-Nomad-Index"), 10, 64)
	if err != nil || index == 0 {
		t.Errorf("%s %s: index %q, want a positive number", w.method, w.path, w.header.Get("X-Nomad-Index"))
	}
	return index
}

// matches reports whether a request is one of route.
func matches(route, method, path string) bool {
	m, pattern, _ := strings.Cut(route, " ")
	if m == http.MethodPut && method == http.MethodPost {
		method = m
	}
	if m != method {
		return false
	}
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, s := range want {
		switch {
		case strings.HasSuffix(s, "...}"):
			return len(got) > i
		case i >= len(got), !strings.HasPrefix(s, "{") && s != got[i], got[i] == "" && i > 0:
			return false
		}
	}
	return len(want) == len(got)
}

// Every route answers the public client as the table says, and no row is about a route that is not there.
func TestEveryRouteAnswersThePublicClient(t *testing.T) {
	t.Parallel()
	rows := slices.Concat(jobRows, workRows, nodeRows, agentRows, unbuiltRows, accessRows)
	routes := server.Routes()
	for _, route := range routes {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.route == route }) {
			t.Errorf("%s has no row", route)
		}
	}
	w := newWorld(t)
	for _, r := range rows {
		t.Run(strings.TrimSpace(r.route+" "+r.rule), func(t *testing.T) {
			if !slices.Contains(routes, r.route) {
				t.Fatal("there is no such route")
			}
			w.t = t
			r.try(t, w)
			if !matches(r.route, w.wire.method, w.wire.path) {
				t.Errorf("the call was %s %s, which is not this route", w.wire.method, w.wire.path)
			}
		})
	}
}

// Every path that the public client's source names is a route: known paths are answered, built or not.
func TestEveryPathOfThePublicClientIsARoute(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/hashicorp/nomad/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			path, _, _ := strings.Cut(pathOf(e), "?")
			if strings.HasPrefix(path, "/v1/") {
				paths[path] = true
				return false
			}
			return true
		})
	}
	if len(paths) < 100 {
		t.Fatalf("found %d paths in the client, want more than 100", len(paths))
	}
	for path := range paths {
		if !slices.ContainsFunc(server.Routes(), func(route string) bool {
			method, _, _ := strings.Cut(route, " ")
			return matches(route, method, path)
		}) {
			t.Errorf("the client asks for %s, which is no route", path)
		}
	}
}

// pathOf is the path that an expression builds: "x" stands for what is known at run time only, "" for no path at all.
func pathOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err != nil {
			return ""
		}
		return strings.NewReplacer("%s", "x", "%v", "x").Replace(s)
	case *ast.BinaryExpr:
		left := pathOf(e.X)
		if e.Op != token.ADD || !strings.HasPrefix(left, "/v1/") {
			return ""
		}
		if right := pathOf(e.Y); right != "" {
			return left + right
		}
		return left + "x"
	case *ast.CallExpr: // of Sprintf, JoinPath and the like: the first argument begins the path
		if len(e.Args) == 0 {
			return ""
		}
		path := pathOf(e.Args[0])
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "JoinPath" && path != "" {
			path = strings.TrimSuffix(path, "/") + "/x"
		}
		return path
	}
	return ""
}

// wrapped is unbuilt for a call that puts a text of its own before the error.
func wrapped(prefix string, call func(*world) error) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		err := call(w)
		want := prefix + "Unexpected response code: 501 (" + w.wire.method + " " + w.wire.path + ": not supported yet)"
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// refusedLike is refused for a text of which the beginning is known.
func refusedLike(t *testing.T, err error, status int, prefix string) {
	t.Helper()
	var un public.UnexpectedResponseError
	if !errors.As(err, &un) || un.StatusCode() != status || !strings.HasPrefix(un.Body(), prefix) {
		t.Errorf("error %v, want status %d: %s…", err, status, prefix)
	}
}
