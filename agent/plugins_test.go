package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindPrograms(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"alpha": 0o755, "beta": 0o700, "notes.txt": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	blocks := map[string]PluginConfig{"beta": {Args: []string{"-x"}}, "raw_exec": {}}
	for _, tt := range []struct {
		name    string
		cfg     Config
		want    []string
		wantErr string
	}{
		{"a file without a block is not run", Config{PluginDir: dir, Plugins: blocks}, []string{"beta"}, ""},
		{"in dev every program is", Config{PluginDir: dir, Plugins: blocks, Dev: true}, []string{"alpha", "beta"}, ""},
		{"built-in drivers need no directory", Config{Plugins: map[string]PluginConfig{"raw_exec": {}}}, nil, ""},
		{"a block without a program is an error", Config{PluginDir: dir, Plugins: map[string]PluginConfig{"gamma": {}}}, nil, `plugin "gamma"`},
		{"so is a directory that is not there", Config{PluginDir: filepath.Join(dir, "no")}, nil, "plugin directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
			programs, err := findPrograms(tt.cfg)
			var got []string
			for _, p := range programs {
				got = append(got, p.file)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			if (err != nil) != (tt.wantErr != "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestBuiltinsAreOffUntilTheyAreConfigured(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"an agent without configuration", Config{}, nil},
		{"dev", Config{Dev: true}, []string{"raw_exec"}},
		{"a block each", Config{Plugins: map[string]PluginConfig{"raw_exec": {}, "fake": {}}}, []string{"raw_exec", "fake"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, b := range builtins() {
				if b.on(tt.cfg) {
					got = append(got, b.name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("on (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPinnedDigestIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("program"))
	for _, tt := range []struct {
		name, pin string
		ok        bool
	}{
		{"no pin accepts any file", "", true},
		{"the right one", hex.EncodeToString(sum[:]), true},
		{"in capitals", strings.ToUpper(hex.EncodeToString(sum[:])), true},
		{"another", strings.Repeat("0", 64), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkFile(path, tt.pin); (err == nil) != tt.ok {
				t.Errorf("checkFile = %v, want ok %v", err, tt.ok)
			}
		})
	}
}

func TestSocketDirectoriesAreShortPrivateAndTheSameEachTime(t *testing.T) {
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	long := Config{DataDir: "/var/lib/" + strings.Repeat("long/", 40)}
	first, err := socketDir(long)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(first) })
	again, err := socketDir(long)
	if err != nil || again != first {
		t.Errorf("then %s, %v, first %s", again, err, first)
	}
	info, err := os.Stat(first)
	if err != nil || info.Mode().Perm() != 0o700 || len(first) > maxSocketDir {
		t.Errorf("%s: %v, %v", first, info.Mode(), err)
	}
	link := filepath.Join(run, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := privateDir(link); err == nil {
		t.Error("a link was accepted for a private directory")
	}
}
