package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/jobspec"
)

// jobFile are the flags that say how a job file is read.
type jobFile struct {
	vars     []string
	varFiles []string
	json     bool
}

func (f *jobFile) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.vars, "var", nil, "set a variable of the file: NAME=VALUE (repeatable)")
	cmd.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "file of variables, NAME = VALUE a line (repeatable)")
	cmd.Flags().BoolVar(&f.json, "json", false, "the file is JSON, as the API takes it")
}

// read parses the job file at path, "-" being standard input, and prints its warnings.
func (c *cli) read(f *jobFile, path string) (*api.Job, error) {
	src, err := c.source(path)
	if err != nil {
		return nil, err
	}
	if f.json {
		job, err := jobspec.ParseJSON(src)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return job, nil
	}
	opts := jobspec.Options{Vars: f.vars, Env: os.Environ(), AllowFS: true, Dir: filepath.Dir(path)}
	for _, p := range f.varFiles {
		raw, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		opts.VarFiles = append(opts.VarFiles, jobspec.File{Name: p, Source: raw})
	}
	job, warnings, err := jobspec.Parse(path, src, opts)
	for _, w := range warnings {
		fmt.Fprintln(c.err, "Warning:", w)
	}
	return job, err
}

func (c *cli) source(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(c.in, jobspec.MaxSource+1))
	}
	return os.ReadFile(path)
}

func (c *cli) jobValidateCmd() *cobra.Command {
	var file jobFile
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a job file without running it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.read(&file, args[0])
			if err != nil {
				return err
			}
			if err := job.Validate(); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			for _, w := range job.Warnings() {
				fmt.Fprintln(c.err, "Warning:", w)
			}
			if c.output == outputJSON {
				return c.printJSON(job)
			}
			c.printf("%s: job %q is valid\n", args[0], job.ID)
			return nil
		},
	}
	file.flags(cmd)
	return cmd
}

//go:embed init.hcl
var initJob []byte

func (c *cli) jobInitCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a job file to start from (example.hcl)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := "example.hcl"
			if len(args) == 1 {
				path = args[0]
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s is there already; name another file", path)
			}
			if err != nil {
				return err
			}
			_, werr := f.Write(initJob)
			if err := errors.Join(werr, f.Close()); err != nil {
				return err
			}
			c.printf("Wrote %s. Run it with \"brume job run %s\".\n", path, path)
			return nil
		},
	}
}

func (c *cli) jobFmtCmd() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt FILE...",
		Short: "Rewrite job files in the one format; \"-\" reads standard input and writes standard output",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			changed := false
			for _, path := range args {
				diff, err := c.format(path, check)
				if err != nil {
					return err
				}
				if diff {
					changed = true
				}
			}
			if check && changed {
				return exitCode(exitError)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "name the files that would change, change none, exit with 1 if there are any")
	return cmd
}

// format formats one file and reports whether it was not formatted before.
func (c *cli) format(path string, check bool) (bool, error) {
	src, err := c.source(path)
	if err != nil {
		return false, err
	}
	out, err := jobspec.Format(path, src)
	if err != nil {
		return false, err
	}
	same := string(out) == string(src)
	switch {
	case path == "-" && !check:
		_, err = c.out.Write(out)
	case !same:
		c.printf("%s\n", path)
		if !check {
			err = replaceFile(path, out)
		}
	}
	return !same, err
}

// replaceFile replaces a file in one step and keeps its mode, so that a crash loses nothing.
func replaceFile(path string, content []byte) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".brume-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(content)
	if err := errors.Join(werr, tmp.Chmod(st.Mode().Perm()), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
