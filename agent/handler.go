package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"

	"github.com/brumehq/brume/agent/allocdir"
	"github.com/brumehq/brume/agent/logs"
)

// newHandler serves what hubs may ask of this node over the link.
func newHandler(tasks *reconciler, h *host) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+logs.Path+"{id}", func(w http.ResponseWriter, r *http.Request) {
		find := func(allocID, task string) (logs.Source, error) { return findLogs(r.Context(), tasks, h, allocID, task) }
		logs.NewHandler(find, h.log).ServeHTTP(w, r)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not supported yet", http.StatusNotImplemented)
	})
	return mux
}

// findLogs says where the output of a task is.
func findLogs(ctx context.Context, tasks *reconciler, h *host, allocID, task string) (logs.Source, error) {
	held := tasks.find(ctx, allocID)
	if held == nil {
		return logs.Source{}, logs.UnknownAllocation(allocID)
	}
	t := held.a.tasks[task] // the map does not change once the allocation is held
	if t == nil {
		return logs.Source{}, logs.UnknownTask(task)
	}
	if !t.begun.Load() {
		return logs.Source{}, logs.NotStarted(task)
	}
	alloc, err := os.OpenRoot(h.dirs.alloc(allocID).Path())
	if err != nil {
		return logs.Source{}, err
	}
	defer alloc.Close()
	dir, err := alloc.OpenRoot(filepath.Join(allocdir.Shared, allocdir.Logs))
	if err != nil {
		return logs.Source{}, err
	}
	return logs.Source{Dir: dir, Ended: t.over}, nil
}
