package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brumehq/brume/plugins/wire"
)

const (
	metaTimeout  = 20 * time.Second // of calls that only ask a plugin about itself
	closeTimeout = 2 * time.Second
	goneGrace    = 3 * time.Second // a connection may break this much before its process is seen to end
)

// remote is a driver in a plugin process. Its calls end when the process does.
type remote struct {
	driver wire.DriverClient
	gone   <-chan struct{} // closed when the process has ended

	mu     sync.Mutex
	caps   *Capabilities
	schema *Schema
}

func newRemote(conn grpc.ClientConnInterface, gone <-chan struct{}) *client {
	r := &remote{driver: wire.NewDriverClient(conn), gone: gone}
	return &client{Tasks: r, about: r}
}

// Remote is the Client of a driver at the other end of a connection, for tests; gone is closed when that end has ended, nil
// is never. Launch gives one with a process behind it.
func Remote(conn grpc.ClientConnInterface, gone <-chan struct{}) Client { return newRemote(conn, gone) }

// bound returns a context that ends with ctx and with the plugin.
func (r *remote) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the call, which always cancels
		select {
		case <-r.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// failure is what err of a call means. caller is the context that the host gave.
func (r *remote) failure(caller context.Context, err error) error {
	if err == nil {
		return nil
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		if caller.Err() != nil {
			return caller.Err()
		}
		select {
		case <-r.gone:
			return ErrPluginGone
		case <-caller.Done():
			return caller.Err()
		case <-time.After(goneGrace):
		}
	case codes.DeadlineExceeded:
		if limit, ok := caller.Deadline(); ok && !time.Now().Before(limit) { // its own timer may be a moment late
			return context.DeadlineExceeded
		}
	}
	return fromStatus(err)
}

// call makes one unary call.
func call[Q, A any](ctx context.Context, r *remote, f func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	bound, cancel := r.bound(ctx)
	defer cancel()
	answer, err := f(bound, q)
	return answer, r.failure(ctx, err)
}

func (r *remote) capabilities(ctx context.Context) (Capabilities, error) {
	r.mu.Lock()
	known := r.caps
	r.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metaTimeout)
	defer cancel()
	answer, err := call(ctx, r, r.driver.Capabilities, &wire.CapabilitiesRequest{})
	if err != nil {
		return Capabilities{}, err
	}
	caps := capabilitiesFromWire(answer.GetCapabilities())
	r.mu.Lock()
	r.caps = &caps
	r.mu.Unlock()
	return caps, nil
}

func (r *remote) taskSchema(ctx context.Context) (Schema, error) {
	r.mu.Lock()
	known := r.schema
	r.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metaTimeout)
	defer cancel()
	answer, err := call(ctx, r, r.driver.TaskConfigSchema, &wire.TaskConfigSchemaRequest{})
	if err != nil {
		return Schema{}, err
	}
	schema := Schema{answer.GetSpec()}
	r.mu.Lock()
	r.schema = &schema
	r.mu.Unlock()
	return schema, nil
}

// open tells the plugin that it is in service, and shut that it will end; plugins that do not know these calls are old.
func (r *remote) open(ctx context.Context) error {
	_, err := call(ctx, r, r.driver.Init, &wire.InitRequest{})
	return ignoreUnsupported(err)
}

func (r *remote) shut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	_, err := call(ctx, r, r.driver.Shutdown, &wire.ShutdownRequest{})
	return ignoreUnsupported(err)
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, ErrUnsupported) {
		return nil
	}
	return err
}

func (r *remote) Fingerprint(ctx context.Context) (<-chan Fingerprint, error) {
	return stream(ctx, r, streaming[wire.FingerprintRequest, wire.FingerprintResponse, Fingerprint]{
		open: r.driver.Fingerprint, ask: &wire.FingerprintRequest{}, convert: fingerprintFromWire,
		last: func(err error) Fingerprint {
			return Fingerprint{Health: Unhealthy, Description: "the driver does not say how it is", Err: err}
		},
	})
}

func (r *remote) Stats(ctx context.Context, taskID string, interval time.Duration) (<-chan Usage, error) {
	return stream(ctx, r, streaming[wire.TaskStatsRequest, wire.TaskStatsResponse, Usage]{
		open: r.driver.TaskStats, ask: &wire.TaskStatsRequest{TaskId: taskID, CollectionInterval: durationpb.New(interval)},
		convert: func(a *wire.TaskStatsResponse) Usage { return usageFromWire(a.GetStats()) },
	})
}

func (r *remote) Events(ctx context.Context) (<-chan TaskEvent, error) {
	return stream(ctx, r, streaming[wire.TaskEventsRequest, wire.DriverTaskEvent, TaskEvent]{
		open: r.driver.TaskEvents, ask: &wire.TaskEventsRequest{}, convert: eventFromWire,
	})
}

// streaming is one stream of messages A that become values V.
type streaming[Q, A, V any] struct {
	open    func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[A], error)
	ask     *Q
	convert func(*A) V
	last    func(error) V // what a failure of the stream becomes; nil: nothing
}

