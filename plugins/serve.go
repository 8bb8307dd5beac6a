package plugins

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/brumehq/brume/plugins/wire"
)

// ErrNotStartedByHost is returned by Serve when a person, not a host, started the plugin.
var ErrNotStartedByHost = errors.New("this is a driver plugin: it is started by an agent, not by hand")

// maxMessage bounds one gRPC message, in bytes, both ways.
const maxMessage = 16 << 20

func handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		ProtocolVersion: wire.ProtocolVersion, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue,
	}
}

// Serve makes this process the plugin of d. It returns when the host has closed the plugin; main should return then. The
// plugin outlives a host that dies, so that the next host finds it: writing its log to the dead host fails without
// ending the process.
func Serve(d Driver) error {
	if os.Getenv(wire.CookieKey) != wire.CookieValue {
		return ErrNotStartedByHost
	}
	// Asked for and never read, SIGPIPE makes a write fail with EPIPE. Ignoring it would pass on to all children.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake(),
		Plugins:         PluginSet(d),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: os.Stderr, JSONFormat: true}),
	})
	if c, ok := d.(Closer); ok {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return c.Close(ctx)
	}
	return nil
}

// PluginSet is d as go-plugin serves it, for tests over go-plugin's own connections.
func PluginSet(d Driver) goplugin.PluginSet {
	return goplugin.PluginSet{
		wire.BaseSet:   &grpcPlugin{serve: func(s *grpc.Server) { wire.RegisterBasePluginServer(s, &baseServer{d: d}) }},
		wire.DriverSet: &grpcPlugin{serve: func(s *grpc.Server) { wire.RegisterDriverServer(s, newDriverServer(d)) }},
	}
}

// grpcPlugin is one set of a plugin. Both ends dispense the connection itself: the sets share it.
type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	serve func(*grpc.Server)
}

func (p *grpcPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	p.serve(s)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}
