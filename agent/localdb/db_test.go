package localdb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
)

func open(t *testing.T, path string) *localdb.DB {
	t.Helper()
	db, err := localdb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsSurviveClosing(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "agent.db")
	db, err := localdb.Open(path)
	must(t, err)
	healthy := true
	job := api.NewJob(api.JobTypeBatch)
	job.ID, job.Name = "web", "web"
	job.Version = 3
	a := &localdb.Alloc{Alloc: &api.Allocation{ID: "a1", Job: job}, Healthy: &healthy}
	task := &localdb.Task{
		Name: "server", ID: "a1/server/00", Driver: "raw_exec", Handle: []byte(`{"Version":1}`),
		State:   api.TaskState{State: api.TaskStateRunning, StartedAt: time.Unix(5, 0).UTC()},
		Restart: localdb.Restart{Count: 2, Since: time.Unix(3, 0).UTC()},
	}
	must(t, db.PutAlloc(a), db.PutTask("a1", task), db.PutTask("a10", &localdb.Task{Name: "other"}), db.PutPlugin("raw_exec", map[string]int{"Pid": 7}))
	must(t, db.Close())

	db = open(t, path)
	got, err := db.Allocs()
	must(t, err)
	want := []*localdb.Record{{Alloc: *a, Tasks: map[string]*localdb.Task{"server": task}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Allocs (-want +got):\n%s", diff)
	}
	var reattach map[string]int
	found, err := db.Plugin("raw_exec", &reattach)
	must(t, err)
	if !found || reattach["Pid"] != 7 {
		t.Errorf("Plugin = %v, %v", found, reattach)
	}
	must(t, db.PutPlugin("raw_exec", nil))
	if found, _ := db.Plugin("raw_exec", &reattach); found {
		t.Error("a plugin that was forgotten is still there")
	}
	must(t, db.Close())
}

func TestDeleteAllocTakesItsTasksOnly(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "agent.db"))
	for _, id := range []string{"a1", "a10"} {
		must(t, db.PutAlloc(&localdb.Alloc{Alloc: &api.Allocation{ID: id}}))
		must(t, db.PutTask(id, &localdb.Task{Name: "one"}), db.PutTask(id, &localdb.Task{Name: "two"}))
	}
	must(t, db.DeleteAlloc("a1"))
	must(t, db.PutAlloc(&localdb.Alloc{Alloc: &api.Allocation{ID: "a1"}})) // its tasks would show again
	got, err := db.Allocs()
	must(t, err)
	tasks := map[string]int{}
	for _, r := range got {
		tasks[r.Alloc.Alloc.ID] = len(r.Tasks)
	}
	if diff := cmp.Diff(map[string]int{"a1": 0, "a10": 2}, tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

func TestWritersShareCommits(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "agent.db"))
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := db.PutTask("a", &localdb.Task{Name: strconv.Itoa(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, db.PutAlloc(&localdb.Alloc{Alloc: &api.Allocation{ID: "a"}}))
	got, err := db.Allocs()
	must(t, err)
	if len(got) != 1 || len(got[0].Tasks) != 200 {
		t.Errorf("%d allocations, want 1 with 200 tasks", len(got))
	}
}

func TestOpenNamesTheFileThatIsAtFault(t *testing.T) {
	dir := t.TempDir()
	held := filepath.Join(dir, "held.db")
	open(t, held)
	garbage := filepath.Join(dir, "garbage.db")
	must(t, os.WriteFile(garbage, []byte(strings.Repeat("no database ", 2000)), 0o600))
	short := filepath.Join(dir, "short.db")
	must(t, os.WriteFile(short, []byte("x"), 0o600))
	for _, tt := range []struct{ name, path, want string }{
		{"another process has it", held, "in use by another agent"},
		{"it is no database", garbage, "invalid database"},
		{"it is cut short", short, ""},
		{"its directory is missing", filepath.Join(dir, "no", "x.db"), "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := localdb.Open(tt.path)
			if err == nil {
				db.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), tt.path) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v, want the path and %q", err, tt.want)
			}
		})
	}
}

func TestWriteAfterCloseIsRefused(t *testing.T) {
	db, err := localdb.Open(filepath.Join(t.TempDir(), "agent.db"))
	must(t, err)
	must(t, db.Close(), db.Close())
	if err := db.PutTask("a", &localdb.Task{Name: "t"}); !errors.Is(err, localdb.ErrClosed) {
		t.Errorf("PutTask = %v, want ErrClosed", err)
	}
}
