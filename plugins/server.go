package plugins

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brumehq/brume/plugins/wire"
)

// baseServer answers for what every plugin has.
type baseServer struct {
	wire.UnimplementedBasePluginServer
	d Driver
}

func (s *baseServer) PluginInfo(context.Context, *wire.PluginInfoRequest) (*wire.PluginInfoResponse, error) {
	about := s.d.Describe()
	return &wire.PluginInfoResponse{
		Type: wire.PluginType_PLUGIN_TYPE_DRIVER, PluginApiVersions: []string{wire.APIVersion},
		PluginVersion: about.Version, Name: about.Name,
	}, nil
}

func (s *baseServer) ConfigSchema(context.Context, *wire.ConfigSchemaRequest) (*wire.ConfigSchemaResponse, error) {
	return &wire.ConfigSchemaResponse{Spec: s.d.Describe().Config.toWire()}, nil
}

func (s *baseServer) SetConfig(ctx context.Context, r *wire.SetConfigRequest) (*wire.SetConfigResponse, error) {
	if c, ok := s.d.(Configurer); ok {
		if err := c.Configure(ctx, Config{r.GetMsgpackConfig()}, hostFromWire(r.GetHost())); err != nil {
			return nil, toStatus(err)
		}
	}
	return &wire.SetConfigResponse{}, nil
}

// driverServer answers for a Driver and the optional interfaces that it has; for others it answers Unimplemented.
type driverServer struct {
	wire.UnimplementedDriverServer
	c *client
}

func newDriverServer(d Driver) *driverServer { return &driverServer{c: newClient(d)} }

func (s *driverServer) Init(context.Context, *wire.InitRequest) (*wire.InitResponse, error) {
	return &wire.InitResponse{}, nil
}

func (s *driverServer) Shutdown(context.Context, *wire.ShutdownRequest) (*wire.ShutdownResponse, error) {
	return &wire.ShutdownResponse{}, nil // go-plugin ends the process next, and Serve closes the driver
}

func (s *driverServer) TaskConfigSchema(ctx context.Context, _ *wire.TaskConfigSchemaRequest) (*wire.TaskConfigSchemaResponse, error) {
	schema, err := s.c.about.taskSchema(ctx)
	return &wire.TaskConfigSchemaResponse{Spec: schema.toWire()}, toStatus(err)
}

func (s *driverServer) Capabilities(ctx context.Context, _ *wire.CapabilitiesRequest) (*wire.CapabilitiesResponse, error) {
	caps, err := s.c.Capabilities(ctx)
	return &wire.CapabilitiesResponse{Capabilities: caps.toWire()}, toStatus(err)
}

func (s *driverServer) Fingerprint(_ *wire.FingerprintRequest, out wire.Driver_FingerprintServer) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	prints, err := s.c.Fingerprint(ctx)
	return forward(ctx, prints, err, func(f Fingerprint) error { return out.Send(f.toWire()) })
}

// forward sends all that comes from a channel until it closes or sending fails.
func forward[T any](ctx context.Context, from <-chan T, err error, send func(T) error) error {
	if err != nil {
		return toStatus(err)
	}
	for {
		select {
		case v, ok := <-from:
			if !ok {
				return nil
			}
			if err := send(v); err != nil {
				return err
			}
		case <-ctx.Done():
			return toStatus(ctx.Err())
		}
	}
}

func (s *driverServer) StartTask(ctx context.Context, r *wire.StartTaskRequest) (*wire.StartTaskResponse, error) {
	config := taskConfigFromWire(r.GetTask())
	if config == nil {
		config = new(TaskConfig)
	}
	handle, network, err := s.c.Start(ctx, config)
	if err != nil {
		return nil, toStatus(err)
	}
	return &wire.StartTaskResponse{Handle: handle.toWire(), NetworkOverride: network.toWire()}, nil
}

func (s *driverServer) RecoverTask(ctx context.Context, r *wire.RecoverTaskRequest) (*wire.RecoverTaskResponse, error) {
	handle := handleFromWire(r.GetHandle())
	if handle == nil || handle.Config == nil {
		return nil, toStatus(ErrTaskNotFound)
	}
	return &wire.RecoverTaskResponse{}, toStatus(s.c.Recover(ctx, handle))
}

func (s *driverServer) WaitTask(ctx context.Context, r *wire.WaitTaskRequest) (*wire.WaitTaskResponse, error) {
	result, err := s.c.Wait(ctx, r.GetTaskId())
	if errors.Is(err, ErrExitUnknown) { // the wait went well: it is the task's end that nobody saw
		return &wire.WaitTaskResponse{Result: result.toWire(), Err: err.Error()}, nil
	}
	return &wire.WaitTaskResponse{Result: result.toWire()}, toStatus(err)
}

func (s *driverServer) StopTask(ctx context.Context, r *wire.StopTaskRequest) (*wire.StopTaskResponse, error) {
	err := s.c.Stop(ctx, r.GetTaskId(), durationFromWire(r.GetTimeout()), r.GetSignal())
	return &wire.StopTaskResponse{}, toStatus(err)
}

func durationFromWire(d *durationpb.Duration) time.Duration {
	if d == nil || d.CheckValid() != nil {
		return 0
	}
	return max(0, d.AsDuration())
}

func (s *driverServer) DestroyTask(ctx context.Context, r *wire.DestroyTaskRequest) (*wire.DestroyTaskResponse, error) {
	return &wire.DestroyTaskResponse{}, toStatus(s.c.Destroy(ctx, r.GetTaskId(), r.GetForce()))
}

func (s *driverServer) InspectTask(ctx context.Context, r *wire.InspectTaskRequest) (*wire.InspectTaskResponse, error) {
	status, err := s.c.Inspect(ctx, r.GetTaskId())
	if err != nil {
		return nil, toStatus(err)
	}
	return status.toWire(), nil
}

func (s *driverServer) TaskStats(r *wire.TaskStatsRequest, out wire.Driver_TaskStatsServer) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	usage, err := s.c.Stats(ctx, r.GetTaskId(), durationFromWire(r.GetCollectionInterval()))
	return forward(ctx, usage, err, func(u Usage) error { return out.Send(&wire.TaskStatsResponse{Stats: u.toWire()}) })
}

func (s *driverServer) TaskEvents(_ *wire.TaskEventsRequest, out wire.Driver_TaskEventsServer) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	events, err := s.c.Events(ctx)
	return forward(ctx, events, err, func(e TaskEvent) error { return out.Send(e.toWire()) })
}

func (s *driverServer) SignalTask(ctx context.Context, r *wire.SignalTaskRequest) (*wire.SignalTaskResponse, error) {
	return &wire.SignalTaskResponse{}, toStatus(s.c.Signal(ctx, r.GetTaskId(), r.GetSignal()))
}

func (s *driverServer) CreateNetwork(ctx context.Context, r *wire.CreateNetworkRequest) (*wire.CreateNetworkResponse, error) {
	spec, created, err := s.c.CreateNetwork(ctx, r.GetAllocId(), r.GetHostname())
	return &wire.CreateNetworkResponse{IsolationSpec: spec.toWire(), Created: created}, toStatus(err)
}

func (s *driverServer) DestroyNetwork(ctx context.Context, r *wire.DestroyNetworkRequest) (*wire.DestroyNetworkResponse, error) {
	err := s.c.DestroyNetwork(ctx, r.GetAllocId(), networkFromWire(r.GetIsolationSpec()))
	return &wire.DestroyNetworkResponse{}, toStatus(err)
}
