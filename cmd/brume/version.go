package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "0.1.0-dev"

func (c *cli) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct{ Version, Revision, Compatible, Go, Platform string }{
				version, revision(), api.CompatVersion, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH,
			}
			if c.output == outputJSON {
				return c.printJSON(v)
			}
			c.printf("brume %s%s (API compatible with %s; %s, %s)\n", v.Version, v.Revision, v.Compatible, v.Go, v.Platform)
			return nil
		},
	}
}

// revision is " (abc123def)" when the build knows its commit.
func revision() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 9 {
			return fmt.Sprintf(" %s", s.Value[:9])
		}
	}
	return ""
}
