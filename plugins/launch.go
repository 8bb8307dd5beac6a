package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/brumehq/brume/plugins/wire"
)

// LaunchConfig says which plugin to launch, or with Reattach which running one to take over.
type LaunchConfig struct {
	Name      string // for the log
	Path      string
	Args      []string
	Env       []string // the plugin's whole environment, beside what the handshake needs
	SocketDir string   // made 0700 if it is not there; at most 61 bytes, since paths of sockets are short
	Reattach  *Reattach
	Log       *slog.Logger // nil: none
}

// Reattach names a running plugin, for a later process of the host. It is stored as JSON.
type Reattach struct {
	Pid     int
	Started uint64 // in clock ticks since boot: a process that has got the same Pid later has another
	Addr    string // unix socket
	Dir     string // of its socket and its log pipe; removed when the plugin is killed
}

const (
	launchTimeout = 20 * time.Second
	// maxSocketDir leaves room for what is added to it: 100 bytes in all.
	maxSocketDir = 100 - len("/p4294967295/plugin4294967295")
)

// Launch starts a plugin and shakes hands, or takes over the running one that Reattach names. ctx ends only the launching.
// After an error nothing is left: neither a process that Launch started, nor one that could not be taken over, so that it
// is best started anew. Only one that ctx ended the taking over of goes on.
func Launch(ctx context.Context, c LaunchConfig) (*Instance, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	i := &Instance{log: c.Log.With("plugin", c.Name), done: make(chan struct{})}
	i.finish = sync.OnceFunc(func() { close(i.done) })
	config := &goplugin.ClientConfig{
		HandshakeConfig:  handshake(),
		Plugins:          goplugin.PluginSet{wire.BaseSet: &grpcPlugin{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
		StartTimeout:     launchTimeout,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
			grpc.WithIdleTimeout(0),
		},
	}
	prepare := i.prepare
	if c.Reattach != nil {
		prepare = i.attach
	}
	err := prepare(config, c)
	if err == nil {
		i.client = goplugin.NewClient(config)
		err = i.connect(ctx, c.Reattach != nil)
	}
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", c.Name, err)
	}
	return i, nil
}

// prepare makes config start a process.
func (i *Instance) prepare(config *goplugin.ClientConfig, c LaunchConfig) error {
	if len(c.SocketDir) > maxSocketDir {
		return fmt.Errorf("%s: longer than the %d bytes that a unix socket's directory may have", c.SocketDir, maxSocketDir)
	}
	if err := os.MkdirAll(c.SocketDir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.SocketDir, "p")
	if err != nil {
		return err
	}
	cmd := exec.Command(c.Path, c.Args...)
	if i.proc, err = launched(cmd, dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	i.at.Dir = dir
	config.UnixSocketConfig = &goplugin.UnixSocketConfig{TempDir: dir} // for what go-plugin makes and we do not use
	config.RunnerFunc = func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
		cmd.Env = slices.Concat(c.Env, spec.Env, []string{goplugin.EnvUnixSocketDir + "=" + dir})
		return i.proc, nil
	}
	return nil
}

// attach makes config use a running process.
func (i *Instance) attach(config *goplugin.ClientConfig, c LaunchConfig) error {
	var err error
	if i.proc, err = found(c.Reattach); err != nil {
		return errors.Join(err, os.RemoveAll(c.Reattach.Dir))
	}
	i.at = *c.Reattach
	config.Reattach = &goplugin.ReattachConfig{
		Protocol: goplugin.ProtocolGRPC, ProtocolVersion: wire.ProtocolVersion,
		Addr: &net.UnixAddr{Name: c.Reattach.Addr, Net: "unix"}, Pid: c.Reattach.Pid,
		ReattachFunc: func() (runner.AttachedRunner, error) { return i.proc, nil },
	}
	return nil
}
