package compat

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	public "github.com/hashicorp/nomad/api"
)

// listed is one kind of list, its rows by id in the order in which the hub gives them.
type listed struct {
	kind, path string
	byCreation bool // pages are in the order of creation, and can be reversed
}

var lists = []listed{{"jobs", "/v1/jobs", false}, {"nodes", "/v1/nodes", false}, {"allocations", "/v1/allocations", true}, {"evaluations", "/v1/evaluations", true}}

// entry is what all lists show.
type entry struct {
	ID, Name, JobID, Status string
	CreateIndex             uint64
	Meta                    map[string]string
}

// list reads a list plainly: the typed methods sort what they get.
func (c *cluster) list(path string, q *public.QueryOptions) ([]entry, *public.QueryMeta) {
	c.t.Helper()
	var rows []entry
	meta, err := c.Raw().Query(path, &rows, q)
	if err != nil {
		c.t.Fatalf("%s with %+v: %v", path, q, err)
	}
	return rows, meta
}

func ids(rows []entry) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

// pages reads a list page by page.
func (c *cluster) pages(path string, q public.QueryOptions) []entry {
	c.t.Helper()
	all := []entry{}
	q.PerPage = 2
	for range 100 {
		rows, meta := c.list(path, &q)
		if all = append(all, rows...); meta.NextToken == "" {
			return all
		}
		if len(rows) != 2 {
			c.t.Errorf("%s: a page of %d rows before the last, want 2", path, len(rows))
		}
		q.NextToken = meta.NextToken
	}
	c.t.Fatalf("%s: pages without end", path)
	return nil
}

// library is a cluster with something in each list.
func library(t *testing.T) *cluster {
	c := dev(t)
	for i := range 5 {
		job := nowhere(fmt.Sprintf("a-%d", i))
		job.Meta["parity"] = []string{"even", "odd"}[i%2]
		c.register(job)
	}
	many := batchJob("many", "true")
	many.TaskGroups[0].Count = new(5)
	c.register(many)
	c.register(webJob("web"))
	c.allocs("many", func(a *public.AllocationListStub) bool { return a.ClientStatus == "complete" })
	c.allocs("web", healthy)
	c.settle()
	return c
}

