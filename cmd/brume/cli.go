package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

// cli is what all verbs share: the streams, the global flags and the clock of ages in tables.
type cli struct {
	in       io.Reader
	out, err io.Writer
	tty      bool // out is a terminal: progress is redrawn in place
	width    int  // columns of the terminal, 0 if it is none
	height   int  // its lines
	now      func() time.Time

	address, token, namespace string
	output                    string
}

func newCLI(in io.Reader, out, errOut io.Writer) *cli {
	c := &cli{in: in, out: out, err: errOut, now: time.Now}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		c.tty = true
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			c.width, c.height = w, h
		}
	}
	return c
}

// Output formats.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
)

// Groups of verbs in the help.
const (
	groupRun = "run"
	groupUse = "use"
)

// root builds the tree of verbs.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "brume",
		Short:         "Runs jobs on machines that differ, come and go, and are not all yours",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			switch c.output {
			case outputTable, outputWide, outputJSON:
				return nil
			}
			return fmt.Errorf("--output %q: want table, wide or json", c.output)
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.address, "address", "", "URL of a hub (default $BRUME_ADDR, then the current context)")
	f.StringVar(&c.token, "token", "", "token; prefer $BRUME_TOKEN or the context, a command line is not secret")
	f.StringVar(&c.namespace, "namespace", "", "namespace to work in (default $BRUME_NAMESPACE, then \"default\")")
	f.StringVarP(&c.output, "output", "o", outputTable, "table, wide or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{outputTable, outputWide, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetIn(c.in)
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run a cluster:"}, &cobra.Group{ID: groupUse, Title: "Use it:"})
	for _, cmd := range append(c.hostCmds(), c.joinTokenCmd()) {
		if !cmd.Hidden {
			cmd.GroupID = groupRun
		}
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{c.jobCmd(), c.allocCmd(), c.nodeCmd(), c.evalCmd()} {
		cmd.GroupID = groupUse
		root.AddCommand(cmd)
	}
	root.AddCommand(c.versionCmd(), c.exampleWebCmd())
	root.InitDefaultCompletionCmd()
	explainArgs(root)
	return root
}

// client connects to the hub that flags, environment and context name.
func (c *cli) client() (*client.Client, error) {
	cfg, err := c.clientConfig(os.Getenv)
	if err != nil {
		return nil, err
	}
	return client.New(cfg)
}

// clientConfig merges, strongest first: flags, BRUME_* variables, NOMAD_* variables, the context. The context's token and
// authority go only to the context's own address.
func (c *cli) clientConfig(getenv func(string) string) (client.Config, error) {
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	env := func(name string) string { return first(getenv("BRUME_"+name), getenv(api.EnvPrefix+name)) }
	cfg := client.Config{
		Address:   first(c.address, env("ADDR")),
		Token:     first(c.token, env("TOKEN")),
		Namespace: first(c.namespace, env("NAMESPACE")),
	}
	if path := env("CACERT"); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return cfg, fmt.Errorf("CA certificate: %w", err)
		}
		cfg.CACert = pem
	}
	saved, err := loadContext(contextPath(getenv))
	if err != nil {
		return cfg, err
	}
	if saved != nil && (cfg.Address == "" || cfg.Address == saved.Address) {
		cfg.Address = saved.Address
		cfg.Token = first(cfg.Token, saved.Token)
		if cfg.CACert == nil && saved.CACert != "" {
			cfg.CACert = []byte(saved.CACert)
		}
	}
	return cfg, nil
}

// printJSON writes v as indented JSON.
func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (c *cli) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }
