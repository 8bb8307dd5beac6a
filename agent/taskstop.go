package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/brumehq/brume/plugins"
)

const (
	destroyTimeout = 10 * time.Second
	stopGrace      = 10 * time.Second // a driver's StopTask may take this much longer than the kill timeout
	stopAgain      = 30 * time.Second // a stopped task that has not ended by then is stopped once more
	recoverTries   = 5
	recoverPause   = time.Second
)

// await waits for the current run to end, stops it when live ends, and puts its exit on record. It reports false if ctx
// ended first.
func (t *task) await(ctx, live context.Context) (exit, bool) {
	if x, ok := t.ended(); ok {
		return x, true // an earlier agent saw it
	}
	waiting, cancel := context.WithCancel(ctx)
	result := make(chan exit, 1) // so that the waiter never waits for us
	done := make(chan struct{})
	id, name, handle, on := t.rec.ID, t.rec.Driver, t.rec.Handle, t.on
	go func() {
		defer close(done)
		if x, ok := t.wait(waiting, run{id, name, handle}, on); ok {
			result <- x
		}
	}()
	defer func() { <-done }()
	defer cancel()
	x, ok := t.outlast(ctx, live, result, done)
	if !ok {
		return exit{}, false
	}
	t.record(x)
	return x, true
}

// outlast returns the result once there is one, having stopped the run if live ended first. It reports false if done was
// closed, or ctx ended, without a result.
func (t *task) outlast(ctx, live context.Context, result <-chan exit, done <-chan struct{}) (exit, bool) {
	for {
		select {
		case x := <-result:
			return x, true
		case <-done:
			select {
			case x := <-result:
				return x, true
			default:
				return exit{}, false
			}
		case e := <-t.said:
			t.hear(e)
		case <-live.Done():
			if ctx.Err() != nil {
				return exit{}, false
			}
			return t.stop(ctx, context.Cause(live), result)
		}
	}
}

// record stores how a run ended, before the driver may forget it.
func (t *task) record(x exit) {
	data, err := json.Marshal(x)
	if err != nil { // cannot be: x is three numbers and a text
		t.log.Error("record exit", "err", err)
	}
	t.rec.Exit = data
	t.rec.State.FinishedAt = time.Now()
	t.note(terminatedEvent(x))
	_ = t.store()
}

// run names one run of a task to a driver.
type run struct {
	id, driver string
	handle     json.RawMessage
}

// wait waits for a run to end, whichever plugin processes come and go meanwhile; each new one is told of the run first.
// It reports false if ctx ended first.
func (t *task) wait(ctx context.Context, r run, on *driver) (exit, bool) {
	var gone *driver
	for failures := 0; ctx.Err() == nil; {
		d, err := t.h.drivers.get(ctx, r.driver, gone)
		if err == nil && d != on {
			err = recoverRun(ctx, d, r.handle)
		}
		if err == nil {
			on = d
			var result plugins.ExitResult
			if result, err = d.Wait(ctx, r.id); err == nil {
				return exitOf(result), true
			}
		}
		switch {
		case ctx.Err() != nil:
			return exit{}, false
		case errors.Is(err, plugins.ErrPluginGone):
			gone = d
			t.log.Debug("driver plugin is gone, the task is not", "driver", r.driver)
			continue
		case errors.Is(err, plugins.ErrExitUnknown):
			return exit{Unknown: "nobody saw the task end"}, true
		case errors.Is(err, errNoDriver):
			return exit{Unknown: err.Error()}, true
		}
		on = nil
		if failures++; failures >= recoverTries || errors.Is(err, plugins.ErrTaskNotFound) && failures > 1 {
			return exit{Unknown: fmt.Sprintf("driver %s lost the task: %v", r.driver, err)}, true
		}
		if !pause(ctx, recoverPause) {
			return exit{}, false
		}
	}
	return exit{}, false
}

// recoverRun tells a driver's new process of a run that an earlier one started.
func recoverRun(ctx context.Context, d *driver, handle json.RawMessage) error {
	h := new(plugins.TaskHandle)
	if err := json.Unmarshal(handle, h); err != nil {
		return fmt.Errorf("handle: %w", err)
	}
	return d.Recover(ctx, h)
}

// stop ends the current run: after the shutdown delays, by the task's signal, by force after its timeout. It never calls a
// task ended that the driver has not said is: it asks again until then. It reports false if ctx ended first.
func (t *task) stop(ctx context.Context, cause error, result <-chan exit) (exit, bool) {
	spec := t.want.Load().task(t.name)
	reason, ok := errors.AsType[*stopReason](cause)
	if !ok {
		reason = &stopReason{text: cause.Error()}
	}
	if reason.event != "" {
		t.note(newEvent(reason.event, reason.text))
	}
	if delay := reason.delay + spec.ShutdownDelay; delay > 0 && !reason.hurry {
		select {
		case x := <-result:
			return x, true
		case <-ctx.Done():
			return exit{}, false
		case <-time.After(delay):
		}
	}
	timeout := min(spec.KillTimeout, t.h.maxKill)
	signal := spec.KillSignal
	if signal == "" {
		signal = defaultSignal
	}
	t.note(killingEvent(reason.text, signal, timeout))
	t.publish()
	for try := 0; ; try++ {
		next := stopAgain
		if err := t.stopOnce(ctx, timeout, signal); err != nil {
			if ctx.Err() != nil {
				return exit{}, false
			}
			next = backoff(try, stopAgain)
			t.log.Warn("stop task", "err", err, "again", next)
		}
		select {
		case x := <-result:
			return x, true
		case <-ctx.Done():
			return exit{}, false
		case <-time.After(next):
		}
	}
}

// defaultSignal is sent to a task that names no kill_signal.
const defaultSignal = "SIGINT"

func (t *task) stopOnce(ctx context.Context, timeout time.Duration, signal string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout+stopGrace)
	defer cancel()
	d, err := t.h.drivers.get(ctx, t.rec.Driver, nil)
	if err != nil {
		return err
	}
	return d.Stop(ctx, t.rec.ID, timeout, signal)
}

func exitOf(r plugins.ExitResult) exit {
	return exit{Code: r.ExitCode, Signal: r.Signal, OOMKilled: r.OOMKilled}
}
