package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

func status(id, client string) *api.AllocStatus {
	return &api.AllocStatus{ID: id, ClientStatus: client}
}

// ids names what a batch carries: "a=running".
func ids(batch []*api.AllocStatus) (out []string) {
	for _, s := range batch {
		out = append(out, s.ID+"="+s.ClientStatus)
	}
	return out
}

func TestReporterSendsTheNewestOfEachWhenTheLastSendIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newReporter()
		var got [][]string
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.serve(ctx, func(_ context.Context, batch []*api.AllocStatus) error {
				time.Sleep(time.Second) // a slow hub
				got = append(got, ids(batch))
				return nil
			})
		}()
		began := time.Now()
		r.report(status("a", "pending"))
		synctest.Wait()
		for _, s := range []*api.AllocStatus{status("a", "running"), status("b", "pending"), status("a", "complete")} {
			r.report(s)
		}
		if !r.unsent("a") || r.unsent("c") {
			t.Error("unsent does not know what is on its way")
		}
		r.drained(ctx)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("two sends of a second took %s: something waited for a tick", took)
		}
		cancel()
		<-done
		if diff := cmp.Diff([][]string{{"a=pending"}, {"a=complete", "b=pending"}}, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

func TestReporterKeepsWhatALostLinkDidNotTake(t *testing.T) {
	broken := errors.New("link is gone")
	r := newReporter()
	for _, id := range []string{"a", "b"} {
		r.report(status(id, "running"))
	}
	err := r.serve(t.Context(), func(_ context.Context, batch []*api.AllocStatus) error {
		r.report(status("b", "failed")) // meanwhile
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("serve = %v, want %v", err, broken)
	}
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	err = r.serve(ctx, func(_ context.Context, batch []*api.AllocStatus) error {
		got = append(got, ids(batch)...)
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("serve = %v", err)
	}
	if diff := cmp.Diff([]string{"a=running", "b=failed"}, got); diff != "" {
		t.Errorf("over the next link (-want +got):\n%s", diff)
	}
	if r.unsent("a") {
		t.Error("a is acknowledged and still unsent")
	}
}
