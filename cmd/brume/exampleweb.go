package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// exampleWebCmd is the small HTTP service of examples/web.hcl: it says who answers and logs a line a request.
func (c *cli) exampleWebCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "example-web",
		Short:  "Serve a page on the port labelled http, as a task (examples/web.hcl)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			port := os.Getenv("NOMAD_PORT_http")
			if port == "" {
				return errors.New("NOMAD_PORT_http is not set: this runs as a task with a port labelled \"http\"")
			}
			return c.exampleWeb(cmd.Context(), net.JoinHostPort(os.Getenv("NOMAD_IP_http"), port))
		},
	}
}

func (c *cli) exampleWeb(ctx context.Context, addr string) error {
	name := os.Getenv("NOMAD_ALLOC_NAME")
	srv := &http.Server{
		Addr:              addr,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.printf("%s %s %s\n", time.Now().Format(time.RFC3339), r.Method, r.URL.Path)
			fmt.Fprintf(w, "Hello from %s\n", name)
		}),
	}
	ended := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(grace)
	})
	defer ended()
	c.printf("%s serves on %s\n", name, addr)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
