package server

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A hub whose log was lost says so and ends, instead of waiting for a leader that cannot be.
func TestLostLogIsNamed(t *testing.T) {
	dir := t.TempDir()
	run := func(cfg Config) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cfg.DataDir, cfg.Log, cfg.Ready = dir, testLog(t), func(Addrs) { cancel() }
		return Run(ctx, cfg)
	}
	if err := run(Config{Name: "h1", HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true}); err != nil {
		t.Fatal(err)
	}
	if err := run(Config{}); err != nil {
		t.Fatalf("restart: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "genesis")); err != nil { // a run that ends early may leave it
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(dir, "raft"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Remove(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(Config{}); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "raft")+" is lost") {
		t.Errorf("start without its log: %v, want an error that says so", err)
	}
}

// A cluster's directory that lacks or cannot read a file says which, and makes none anew.
func TestDamagedDirectoryNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	run := func(cfg Config) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cfg.DataDir, cfg.Log, cfg.Ready = dir, testLog(t), func(Addrs) { cancel() }
		return Run(ctx, cfg)
	}
	if err := run(Config{Name: "h1", HTTP: "127.0.0.1:0", RPC: "127.0.0.1:0", Gossip: "127.0.0.1:0", Init: true}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node.key", "cluster.key", "node.crt", "ca.crt"} {
		for _, damage := range []string{"missing", "empty", "half"} {
			t.Run(name+" "+damage, func(t *testing.T) {
				path := filepath.Join(dir, name)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				switch damage {
				case "missing":
					err = os.Remove(path)
				case "empty":
					err = os.Truncate(path, 0)
				case "half":
					err = os.Truncate(path, int64(len(whole)/2))
				}
				if err != nil {
					t.Fatal(err)
				}
				err = run(Config{})
				if err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) {
					t.Errorf("start: %v, want an error that names the place", err)
				}
				if _, err := os.Stat(path); damage == "missing" && err == nil {
					t.Error("it was made anew")
				}
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if err := run(Config{}); err != nil {
		t.Errorf("start with everything back: %v", err)
	}
}
