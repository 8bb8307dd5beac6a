package drivertest

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/brumehq/brume/plugins"
)

// OverGRPC is the client of a driver in this process, reached over go-plugin's own connection.
func OverGRPC(t *testing.T, d plugins.Driver) plugins.Client {
	t.Helper()
	client, server := goplugin.TestPluginGRPCConn(t, false, plugins.PluginSet(d))
	t.Cleanup(func() {
		client.Close() // stops the server too
		<-server.DoneCh
	})
	return plugins.Remote(client.Conn, nil)
}

// Program is a driver plugin in a process of its own.
type Program struct {
	Path   string
	Args   []string
	Env    []string
	Config map[string]any

	dir      string
	log      *slog.Logger
	instance *plugins.Instance
}

// Start launches the program. It is ended at the end of the test, which is that of all restarts too.
func (p *Program) Start(t *testing.T) plugins.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugin") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.instance != nil {
			p.instance.Kill(context.WithoutCancel(t.Context()))
		}
		if err := os.Remove(dir); err != nil {
			t.Error("left by the plugin: ", err)
		}
	})
	p.dir = dir
	p.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return p.launch(t)
}

func (p *Program) launch(t *testing.T) plugins.Client {
	t.Helper()
	i, err := plugins.Launch(t.Context(), plugins.LaunchConfig{
		Name: "test", Path: p.Path, Args: p.Args, Env: p.Env, SocketDir: p.dir, Log: p.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.instance = i
	if err := i.Configure(t.Context(), p.Config, Host()); err != nil {
		t.Fatal(err)
	}
	return i.Driver()
}

// Restart kills the program and launches it again: a Suite's Restart.
func (p *Program) Restart(t *testing.T) plugins.Client {
	t.Helper()
	if err := syscall.Kill(p.instance.Reattach().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.instance.Done():
	case <-time.After(patience):
		t.Fatal("the death of the plugin is not noticed")
	}
	p.instance.Kill(t.Context()) // frees what is left of it
	return p.launch(t)
}

// Host is a small host.
func Host() plugins.HostConfig {
	return plugins.HostConfig{MinPort: 20000, MaxPort: 32000, Topology: plugins.Topology{
		NodeIDs: []uint32{0}, Distances: [][]uint32{{10}}, Cores: []plugins.Core{{ID: 0, BaseMHz: 2000}, {ID: 1, BaseMHz: 2000}},
	}}
}
