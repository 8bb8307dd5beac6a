package fake

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/brumehq/brume/plugins"
)

// task is one task. It ends once.
type task struct {
	id, name  string
	started   time.Time
	killAfter time.Duration
	ended     chan struct{}
	writing   sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer // of its end; nil: it has none
	exit    *plugins.ExitResult
	at      time.Time
	signals int
}

func (t *task) end(result plugins.ExitResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exit != nil {
		return
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.exit, t.at = &result, time.Now()
	close(t.ended)
}

func (t *task) running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exit == nil
}

// result is how the task ended; it has ended.
func (t *task) result() plugins.ExitResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.exit
}

// openOutput opens a pipe or file. A pipe must have a reader, else every task would wait for one.
func openOutput(path string) (*os.File, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return out, nil
}

// write writes text as often as asked, or until the task ends.
func (t *task) write(out *os.File, text string, times int, every time.Duration) {
	defer out.Close()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for range times {
		select {
		case <-t.ended:
			return
		case <-tick.C:
		}
		if _, err := out.WriteString(text); err != nil {
			return // nobody reads it any more
		}
		tick.Reset(every)
	}
}

// Inspect tells how a task fares, and how many signals it got.
func (d *Driver) Inspect(_ context.Context, id string) (*plugins.TaskStatus, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &plugins.TaskStatus{
		ID: t.id, Name: t.name, State: plugins.TaskStateRunning, StartedAt: t.started,
		Attributes: map[string]string{"signals": strconv.Itoa(t.signals)},
	}
	if t.exit != nil {
		exit := *t.exit
		s.State, s.CompletedAt, s.Exit = plugins.TaskStateExited, t.at, &exit
	}
	return s, nil
}

// Stats reports that a task uses a tenth of a processor and 10 MiB.
func (d *Driver) Stats(ctx context.Context, id string, interval time.Duration) (<-chan plugins.Usage, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	out := make(chan plugins.Usage)
	go func() { // ends with ctx or the task, and says so by closing out
		defer close(out)
		for {
			u := plugins.Usage{Time: time.Now()}
			u.CPU.Percent, u.Memory.RSS = new(10.0), new(uint64(10<<20))
			select {
			case out <- u:
			case <-t.ended:
				return
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(interval):
			case <-t.ended:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
