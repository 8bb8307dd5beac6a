package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// savedContext is the cluster that commands talk to when nothing else is said. Its file is readable by its owner only.
type savedContext struct {
	Address string `json:"address"`
	Token   string `json:"token,omitempty"`
	CACert  string `json:"ca_cert,omitempty"` // PEM
}

// contextPath is where the context is kept: BRUME_CONTEXT, else $XDG_CONFIG_HOME/brume/context.
func contextPath(getenv func(string) string) string {
	if p := getenv("BRUME_CONTEXT"); p != "" {
		return p
	}
	dir := getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := getenv("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "brume", "context")
}

// loadContext reads the context; nil without an error if there is none.
func loadContext(path string) (*savedContext, error) {
	raw, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("context: %w", err)
	}
	var ctx savedContext
	if err := json.Unmarshal(raw, &ctx); err != nil {
		return nil, fmt.Errorf("context %s: %w; remove it or set BRUME_ADDR", path, err)
	}
	return &ctx, nil
}

// saveContext replaces the context in one step.
func saveContext(path string, ctx savedContext) error {
	if path == "" {
		return errors.New("context: no HOME to keep it in; set BRUME_CONTEXT")
	}
	raw, err := json.MarshalIndent(ctx, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".context-*") // 0600 from the start
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(append(raw, '\n'))
	if err := errors.Join(werr, tmp.Close()); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	return os.Rename(tmp.Name(), path)
}