// Lists come in order, whole or by pages, and what can be reversed is.
func TestListsAreOrderedAndPaged(t *testing.T) {
	t.Parallel()
	c := library(t)
	for _, l := range lists {
		t.Run(l.kind, func(t *testing.T) {
			c.t = t
			whole, _ := c.list(l.path, nil)
			if len(whole) == 0 || !slices.IsSorted(ids(whole)) {
				t.Errorf("the whole list is %q, want ids in order", ids(whole))
			}
			want := slices.Clone(whole)
			if l.byCreation {
				slices.SortFunc(want, func(a, b entry) int {
					return cmp.Or(cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
				})
			}
			if d := diff(want, c.pages(l.path, public.QueryOptions{})); d != "" {
				t.Errorf("pages are not the list, -want +got:\n%s", d)
			}
			odd := slices.DeleteFunc(slices.Clone(want), func(e entry) bool { return strings.Contains("02468ace", e.ID[len(e.ID)-1:]) })
			if d := diff(odd, c.pages(l.path, public.QueryOptions{Filter: `ID matches "[^02468ace]$"`})); d != "" {
				t.Errorf("pages of a filtered list, -want +got:\n%s", d)
			}
			if l.byCreation {
				slices.Reverse(want)
			}
			if d := diff(want, c.pages(l.path, public.QueryOptions{Reverse: true})); d != "" {
				t.Errorf("pages in reverse, -want +got:\n%s", d)
			}
			if rows, _ := c.list(l.path, &public.QueryOptions{Reverse: true}); diff(ids(want), ids(rows)) != "" {
				t.Errorf("in reverse %q, want %q", ids(rows), ids(want))
			}
		})
	}
}

// A prefix of ids selects, of any length up to the whole id; one that nothing begins with selects nothing.
func TestListsTakePrefixes(t *testing.T) {
	t.Parallel()
	c := library(t)
	for _, l := range lists {
		t.Run(l.kind, func(t *testing.T) {
			c.t = t
			whole, _ := c.list(l.path, nil)
			one := whole[len(whole)/2].ID
			for n := range len(one) {
				prefix := one[:n+1]
				want := slices.DeleteFunc(ids(whole), func(id string) bool { return !strings.HasPrefix(id, prefix) })
				if rows, _ := c.list(l.path, &public.QueryOptions{Prefix: prefix}); diff(want, ids(rows)) != "" {
					t.Errorf("with prefix %q: %q, want %q", prefix, ids(rows), want)
				}
			}
			if rows, _ := c.list(l.path, &public.QueryOptions{Prefix: "zz"}); len(rows) != 0 || rows == nil {
				t.Errorf("with a prefix of nothing: %q, want an empty list", ids(rows))
			}
		})
	}
}

// Filters are about the fields of the whole object, whatever the list shows of it.
func TestListsTakeFilters(t *testing.T) {
	t.Parallel()
	c := library(t)
	for _, tt := range []struct {
		path, filter string
		want         int
	}{
		{"/v1/jobs", `Periodic is not nil`, 0},
		{"/v1/jobs", `Periodic is nil`, 7},
		{"/v1/jobs", `ParentID == "" and ParameterizedJob is not nil`, 0},
		{"/v1/jobs", `Status == "running"`, 1},
		{"/v1/jobs", `Status != "running"`, 6},
		{"/v1/jobs", `Type == "batch"`, 1},
		{"/v1/jobs", `Meta["parity"] == "odd"`, 2},
		{"/v1/jobs", `"parity" in Meta`, 5},
		{"/v1/jobs", `ID matches "^a-[1-3]$"`, 3},
		{"/v1/jobs", `Meta["parity"] == "odd" or Type == "batch"`, 3},
		{"/v1/jobs", `not (Type == "batch")`, 6},
		{"/v1/allocations", `ClientStatus == "complete"`, 5},
		{"/v1/allocations", `JobID == "web" and DesiredStatus == "run"`, 2},
		{"/v1/evaluations", `Status == "blocked"`, 5},
		{"/v1/evaluations", `TriggeredBy == "job-register" and JobID == "web"`, 1},
		{"/v1/evaluations?job=web", ``, 1},
		{"/v1/evaluations?status=blocked", `JobID == "a-0"`, 1},
		{"/v1/nodes", `Status == "ready"`, 1},
		{"/v1/nodes", `Attributes["kernel.name"] != "linux"`, 0},
		{"/v1/nodes", `"raw_exec" in Drivers`, 1},
		{"/v1/job/many/allocations", `NodeName == "dev"`, 5},
		{"/v1/job/web/evaluations", `Status == "complete"`, 1},
	} {
		t.Run(tt.path+" "+tt.filter, func(t *testing.T) {
			c.t = t
			if rows, _ := c.list(tt.path, &public.QueryOptions{Filter: tt.filter}); len(rows) != tt.want {
				t.Errorf("%d rows, want %d", len(rows), tt.want)
			}
		})
	}
	for _, bad := range []string{`Type ==`, `Type = "x"`, `NoSuchField == "x"`} {
		t.Run(bad, func(t *testing.T) {
			for _, l := range lists {
				err := fails(c.Raw().Query(l.path, new([]entry), &public.QueryOptions{Filter: bad}))
				refusedLike(t, err, http.StatusBadRequest, public.ResultPaginatorErrorContent+": ")
			}
		})
	}
	err := fails(c.Raw().Query("/v1/jobs?per_page=-1", new([]entry), nil))
	refusedLike(t, err, http.StatusBadRequest, public.ResultPaginatorErrorContent+": ")
}

// Lists of jobs show meta data when asked to.
func TestListsOfJobsShowMeta(t *testing.T) {
	t.Parallel()
	c := hub(t)
	job := nowhere("a")
	c.register(job)
	for _, show := range []bool{false, true} {
		jobs, _, err := c.Jobs().ListOptions(&public.JobListOptions{Fields: &public.JobListFields{Meta: show}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string(nil)
		if show {
			want = job.Meta
		}
		if d := diff(want, jobs[0].Meta); d != "" {
			t.Errorf("meta=%t: -want +got:\n%s", show, d)
		}
	}
}

// What is meant for another region is not done in this one.
func TestRegions(t *testing.T) {
	t.Parallel()
	c := hub(t)
	here, elsewhere := &public.QueryOptions{Region: "global"}, &public.QueryOptions{Region: "mars"}
	if _, _, err := c.Jobs().List(here); err != nil {
		t.Error(err)
	}
	const text = "No path to region"
	refused(t, fails(c.Jobs().List(elsewhere)), 500, text)
	refused(t, fails(c.Jobs().Register(nowhere("a"), &public.WriteOptions{Region: "mars"})), 500, text)
	job := nowhere("a")
	job.Region = new("mars")
	refused(t, fails(c.Jobs().Register(job, nil)), 500, "1 error occurred:\n\t* "+text)
}

// Only the namespace default exists; "*" reads all, and another is refused by name.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	c := hub(t)
	c.register(nowhere("a"))
	for _, ns := range []string{"", "default", "*"} {
		t.Run("read in "+ns, func(t *testing.T) {
			c.t = t
			q := &public.QueryOptions{Namespace: ns}
			if rows, _ := c.list("/v1/jobs", q); diff([]string{"a"}, ids(rows)) != "" {
				t.Errorf("jobs %q, want a", ids(rows))
			}
			job, _, err := c.Jobs().Info("a", q)
			if err != nil || *job.Namespace != "default" {
				t.Errorf("job %+v, error %v, want the one in default", job, err)
			}
		})
	}
	const other = `namespace "dev": not supported yet, only "default" exists`
	q, w := &public.QueryOptions{Namespace: "dev"}, &public.WriteOptions{Namespace: "dev"}
	for _, tt := range []struct {
		rule, text string
		status     int
		err        error
	}{
		{"list in another", other, 400, fails(c.Jobs().List(q))},
		{"read in another", other, 400, fails(c.Jobs().Info("a", q))},
		{"register in another", other, 400, fails(c.Jobs().Register(nowhere("b"), w))},
		{"deregister in another", other, 400, fails(c.Jobs().Deregister("a", false, w))},
		{"register in all", `namespace "*" is for reading only`, 400, fails(c.Jobs().Register(nowhere("b"), &public.WriteOptions{Namespace: "*"}))},
	} {
		t.Run(tt.rule, func(t *testing.T) { refused(t, tt.err, tt.status, tt.text) })
	}
	job := nowhere("b")
	job.Namespace = new("dev")
	refusedLike(t, fails(c.Jobs().Register(job, nil)), 500, `1 error occurred:
	* namespace: "dev": namespaces are not supported yet`)
}
