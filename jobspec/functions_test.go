package jobspec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/jobspec"
)

// evaluate returns what an expression is worth in a driver's configuration.
func evaluate(expr string, opts jobspec.Options) (any, error) {
	job, _, err := jobspec.Parse("f.hcl", []byte("job \"j\" {\ntask \"t\" {\ndriver = \"fake\"\nconfig {\nv = "+expr+"\n}\n}\n}"), opts)
	if err != nil {
		return nil, err
	}
	return job.TaskGroups[0].Tasks[0].Config["v"], nil
}

type list = []any
type object = map[string]any

func TestEveryFunction(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "hello\n", "sub/b.txt": "b", "raw": "\xff\xfe"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]any{
		`abs(-3)`: int64(3), `ceil(1.2)`: int64(2), `floor(-1.2)`: int64(-2), `log(8, 2)`: int64(3), `max(1, 5, 3)`: int64(5),
		`min(1, 5, 3)`: int64(1), `parseint("ff", 16)`: int64(255), `pow(2, 10)`: int64(1024), `signum(-7)`: int64(-1),

		`chomp("a\n\n")`: "a", `format("%s-%03d", "a", 7)`: "a-007", `formatlist("%s!", ["a", "b"])`: list{"a!", "b!"},
		`indent(2, "a\nb")`: "a\n  b", `join("-", ["a", "b"])`: "a-b", `lower("ÄB")`: "äb",
		`regex_replace("a1b22", "[0-9]+", "#")`: "a#b#", `replace("a.b.c", ".", "-")`: "a-b-c", `split(",", "a,b")`: list{"a", "b"},
		`strlen("äb")`: int64(2), `strrev("abc")`: "cba", `substr("hello", 1, 3)`: "ell", `title("hello world")`: "Hello World",
		`trim("?!a?!", "!?")`: "a", `trimprefix("v1.2", "v")`: "1.2", `trimspace("  a\n")`: "a", `trimsuffix("a.hcl", ".hcl")`: "a",
		`upper("a")`: "A",

		`chunklist([1, 2, 3], 2)`: list{list{int64(1), int64(2)}, list{int64(3)}}, `coalesce("", "b")`: "b",
		`coalescelist([], ["b"])`: list{"b"}, `compact(["a", "", "b"])`: list{"a", "b"}, `concat([1], [2])`: list{int64(1), int64(2)},
		`contains(["a"], "a")`: true, `distinct(["a", "a", "b"])`: list{"a", "b"}, `element(["a", "b"], 3)`: "b",
		`flatten([[1], [[2]]])`: list{int64(1), int64(2)}, `index(["a", "b"], 1)`: "b", `keys({ b = 1, a = 2 })`: list{"a", "b"},
		`length(["a", "b"])`: int64(2), `lookup({ a = 1 }, "b", 7)`: int64(7), `merge({ a = 1 }, { b = 2 })`: object{"a": int64(1), "b": int64(2)},
		`range(3)`: list{int64(0), int64(1), int64(2)}, `reverse([1, 2])`: list{int64(2), int64(1)},
		`setintersection(["a", "b"], ["b"])`: list{"b"}, `setproduct(["a"], ["x", "y"])`: list{list{"a", "x"}, list{"a", "y"}},
		`setunion(["a"], ["b"])`: list{"a", "b"}, `slice(["a", "b", "c"], 1, 2)`: list{"b"}, `sort(["b", "a"])`: list{"a", "b"},
		`values({ b = 1, a = 2 })`: list{int64(2), int64(1)}, `zipmap(["a"], [1])`: object{"a": int64(1)},

		`base64decode("aGk=")`: "hi", `base64encode("hi")`: "aGk=", `csvdecode("a,b\n1,2")`: list{object{"a": "1", "b": "2"}},
		`jsondecode("{\"a\":[1,null]}")`: object{"a": list{int64(1), nil}}, `jsonencode({ a = [true] })`: `{"a":[true]}`,
		`urlencode("a b&")`: "a+b%26", `yamldecode("a: [1]")`: object{"a": list{int64(1)}}, `yamlencode({ a = 1 })`: "\"a\": 1\n",

		`formatdate("YYYY-MM-DD", "2026-02-03T04:05:06Z")`: "2026-02-03", `timeadd("2026-02-03T04:05:06Z", "1h")`: "2026-02-03T05:05:06Z",

		`sha256("a")`:               "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
		`substr(sha512("a"), 0, 8)`: "1f40fc92", `strlen(bcrypt("a", 4))`: int64(60), `strlen(uuidv4())`: int64(36),
		`uuidv5("dns", "example.com")`: "cfbff0d1-9375-5685-968c-48ce8b15ae17",
		`can(rsadecrypt("", ""))`:      false,

		`cidrhost("10.0.0.0/24", 5)`: "10.0.0.5", `cidrnetmask("10.0.0.0/20")`: "255.255.240.0",
		`cidrsubnet("10.0.0.0/16", 8, 2)`: "10.0.2.0/24", `cidrsubnets("10.0.0.0/16", 8, 8)`: list{"10.0.0.0/24", "10.0.1.0/24"},

		`can(1 + "a")`: false, `convert("7", number)`: int64(7), `try(1 + "a", "b")`: "b",

		`file("a.txt")`: "hello\n", `file("./sub/../a.txt")`: "hello\n", `filebase64("raw")`: "//4=", `fileexists("nope")`: false,
		`fileset(".", "**/*.txt")`: list{"a.txt", "sub/b.txt"}, `basename("/a/b.txt")`: "b.txt", `dirname("/a/b.txt")`: "/a",
		`abspath("/a/../b")`: "/b", `pathexpand("~/x")`: home + "/x",
	}
	tested := make(map[string]bool)
	for expr, want := range rows {
		for _, m := range regexp.MustCompile(`([a-z_0-9]+)\(`).FindAllStringSubmatch(expr, -1) {
			tested[m[1]] = true
		}
		got, err := evaluate(expr, jobspec.Options{AllowFS: true, Dir: dir})
		if err != nil {
			t.Errorf("%s: %v", expr, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expr, diff)
		}
	}
	for name := range strings.FieldsSeq(allFunctions) {
		if !tested[name] {
			t.Errorf("%s has no row", name)
		}
	}
}

