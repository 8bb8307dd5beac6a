package e2e

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brumehq/brume/api"
)

// The web example: three instances answer on the ports that `job status` prints.
func TestWebAnswersOnThePortsThatStatusPrints(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.agent("n1")
	c.agent("n2")
	c.want(c.brume("job", "run", "../examples/web.hcl"), 0, "runs and is healthy")
	status := c.must("job", "status", "web")
	addrs := regexp.MustCompile(`http=(127\.0\.0\.1:\d+)`).FindAllStringSubmatch(status, -1)
	if len(addrs) != 3 {
		t.Fatalf("job status shows %d ports, want 3:\n%s", len(addrs), status)
	}
	var said []string
	for _, a := range addrs {
		resp, err := http.Get("http://" + a[1] + "/")
		if err != nil {
			t.Fatalf("instance at %s: %v", a[1], err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, strings.TrimSpace(string(body)))
	}
	slices.Sort(said)
	want := []string{"Hello from web.web[0]", "Hello from web.web[1]", "Hello from web.web[2]"}
	if !slices.Equal(said, want) {
		t.Errorf("instances said %q, want %q", said, want)
	}
}

// Every example runs as written, through the command line, and ends as it should.
func TestExamplesRunAsWritten(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.agent("n1")
	for _, job := range []string{"hello", "batch"} {
		c.want(c.brume("job", "run", "../examples/"+job+".hcl"), 0, job)
		c.want(c.brume("job", "validate", "../examples/"+job+".hcl"), 0, "is valid")
		c.want(c.brume("job", "fmt", "--check", "../examples/"+job+".hcl"), 0)
	}
	allocs := c.await(t.Context(), "batch", func(a []*api.AllocationListStub) bool {
		return len(a) > 0 && a[0].ClientStatus == api.AllocClientComplete
	})
	if out := c.must("alloc", "logs", allocs[0].ID); out == "" {
		t.Error("the batch example wrote nothing")
	}
	c.want(c.brume("alloc", "status", allocs[0].ID[:8]), 0, "complete", "Exit code 0")
	c.want(c.brume("node", "status", "n1"), 0, "raw_exec", "MHz", "GiB")
}

const shellJob = `
job "NAME" {
  type = "batch"
  group "g" {
    reschedule { attempts = 0 }
    restart { attempts = 0 }
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", <<-EOT
          SCRIPT
          EOT
        ]
      }
    }
  }
}
`

func shell(name, script string) string {
	return strings.NewReplacer("NAME", name, "SCRIPT", strings.ReplaceAll(script, "$", "$$")).Replace(shellJob)
}

// A batch job's exit code and both output streams are kept.
func TestBatchJobKeepsExitCodeAndLogs(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.agent("n1")
	file := c.file("seven.hcl", shell("seven", "echo to stdout; echo to stderr >&2; exit 7"))
	c.want(c.brume("job", "run", file), 1, "Exit code 7", "alloc logs")
	allocs := c.await(t.Context(), "seven", func(a []*api.AllocationListStub) bool { return len(a) == 1 })
	if got := c.log(allocs[0].ID, "t", "stdout"); got != "to stdout\n" {
		t.Errorf("stdout %q, want %q", got, "to stdout\n")
	}
	c.want(c.brume("alloc", "logs", "--stderr", allocs[0].ID[:8]), 0, "to stderr")
	c.want(c.brume("alloc", "logs", "--tail", "1", allocs[0].ID[:8], "t"), 0, "to stdout")
	c.want(c.brume("alloc", "logs", allocs[0].ID[:8], "nope"), 1, `no task "nope"`)
}

// What can not run says why, what would help, and ends with the code of its kind.
func TestWhatCannotRunSaysWhy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.agent("n1")
	c.agent("n2")
	ok := shell("x", "true")
	in := func(from, to string) string { return strings.Replace(ok, from, to, 1) }
	tests := []struct {
		rule, file string
		code       int
		want       []string
	}{
		{"impossible constraint", in(`  type = "batch"`, "  type = \"batch\"\n  constraint {\n    attribute = \"${attr.kernel.name}\"\n    value = \"plan9\"\n  }"),
			2, []string{"2 nodes ruled out", "${attr.kernel.name} = plan9", "Nearest", "To make it fit"}},
		{"missing driver", in(`"raw_exec"`, `"no-such-driver"`), 2, []string{"missing drivers", "no-such-driver"}},
		{"too much memory", in(`      config {`, "      resources { memory = 100000000 }\n      config {"), 2, []string{"memory", "Nearest", "short by"}},
		{"broken file", in(`driver = "raw_exec"`, `driver = "raw_exec`), 1, []string{"broken", ".hcl:"}},
		{"unknown name", in(`driver =`, `drivr =`), 1, []string{"drivr", "driver"}},
		{"not built", in(`      config {`, "      artifact { source = \"x\" }\n      config {"), 1, []string{"artifact", "not supported yet"}},
		{"failing task", shell("x", "echo oh dear >&2; exit 3"), 1, []string{"Exit code 3", "alloc logs --stderr"}},
		{"missing command", in("/bin/sh", "/no/such/command"), 1, []string{"/no/such/command", "no such file"}},
	}
	for i, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			name := "job" + string(rune('a'+i))
			file := c.file("broken-"+name+".hcl", strings.Replace(tt.file, `job "x"`, `job "`+name+`"`, 1))
			r := c.brume("job", "run", file)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d", r.code, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(r.stdout+r.stderr, w) {
					t.Errorf("%q is missing", w)
				}
			}
			if t.Failed() {
				t.Logf("said:\n%s%s", r.stdout, r.stderr)
			}
		})
	}
}

// A secret that admits or authorises is readable by its owner only, and without it the API answers nothing.
func TestTheAPINeedsItsToken(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, path := range []string{"hub/admin.token", "context"} {
		st, err := os.Stat(c.dir + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, st.Mode().Perm())
		}
	}
	r := c.runWith(t.Context(), append(c.environ(), "BRUME_TOKEN=wrong"), "node", "status")
	c.want(r, 1, "ACL token not found")
	none := c.runWith(t.Context(), append(c.environ("BRUME_ADDR="+c.client.Address(), "BRUME_CACERT="+c.dir+"/hub/ca.crt"), "BRUME_CONTEXT=/nonexistent"), "node", "status")
	c.want(none, 1, "Permission denied")
	c.want(c.brume("hub", "--data-dir", c.dir+"/hub"), 1, "in use by another hub")
	c.hub.stop()
	c.want(c.brume("hub", "--init", "--data-dir", c.dir+"/hub"), 1, "holds a cluster already", "without --init")
}
