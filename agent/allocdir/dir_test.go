package allocdir_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/agent/allocdir"
)

func build(t *testing.T) allocdir.Dir {
	t.Helper()
	d := allocdir.New(filepath.Join(t.TempDir(), "a1"))
	if err := d.Build(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestBuildMakesTheLayoutDriversExpect(t *testing.T) {
	d := build(t)
	for range 2 { // a restart builds again
		if _, err := d.BuildTask("web", ""); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]fs.FileMode{}
	for _, name := range []string{"", "alloc", "alloc/logs", "alloc/data", "alloc/tmp", "web", "web/local", "web/tmp", "web/private"} {
		info, err := os.Stat(filepath.Join(d.Path(), name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Mode()
	}
	const open = fs.ModeDir | 0o777
	want := map[string]fs.FileMode{
		"": fs.ModeDir | 0o755, "alloc": open, "alloc/logs": open, "alloc/data": open, "alloc/tmp": open,
		"web": open, "web/local": open, "web/tmp": open | fs.ModeSticky, "web/private": fs.ModeDir | 0o700,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

func TestSecretsLeaveNothingBehind(t *testing.T) {
	d := build(t)
	inMemory, err := d.BuildTask("web", "")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(d.SecretsDir("web"), "token")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := d.BuildTask("web", ""); err != nil || again != inMemory {
		t.Fatalf("BuildTask again = %v, %v, want %v", again, err, inMemory)
	}
	if _, err := os.Stat(secret); err != nil {
		t.Errorf("building again hid the secrets: %v", err)
	}
	if err := d.Unmount("web"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(secret); inMemory && err == nil {
		t.Error("secrets are still there after Unmount")
	}
	if err := d.Unmount("web"); err != nil {
		t.Errorf("Unmount twice: %v", err)
	}
}

func TestBuildFollowsNoLinkOfATask(t *testing.T) {
	d := build(t)
	outside := t.TempDir()
	before, err := os.Stat(outside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.TaskDir("web"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"local", "secrets"} {
		if err := os.Symlink(outside, filepath.Join(d.TaskDir("web"), name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.BuildTask("web", ""); err == nil {
		t.Error("BuildTask accepted a link for a directory")
	}
	after, err := os.Stat(outside)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode() != after.Mode() {
		t.Errorf("mode outside changed from %v to %v", before.Mode(), after.Mode())
	}
}

func TestRemoveOfNothingIsFine(t *testing.T) {
	if err := allocdir.New(filepath.Join(t.TempDir(), "none")).Remove(); err != nil {
		t.Error(err)
	}
}