// allFunctions are those that existing job files call.
const allFunctions = `abs base64decode base64encode bcrypt can ceil chomp chunklist cidrhost cidrnetmask cidrsubnet
	cidrsubnets coalesce coalescelist compact concat contains convert csvdecode distinct element flatten floor format
	formatdate formatlist indent index join jsondecode jsonencode keys length log lookup lower max merge min parseint pow
	range regex_replace replace reverse rsadecrypt setintersection setproduct setunion sha256 sha512 signum slice sort split
	strlen strrev substr timeadd title trim trimprefix trimspace trimsuffix try upper urlencode uuidv4 uuidv5 values
	yamldecode yamlencode zipmap abspath basename dirname file filebase64 fileexists fileset pathexpand`

func TestFilesAreNotReadUnlessAllowed(t *testing.T) {
	for _, call := range []string{
		`file("/etc/hostname")`, `filebase64("/etc/hostname")`, `fileexists("/etc/hostname")`, `fileset("/etc", "*")`,
		`abspath(".")`, `basename("a")`, `dirname("a")`, `pathexpand("~")`,
	} {
		v, err := evaluate(call, jobspec.Options{})
		if want := "files cannot be read here"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %v, %v; want it refused: %s", call, v, err, want)
		}
	}
	if v, err := evaluate(`try(file("/etc/hostname"), "kept out")`, jobspec.Options{}); err != nil || v != "kept out" {
		t.Errorf("try(file(…)) = %v, %v", v, err)
	}
}

func TestMissingFileIsAnError(t *testing.T) {
	_, err := evaluate(`file("missing.txt")`, jobspec.Options{AllowFS: true, Dir: t.TempDir()})
	if err == nil || !strings.HasPrefix(err.Error(), `f.hcl:5,10: Invalid function argument: Invalid value for "path" parameter: `) &&
		!strings.Contains(err.Error(), "missing.txt") {
		t.Errorf("file(missing.txt): %v", err)
	}
}

func ExampleParse() {
	src := []byte(`
job "hello" {
  type = "batch"

  task "greet" {
    driver = "raw_exec"
    config {
      command = "/bin/echo"
      args    = [upper("hello"), "${NOMAD_ALLOC_ID}"]
    }
  }
}`)
	job, _, err := jobspec.Parse("hello.hcl", src, jobspec.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(job.ID, job.Type, job.TaskGroups[0].Tasks[0].Config["args"])
	// Output: hello batch [HELLO ${NOMAD_ALLOC_ID}]
}
