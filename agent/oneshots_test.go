package agent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/brumehq/brume/agent/localdb"
	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/plugins"
)

// BenchmarkOneShots is what the agent itself adds to 500 batch tasks that end at once: directories, local database,
// restart decisions and reports, with a driver that starts nothing.
func BenchmarkOneShots(b *testing.B) {
	for b.Loop() {
		oneShots(b, 500)
	}
}

func oneShots(b *testing.B, n int) {
	b.StopTimer()
	defer b.StartTimer()
	driver := newScripted()
	driver.onStart = func(_ context.Context, c *plugins.TaskConfig) error { return nil }
	cfg := Config{Name: "n1", DataDir: b.TempDir(), Datacenter: "dc1", NodePool: "default", Drivers: map[string]plugins.Client{}}
	d, err := newDirs(cfg)
	if err != nil {
		b.Fatal(err)
	}
	db, err := localdb.Open(d.database())
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	node := describeNode(cfg, "5c2f7bd1-0000-8000-8000-000000000000", &fingerprint.Facts{})
	drivers := newDriverSet(log, node, inProcess(map[string]plugins.Client{"scripted": &atOnce{plugins.InProcess(driver)}}))
	h := &host{log: log, dirs: d, db: db, drivers: drivers, reporter: newReporter(), node: node, region: "global", maxKill: time.Second}
	wanted := make(chan *api.NodeAllocs)
	recon := newReconciler(h, wanted, false)
	ctx, cancel := context.WithCancel(b.Context())
	l := stage(ctx)
	ready, complete := make(chan struct{}), make(chan struct{}, n)
	l.run(func(ctx context.Context) { drivers.run(ctx, func() { close(ready) }) })
	seen := make(map[string]bool)
	l.run(func(ctx context.Context) {
		h.reporter.serve(ctx, func(_ context.Context, batch []*api.AllocStatus) error {
			for _, s := range batch {
				if s.ClientStatus == api.AllocClientComplete && !seen[s.ID] {
					seen[s.ID] = true
					complete <- struct{}{}
				}
			}
			return nil
		})
	})
	<-ready
	l.run(func(context.Context) { recon.run(ctx) })
	update := &api.NodeAllocs{Index: 1, Full: true}
	a := newAllocation(api.JobTypeBatch, "main")
	update.Jobs = []*api.Job{a.Job}
	for i := range n {
		c := *a
		c.Job, c.ID = nil, fmt.Sprintf("0b4ffd6e-8a1c-4d9a-9d6e-%012d", i)
		update.Allocs, update.Versions = append(update.Allocs, &c), append(update.Versions, 0)
	}
	b.StartTimer()
	wanted <- update
	for range n {
		<-complete
	}
	b.StopTimer()
	cancel()
	l.end()
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}

// atOnce is a driver whose tasks have always ended.
type atOnce struct{ plugins.Client }

func (atOnce) Wait(context.Context, string) (plugins.ExitResult, error) {
	return plugins.ExitResult{}, nil
}
