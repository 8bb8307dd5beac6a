package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	drainTimeout  = 2 * time.Second // for answers under way when the hub stops
)

// serveHTTP serves the API until ctx ends: TLS with tokens, or in dev plain on loopback.
func (h *Hub) serveHTTP(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           h.routes(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // blocking queries end with the hub
		ErrorLog:          slog.NewLogLogger(h.log.With("component", "http").Handler(), slog.LevelDebug),
	}
	if h.cfg.Dev {
		srv.Handler = localOnly(srv.Handler)
	} else {
		ln = tls.NewListener(ln, h.creds.HTTPConfig())
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := srv.Shutdown(sctx)
		if err != nil {
			err = srv.Close()
		}
		done <- err
	})
	err := srv.Serve(ln)
	if !stop() { // ctx ended: Shutdown is under way
		return <-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return errors.Join(err, srv.Close())
}

// localOnly guards an API without tokens from web pages: the name that the browser asked for must be loopback's, and a
// page of another origin may not write.
func localOnly(next http.Handler) http.Handler {
	guarded := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			writeError(w, api.E(api.ErrDenied, "Permission denied: dev answers requests to loopback names only"))
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// token says whether secret may use the API: api.ErrDenied if not. In dev every caller may.
func (h *Hub) token(secret string) error {
	switch {
	case h.cfg.Dev:
		return nil
	case secret == "":
		return api.ErrDenied
	case h.store.Snapshot().Token(identity.HashSecret(secret)) == nil:
		return api.E(api.ErrDenied, "ACL token not found")
	}
	return nil
}
