package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/brumehq/brume/plugins/keeper"
)

// keeperVariable tells the plugins that start processes where the keeper is.
const keeperVariable = "BRUME_KEEPER"

// keeperStop bounds the end of the keeper.
const keeperStop = 5 * time.Second

// keeperProcess keeps the node's keeper running. What a keeper that dies knew of exit codes may be lost, tasks are not.
type keeperProcess struct {
	log     *slog.Logger
	process sidecar
	socket  string
	up      chan struct{} // closed when it first answers
}

func newKeeper(cfg Config, d dirs) *keeperProcess {
	return &keeperProcess{
		log: cfg.Log, socket: d.keeperSocket(), up: make(chan struct{}),
		process: sidecar{name: "keeper", exe: cfg.Exe, args: []string{"keeper", "--socket", d.keeperSocket(), "--dir", d.keeper}, logs: d.logs},
	}
}

// run keeps it running until ctx ends; if stop says so then it ends it too.
func (k *keeperProcess) run(ctx context.Context, stop func() bool) {
	answers := sync.OnceFunc(func() { close(k.up) })
	for try := 0; ctx.Err() == nil; try++ {
		began := time.Now()
		var conn net.Conn // nothing is sent on it: its end is the keeper's
		err := k.process.ensure(ctx, func(ctx context.Context) (err error) {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "unix", k.socket)
			return err
		})
		switch {
		case err == nil:
			answers()
			k.follow(ctx, conn)
		case ctx.Err() == nil:
			k.log.Error("keeper", "err", err)
		}
		if time.Since(began) > restartSteady {
			try = 0
		}
		if try > 0 && !pause(ctx, backoff(try, restartLimit)) {
			break
		}
	}
	if stop() {
		k.shutdown(ctx)
	}
}

// follow waits until the keeper dies or ctx ends.
func (k *keeperProcess) follow(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if _, err := io.Copy(io.Discard, conn); ctx.Err() == nil {
		k.log.Error("keeper has died, starting another: ends of tasks in between are not seen", "err", err)
	}
}

func (k *keeperProcess) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeperStop)
	defer cancel()
	client, err := keeper.Dial(k.socket)
	if err == nil {
		err = client.Shutdown(ctx)
		client.Close()
	}
	if err != nil {
		k.log.Warn("end keeper", "err", err)
	}
	k.process.awaitEnd(ctx, k.socket)
}

// await waits until the keeper answers.
func (k *keeperProcess) await(ctx context.Context) error {
	select {
	case <-k.up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