// stream opens a stream. The channel that it returns is closed when the stream ends: with ctx, with the plugin, or by the
// driver, which ends it at once if it does not support it.
func stream[Q, A, V any](ctx context.Context, r *remote, s streaming[Q, A, V]) (<-chan V, error) {
	bound, cancel := r.bound(ctx)
	from, err := s.open(bound, s.ask)
	if err != nil {
		cancel()
		return nil, r.failure(ctx, err)
	}
	out := make(chan V)
	deliver := func(v V) {
		select {
		case out <- v:
		case <-bound.Done():
		}
	}
	go func() { // ends with the stream, and says so by closing out
		defer cancel()
		defer close(out)
		for {
			m, err := from.Recv()
			if err == nil {
				deliver(s.convert(m))
				continue
			}
			if s.last != nil && !errors.Is(err, io.EOF) && bound.Err() == nil {
				deliver(s.last(r.failure(ctx, err)))
			}
			return
		}
	}()
	return out, nil
}

func (r *remote) Start(ctx context.Context, task *TaskConfig) (*TaskHandle, *NetworkOverride, error) {
	answer, err := call(ctx, r, r.driver.StartTask, &wire.StartTaskRequest{Task: task.toWire()})
	if err != nil {
		return nil, nil, err
	}
	if answer.GetHandle() == nil {
		return nil, nil, errors.New("the driver started the task and gave no handle")
	}
	handle := handleFromWire(answer.GetHandle())
	if handle.Config == nil {
		handle.Config = task
	}
	return handle, overrideFromWire(answer.GetNetworkOverride()), nil
}

func (r *remote) Recover(ctx context.Context, handle *TaskHandle) error {
	_, err := call(ctx, r, r.driver.RecoverTask, &wire.RecoverTaskRequest{Handle: handle.toWire()})
	return err
}

func (r *remote) Wait(ctx context.Context, taskID string) (ExitResult, error) {
	answer, err := call(ctx, r, r.driver.WaitTask, &wire.WaitTaskRequest{TaskId: taskID})
	if err != nil {
		return ExitResult{}, err
	}
	result := exitFromWire(answer.GetResult())
	if answer.GetErr() != "" {
		return result, fromText(answer.GetErr())
	}
	if answer.GetResult() == nil {
		return result, ErrExitUnknown
	}
	return result, nil
}

func (r *remote) Stop(ctx context.Context, taskID string, timeout time.Duration, signal string) error {
	q := &wire.StopTaskRequest{TaskId: taskID, Timeout: durationpb.New(timeout), Signal: signal}
	_, err := call(ctx, r, r.driver.StopTask, q)
	return err
}

func (r *remote) Destroy(ctx context.Context, taskID string, force bool) error {
	_, err := call(ctx, r, r.driver.DestroyTask, &wire.DestroyTaskRequest{TaskId: taskID, Force: force})
	return err
}

func (r *remote) Inspect(ctx context.Context, taskID string) (*TaskStatus, error) {
	answer, err := call(ctx, r, r.driver.InspectTask, &wire.InspectTaskRequest{TaskId: taskID})
	if err != nil {
		return nil, err
	}
	return statusFromWire(answer), nil
}

func (r *remote) Signal(ctx context.Context, taskID, signal string) error {
	_, err := call(ctx, r, r.driver.SignalTask, &wire.SignalTaskRequest{TaskId: taskID, Signal: signal})
	return err
}

func (r *remote) CreateNetwork(ctx context.Context, allocID, hostname string) (*NetworkIsolation, bool, error) {
	q := &wire.CreateNetworkRequest{AllocId: allocID, Hostname: hostname}
	answer, err := call(ctx, r, r.driver.CreateNetwork, q)
	if err != nil {
		return nil, false, err
	}
	return networkFromWire(answer.GetIsolationSpec()), answer.GetCreated(), nil
}

func (r *remote) DestroyNetwork(ctx context.Context, allocID string, spec *NetworkIsolation) error {
	q := &wire.DestroyNetworkRequest{AllocId: allocID, IsolationSpec: spec.toWire()}
	_, err := call(ctx, r, r.driver.DestroyNetwork, q)
	return err
}

// base asks a plugin what it is and configures it.
type base struct {
	plugin wire.BasePluginClient
	remote *remote
}

// about is what a plugin says of itself, checked.
func (b *base) about(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, metaTimeout)
	defer cancel()
	answer, err := call(ctx, b.remote, b.plugin.PluginInfo, &wire.PluginInfoRequest{})
	if err != nil {
		return Info{}, fmt.Errorf("ask what it is: %w", err)
	}
	return infoFromWire(answer)
}

func (b *base) configure(ctx context.Context, config map[string]any, host HostConfig) error {
	ctx, cancel := context.WithTimeout(ctx, metaTimeout)
	defer cancel()
	answer, err := call(ctx, b.remote, b.plugin.ConfigSchema, &wire.ConfigSchemaRequest{})
	if err != nil {
		return fmt.Errorf("ask for its schema: %w", err)
	}
	data, err := Schema{answer.GetSpec()}.Encode(config, nil)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	q := &wire.SetConfigRequest{MsgpackConfig: data, Host: host.toWire(), PluginApiVersion: wire.APIVersion}
	if _, err := call(ctx, b.remote, b.plugin.SetConfig, q); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return b.remote.open(ctx)
}
