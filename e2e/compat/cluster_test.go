package compat

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	public "github.com/hashicorp/nomad/api"

	"github.com/brumehq/brume/server"
)

// patience bounds every wait of these tests; it is never what a test measures.
const patience = 30 * time.Second

// cluster is what a test talks to: through the public client, and plainly where that hides what is tested.
type cluster struct {
	*public.Client
	t       *testing.T
	address string // scheme, host and port
	token   string // of every request; "" in dev
	http    *http.Client
}

// hub runs a hub without nodes in this process, where the race detector watches it. It ends with the test.
func hub(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan server.Addrs, 1), make(chan error, 1)
	cfg := server.Config{
		Name: "h1", DataDir: t.TempDir(), Dev: true, HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0",
		Log:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Ready: func(a server.Addrs) { ready <- a },
	}
	go func() { done <- server.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("hub ended with %v", err)
		}
	})
	select {
	case addrs := <-ready:
		return connect(t, "http://"+addrs.HTTP, "", http.DefaultTransport.(*http.Transport).Clone())
	case err := <-done:
		done <- err
		t.Fatalf("hub did not start: %v", err)
	}
	return nil
}

// connect makes the clients of a cluster. Their connections end with the test.
func connect(t *testing.T, address, token string, transport *http.Transport) *cluster {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	hc := &http.Client{Transport: transport}
	client, err := public.NewClient(&public.Config{Address: address, SecretID: token, HttpClient: hc})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{Client: client, t: t, address: address, token: token, http: hc}
}

// register registers a job and checks that the reply is consistent in itself.
func (c *cluster) register(job *public.Job) *public.JobRegisterResponse {
	c.t.Helper()
	reply, meta, err := c.Jobs().Register(job, nil)
	if err != nil {
		c.t.Fatalf("register %s: %v", *job.ID, err)
	}
	if err := consistent(reply, meta); err != nil {
		c.t.Fatalf("register %s: %v", *job.ID, err)
	}
	return reply
}

// consistent says what is wrong with the indexes of a reply to a registration.
func consistent(r *public.JobRegisterResponse, meta *public.WriteMeta) error {
	switch {
	case r.EvalID == "":
		return fmt.Errorf("no evaluation")
	case r.JobModifyIndex == 0 || r.EvalCreateIndex < r.JobModifyIndex || meta.LastIndex < r.EvalCreateIndex:
		return fmt.Errorf("indexes go back: job %d, evaluation %d, write %d", r.JobModifyIndex, r.EvalCreateIndex, meta.LastIndex)
	}
	return nil
}
