package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/brumehq/brume/agent/logs"
	"github.com/brumehq/brume/plugins/keeper"
)

// TestMain lets the test binary be the brume program too: tests name it in Config.Exe.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "keeper": // keeper --socket S --dir D
			err = keeper.Serve(context.Background(), keeper.Config{Socket: os.Args[3], Dir: os.Args[5]})
		case "logs-sink": // logs-sink --socket S
			err = logs.ServeSink(context.Background(), logs.SinkConfig{Socket: os.Args[3], Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		default:
			goleak.VerifyTestMain(m)
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
