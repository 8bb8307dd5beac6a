// Command runtests runs the tests of the modules named on its command line and says what passed, failed and was skipped,
// and why: "go test" alone hides the reasons of skips. With -fuzz it runs every fuzz target instead.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	race := flag.Bool("race", false, "run under the race detector")
	fuzz := flag.Duration("fuzz", 0, "run each fuzz target this long instead of the tests")
	flag.Parse()
	var r results
	for _, module := range flag.Args() {
		if *fuzz > 0 {
			r.fuzz(module, *fuzz)
		} else {
			r.test(module, *race)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(r.skips)) {
		fmt.Printf("%s (%d)\n", reason, r.skips[reason])
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed > 0 || r.broken {
		os.Exit(1)
	}
}

// results counts tests over all modules. broken is set when something failed that is no test: a build, a crash.
type results struct {
	passed, failed, skipped int
	broken                  bool
	skips                   map[string]int // "SKIP docker: no engine" -> tests
}

// event is a line of "go test -json".
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// test runs a module's tests and reports each package and every failure's output.
func (r *results) test(module string, race bool) {
	// Without the cache: it does not see that tests build and run the program.
	args := []string{"test", "-json", "-count=1"}
	env := os.Environ()
	if race {
		// One processor a test: the detector of Go 1.26 crashes when two fire timers of one bubble (golang/go#78156).
		args = append(args, "-race", "-p", strconv.Itoa(runtime.NumCPU()))
		env = append(env, "GOMAXPROCS=1")
	}
	cmd := exec.Command("go", append(args, "./...")...)
	cmd.Dir, cmd.Env, cmd.Stderr = module, env, os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Println(err)
		r.broken = true
		return
	}
	r.read(out)
	if err := cmd.Wait(); err != nil {
		r.broken = true
	}
}

func (r *results) read(out io.Reader) {
	said := map[string][]string{} // output of tests and packages not ended yet
	for in := bufio.NewReader(out); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Printf("%s", line)
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			said[key] = append(said[key], e.Output)
		case "pass", "skip", "fail":
			r.ended(e, said[key])
			delete(said, key)
		case "build-fail":
			fmt.Print(strings.Join(said[key], ""))
		}
	}
}

// ended counts a finished test, or prints the line of a finished package.
func (r *results) ended(e event, said []string) {
	if e.Test == "" {
		if e.Action != "skip" { // a package without tests
			fmt.Printf("%-4s %-60s %6.1fs\n", e.Action, e.Package, e.Elapsed)
		}
		if e.Action == "fail" {
			fmt.Print(strings.Join(said, ""))
		}
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Printf("--- %s %s\n%s", e.Package, e.Test, strings.Join(said, ""))
	case "skip":
		r.skipped++
		if r.skips == nil {
			r.skips = map[string]int{}
		}
		r.skips[reason(said)]++
	}
}

var skipLine = regexp.MustCompile(`SKIP [a-z]+: .*`)

// reason finds the line "SKIP what: why" that every skip prints.
func reason(said []string) string {
	if m := skipLine.FindString(strings.Join(said, "")); m != "" {
		return m
	}
	return "SKIP without a reason: " + strings.Join(strings.Fields(strings.Join(said, " ")), " ")
}

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzz runs each fuzz target of a module for d.
func (r *results) fuzz(module string, d time.Duration) {
	err := filepath.WalkDir(module, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzTarget.FindAllSubmatch(src, -1) {
			pkg := "./" + filepath.Dir(path)
			fmt.Println("fuzz", pkg, string(m[1]))
			cmd := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+string(m[1])+"$", "-fuzztime", d.String(), "-fuzzminimizetime", "5x", pkg)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if cmd.Run() == nil {
				r.passed++
			} else {
				r.failed++
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		r.broken = true
	}
}
