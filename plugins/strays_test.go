package plugins

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A plugin whose host was killed before it noted how to reach it is ended by the next host; those that are known, and
// what is no plugin's, stay.
func TestStraysAreEnded(t *testing.T) {
	dir := sockets(t)
	abandoned := func() *Reattach {
		host := exec.Command(os.Args[0])
		host.Env = []string{"TEST_PLUGIN=host", "TEST_SOCKETS=" + dir}
		out := must(host.StdoutPipe())(t)
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		at := new(Reattach)
		err := json.NewDecoder(out).Decode(at)
		host.Process.Kill()
		host.Wait()
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	known, stray := abandoned(), abandoned()
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := EndStrays(dir, []Reattach{*known}); err != nil {
		t.Fatal(err)
	}
	gone(t, stray.Pid)
	if _, err := os.Stat(stray.Dir); !os.IsNotExist(err) {
		t.Errorf("the stray's directory is still there: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Errorf("what is no plugin's was touched: %v", err)
	}
	kept := launchConfig(t, LaunchConfig{Name: "kept", Reattach: known})
	if f := fingerprint(t, kept.Driver()); f.Health != Healthy {
		t.Errorf("the known plugin is %v", f.Health)
	}
}
