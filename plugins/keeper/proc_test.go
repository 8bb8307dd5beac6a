package keeper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	rest := " 3 4 5 0 -1 4194560 1 2 3 4 14 15 6 7 20 0 1 0 2200 1000 24 18446744073709551615 1 2 3"
	want := Stat{PID: 42, Parent: 3, Group: 4, Session: 5, UserTicks: 14, SystemTicks: 15, Started: 2200, RSSPages: 24}
	zombie := want
	zombie.Zombie = true
	for name, test := range map[string]struct {
		in   string
		want Stat
		ok   bool
	}{
		"a process":                {"42 (sleep) S" + rest, want, true},
		"a name with parentheses":  {"42 (a) Z 9 9 (b) S" + rest, want, true},
		"a name with a line break": {"42 (a\nb) S" + rest, want, true},
		"a zombie":                 {"42 (x) Z" + rest, zombie, true},
		"cut short":                {"42 (x) S 3 4 5", Stat{}, false},
		"no name":                  {"42 S" + rest, Stat{}, false},
		"nothing":                  {"", Stat{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(test.in))
			if (err == nil) != test.ok {
				t.Fatalf("parseStat(%q): %v, want ok %v", test.in, err, test.ok)
			}
			if diff := cmp.Diff(test.want, got); test.ok && diff != "" {
				t.Errorf("parseStat(%q) (-want +got):\n%s", test.in, diff)
			}
		})
	}
}

func TestTicksAreThoseOfProcesses(t *testing.T) {
	before := ticks()
	child := exec.Command("sleep", "100")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { child.Process.Kill(); child.Wait() }()
	s, err := ReadStat(child.Process.Pid)
	if after := ticks(); err != nil || s.Started < before || s.Started > after {
		t.Errorf("a child started at %d, %v; want between %d and %d", s.Started, err, before, after)
	}
}

func FuzzParseStat(f *testing.F) {
	if own, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(own)
	}
	f.Add([]byte("1 (a) b) R 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := parseStat(data)
		if err != nil {
			return
		}
		renamed := slices.Concat(data[:bytes.IndexByte(data, '(')], []byte("(x) 9 (y)"), data[bytes.LastIndexByte(data, ')')+1:])
		if got, err := parseStat(renamed); err != nil || got != want {
			t.Errorf("with another name %+v, %v, want %+v", got, err, want)
		}
	})
}

// FuzzJournal gives a keeper the journal of a predecessor that crashed, or worse: it must start all the same, and signal
// nothing that is not its own.
func FuzzJournal(f *testing.F) {
	boot, err := bootID()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(fmt.Sprintf(`{"op":"boot","boot":%q}`+"\n"+`{"op":"intend","id":"a"}`+"\n"+`{"op":"start","id":"a","process":{"ID":"a","PID":1,"Started":1}}`+"\n"+`{"op":"exit","id":"a`, boot)))
	f.Add([]byte("{\"op\":\"start\"}\nnull\n[]\n{\"op\":\"exit\",\"id\":\"x\",\"process\":{\"PID\":-1}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := newKeeper(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := first.list()
		first.close()
		second, err := newKeeper(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer second.close()
		if diff := cmp.Diff(want, second.list()); diff != "" {
			t.Errorf("the next keeper reads another list (-first +second):\n%s", diff)
		}
	})
}

// A look that is shared is never older than the asking: what lived when it was asked for is in it.
func TestCensusIsNeverOlderThanTheAsking(t *testing.T) {
	var c census
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 5 {
				child := exec.Command("/bin/sleep", "1000")
				if err := child.Start(); err != nil {
					t.Error(err)
					return
				}
				all, err := c.stats()
				if err != nil {
					t.Error(err)
				}
				if !slices.ContainsFunc(all, func(s Stat) bool { return s.PID == child.Process.Pid }) {
					t.Errorf("process %d was started before the look and is not in it", child.Process.Pid)
				}
				if err := child.Process.Kill(); err != nil {
					t.Error(err)
				}
				_ = child.Wait() // killed
			}
		})
	}
	asking.Wait()
}
