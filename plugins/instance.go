package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/brumehq/brume/plugins/wire"
)

// Instance is a running plugin. One of Kill and Detach must be called in the end, after Done too.
type Instance struct {
	info   Info
	proc   *process
	client *goplugin.Client
	conn   *grpc.ClientConn
	base   base
	driver *client
	at     Reattach
	log    *slog.Logger

	done    chan struct{}
	finish  func()
	dialed  chan struct{} // closed when dial has returned
	relayed chan struct{} // closed when the log has ended
	waiting sync.WaitGroup
	stop    context.CancelFunc // of what waits
	ending  sync.Once
}

const pingTimeout = 3 * time.Second

// connect starts or attaches, connects and asks the plugin what it is. After a failure nothing is left of it, but a
// process that was running before if it is ctx that ended.
func (i *Instance) connect(ctx context.Context, attaches bool) error {
	relay := &relay{log: i.log}
	i.relayed = make(chan struct{})
	i.waiting.Go(func() {
		defer close(i.relayed)
		relay.run(i.proc.log)
	})
	watching, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.waiting.Go(func() {
		select {
		case <-i.proc.ended:
			i.finish()
		case <-watching.Done():
		}
	})
	result := make(chan error, 1) // so that dial's goroutine ends though we gave up
	i.dialed = make(chan struct{})
	i.waiting.Go(func() {
		defer close(i.dialed)
		result <- i.dial(watching)
	})
	var err error
	select {
	case err = <-result:
		if err == nil {
			i.waiting.Go(func() { i.watch(watching) })
			return nil
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(launchTimeout):
		err = errors.New("it does not shake hands")
	}
	if attaches && ctx.Err() != nil {
		i.Detach()
		return err
	}
	if killErr := i.proc.Kill(ctx); killErr != nil {
		i.log.Error("kill plugin", "err", killErr)
	}
	i.end()
	if last := relay.last(); last != "" { // relay has ended: nothing is missing
		err = fmt.Errorf("%w; it said: %s", err, last)
	}
	return err
}

// dial blocks while the process starts and answers; it returns at latest soon after the process has ended.
func (i *Instance) dial(ctx context.Context) error {
	addr, err := i.client.Start()
	if err != nil {
		return errors.New(clip(err.Error(), maxErrorText))
	}
	protocol, err := i.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(wire.BaseSet)
	if err != nil {
		return err
	}
	i.conn = raw.(*grpc.ClientConn) // what grpcPlugin dispenses
	i.driver = newRemote(i.conn, i.done)
	i.base = base{plugin: wire.NewBasePluginClient(i.conn), remote: i.driver.Tasks.(*remote)}
	i.at.Pid, i.at.Started, i.at.Addr = i.proc.pid, i.proc.started, addr.String()
	i.info, err = i.base.about(ctx)
	return err
}

// watch sees to it that a process that no longer answers counts as gone: a connection that breaks and cannot be had again.
func (i *Instance) watch(ctx context.Context) {
	for state := i.conn.GetState(); ; state = i.conn.GetState() {
		if state != connectivity.Ready && !i.answers(ctx) {
			if ctx.Err() == nil {
				i.finish()
			}
			return
		}
		if !i.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

func (i *Instance) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	q := &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName}
	_, err := grpc_health_v1.NewHealthClient(i.conn).Check(ctx, q)
	return err == nil || status.Code(err) == codes.Unimplemented
}

// Info is what the plugin says of itself.
func (i *Instance) Info() Info { return i.info }

// Configure gives the plugin its configuration, by its schema and with its defaults, and puts it in service. It may be
// called again, also on a plugin that was taken over.
func (i *Instance) Configure(ctx context.Context, config map[string]any, host HostConfig) error {
	if err := i.base.configure(ctx, config, host); err != nil {
		return fmt.Errorf("plugin %s: %w", i.info.Name, err)
	}
	return nil
}

// Driver is the driver in the plugin.
func (i *Instance) Driver() Client { return i.driver }

// Reattach is what a later process of the host needs to take the plugin over.
func (i *Instance) Reattach() Reattach { return i.at }

// Done is closed when the plugin's process has ended, no longer answers, or is let go of.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Detach lets go of the plugin, which goes on. Pending calls return ErrPluginGone.
func (i *Instance) Detach() { i.ending.Do(i.detach) }

func (i *Instance) detach() {
	i.finish()
	i.stop()
	i.proc.letGo()
	<-i.dialed
	if i.conn != nil {
		i.conn.Close()
		// With the connection closed this cannot tell the plugin to end; it ends what go-plugin has running here.
		if protocol, err := i.client.Client(); err == nil {
			protocol.Close()
		}
	}
	i.waiting.Wait()
}

// Kill ends the plugin: asked first, by force after two seconds or when ctx ends. Tasks go on as far as they do not live
// in the plugin.
func (i *Instance) Kill(ctx context.Context) {
	i.ending.Do(func() { i.kill(ctx) })
}

func (i *Instance) kill(ctx context.Context) {
	if err := i.driver.Tasks.(*remote).shut(ctx); err != nil && !errors.Is(err, ErrPluginGone) {
		i.log.Debug("plugin does not shut down", "err", err)
	}
	force := context.AfterFunc(ctx, func() { _ = i.proc.Kill(ctx) }) // what cannot be killed is waited for
	defer force()
	late := time.AfterFunc(closeTimeout, func() { _ = i.proc.Kill(ctx) })
	defer late.Stop()
	i.client.Kill() // asks, and waits for the process to end
	i.release()
}

// end takes down what was started, after the process was killed.
func (i *Instance) end() {
	i.ending.Do(func() {
		<-i.dialed
		i.client.Kill()
		i.release()
	})
}

// release frees what belongs to a process that has ended.
func (i *Instance) release() {
	i.finish()
	i.stop()
	if i.conn != nil {
		i.conn.Close()
	}
	<-i.relayed // the process has ended, so its log ends
	i.proc.letGo()
	i.waiting.Wait()
	if err := os.RemoveAll(i.at.Dir); err != nil {
		i.log.Warn("remove plugin's directory", "err", err)
	}
}
