package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/brumehq/brume"

// arrow is one line of the list in docs/ARCHITECTURE.md: who may import what of ours.
type arrow struct {
	from string
	to   []string
}

var arrowName = regexp.MustCompile("`([^`]+)`")

// readArrows reads the list between the arrows marks.
func readArrows(t *testing.T) []arrow {
	t.Helper()
	f, err := os.Open("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var arrows []arrow
	inside := false
	for in := bufio.NewScanner(f); in.Scan(); {
		switch line := in.Text(); {
		case line == "<!-- arrows -->":
			inside = true
		case line == "<!-- /arrows -->":
			inside = false
		case inside:
			left, right, ok := strings.Cut(line, "->")
			from := arrowName.FindStringSubmatch(left)
			if !ok || from == nil {
				t.Fatalf("docs/ARCHITECTURE.md: not an arrow: %s", line)
			}
			a := arrow{from: from[1]}
			for _, m := range arrowName.FindAllStringSubmatch(right, -1) {
				a.to = append(a.to, m[1])
			}
			arrows = append(arrows, a)
		}
	}
	if len(arrows) == 0 {
		t.Fatal("docs/ARCHITECTURE.md: no arrows between the marks")
	}
	return arrows
}

func allows(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, pkg)
		return p == "*" || (err == nil && ok)
	})
}

// Every import between packages of ours is an arrow of docs/ARCHITECTURE.md, and every package has a line there.
func TestImportsFollowTheArrows(t *testing.T) {
	arrows := readArrows(t)
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(strings.TrimPrefix(pkg.ImportPath, module), "/")
		i := slices.IndexFunc(arrows, func(a arrow) bool { return a.from == from })
		if i < 0 {
			i = slices.IndexFunc(arrows, func(a arrow) bool { return allows([]string{a.from}, from) })
		}
		if i < 0 {
			t.Errorf("package %s has no line in docs/ARCHITECTURE.md", from)
			continue
		}
		for _, imp := range pkg.Imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if ours && !allows(arrows[i].to, to) {
				t.Errorf("%s imports %s: no arrow in docs/ARCHITECTURE.md allows it", from, to)
			}
		}
	}
}
