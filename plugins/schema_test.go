package plugins

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/plugins/wire"
)

// containerLike is a schema as drivers in the wild have it.
func containerLike() Schema {
	return Fields(map[string]Schema{
		"image":   Required("image", "string"),
		"args":    Attr("args", "list(string)"),
		"labels":  Attr("labels", "list(map(string))"),
		"socket":  Default(Attr("socket", "string"), `"default"`),
		"timeout": Default(Attr("timeout", "string"), `"5m"`),
		"ports":   Attr("ports", "map(number)"),
		"cores":   Attr("cores", "number"),
		"tty":     Default(Attr("tty", "bool"), "false"),
		"free":    Attr("free", "any"),
		"auth": Block("auth", Fields(map[string]Schema{
			"username": Attr("username", "string"), "password": Attr("password", "string"),
		})),
		"mount": BlockList("mount", Fields(map[string]Schema{
			"target": Attr("target", "string"), "readonly": Default(Attr("readonly", "bool"), "true"),
		})),
		"sysctl": BlockAttrs("sysctl", "string"),
	})
}

func TestEncode(t *testing.T) {
	absent := map[string]any{
		"image": "web", "args": nil, "labels": nil, "ports": nil, "socket": "default", "timeout": "5m", "cores": nil, "tty": false,
		"free": nil, "auth": nil, "mount": []any{}, "sysctl": nil,
	}
	with := func(changes map[string]any) map[string]any {
		all := maps.Clone(absent)
		maps.Copy(all, changes)
		return all
	}
	for name, test := range map[string]struct {
		config map[string]any
		vars   map[string]string
		want   map[string]any
	}{
		"absent is the default or nil": {map[string]any{"image": "web"}, nil, absent},
		"an explicit value beats the default": {
			map[string]any{"image": "web", "socket": "", "tty": true}, nil, with(map[string]any{"socket": "", "tty": true}),
		},
		"a number is converted to a string": {map[string]any{"image": 7}, nil, with(map[string]any{"image": "7"})},
		"whole and broken numbers": {
			map[string]any{"image": "web", "cores": 1.5}, nil, with(map[string]any{"cores": 1.5}),
		},
		"a map is a list of one map": {
			map[string]any{"image": "web", "labels": map[string]any{"a": "b"}}, nil,
			with(map[string]any{"labels": []any{map[string]any{"a": "b"}}}),
		},
		"a list of maps is a map": {
			map[string]any{"image": "web", "ports": []map[string]any{{"http": 80}}}, nil,
			with(map[string]any{"ports": map[string]any{"http": int64(80)}}),
		},
		"any is not wrapped": {
			map[string]any{"image": "web", "free": map[string]any{"a": []any{1, "x"}}}, nil,
			with(map[string]any{"free": map[string]any{"a": []any{int64(1), "x"}}}),
		},
		"a block is a map": {
			map[string]any{"image": "web", "auth": map[string]any{"username": "me"}}, nil,
			with(map[string]any{"auth": map[string]any{"username": "me", "password": nil}}),
		},
		"one block of many": {
			map[string]any{"image": "web", "mount": map[string]any{"target": "/a"}}, nil,
			with(map[string]any{"mount": []any{map[string]any{"target": "/a", "readonly": true}}}),
		},
		"blocks in order": {
			map[string]any{"image": "web", "mount": []any{
				map[string]any{"target": "/b", "readonly": false}, map[string]any{"target": "/a"},
			}}, nil,
			with(map[string]any{"mount": []any{
				map[string]any{"target": "/b", "readonly": false}, map[string]any{"target": "/a", "readonly": true},
			}}),
		},
		"a block of attributes": {
			map[string]any{"image": "web", "sysctl": map[string]any{"net.core": "1"}}, nil,
			with(map[string]any{"sysctl": map[string]any{"net.core": "1"}}),
		},
		"variables nest at dots": {
			map[string]any{"image": "${attr.kernel.name}-${NOMAD_PORT_http}-${meta.rack}"},
			map[string]string{"attr.kernel.name": "linux", "NOMAD_PORT_http": "80", "meta.rack": "r1"},
			with(map[string]any{"image": "linux-80-r1"}),
		},
		"a name that is value and prefix is the value; both are in env": {
			map[string]any{"image": `${attr.driver}-${env["attr.driver.version"]}`},
			map[string]string{"attr.driver": "1", "attr.driver.version": "2"},
			with(map[string]any{"image": "1-2"}),
		},
		"functions": {map[string]any{"image": `${upper("web")}`}, nil, with(map[string]any{"image": "WEB"})},
		"an escaped reference is text": {
			map[string]any{"image": "$${HOME}"}, nil, with(map[string]any{"image": "${HOME}"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := containerLike().Encode(test.config, test.vars)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := (Config{data}).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Encode(%v) (-want +got):\n%s", test.config, diff)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		want   string
	}{
		"an unknown name":          {map[string]any{"image": "web", "imgae": "x"}, "imgae"},
		"a missing required name":  {map[string]any{}, `"image"`},
		"another type":             {map[string]any{"image": []any{"web"}}, "string required"},
		"two of a single block":    {map[string]any{"image": "web", "auth": []any{map[string]any{}, map[string]any{}}}, "auth"},
		"an unknown variable":      {map[string]any{"image": "${NOMAD_PORT_htpt}"}, "NOMAD_PORT_htpt"},
		"a reference that is none": {map[string]any{"image": "${"}, "expression"},
		"an unknown function":      {map[string]any{"image": `${file("/etc/shadow")}`}, "file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := containerLike().Encode(test.config, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Encode(%v): %v, want %q", test.config, err, test.want)
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	deep := Attr("x", "string")
	for range maxSchemaDepth + 1 {
		deep = Block("x", Fields(map[string]Schema{"x": deep}))
	}
	for name, s := range map[string]Schema{
		"no object":             Attr("x", "string"),
		"an unknown type":       Fields(map[string]Schema{"x": Attr("x", "text")}),
		"a type that is none":   Fields(map[string]Schema{"x": Attr("x", "list(")}),
		"a bad default":         Fields(map[string]Schema{"x": Default(Attr("x", "string"), "${")}),
		"a calling default":     Fields(map[string]Schema{"x": Default(Attr("x", "string"), `file("x")`)}),
		"nothing nested":        Fields(map[string]Schema{"x": Block("x", Schema{})}),
		"too deep":              Fields(map[string]Schema{"x": deep}),
		"too long a type":       Fields(map[string]Schema{"x": Attr("x", strings.Repeat("list(", maxExpression))}),
		"an empty part":         Fields(map[string]Schema{"x": {&wire.Spec{}}}),
		"a block map unlabeled": Fields(map[string]Schema{"x": {&wire.Spec{Block: &wire.Spec_BlockMap{BlockMap: &wire.BlockMapSpec{Name: "x", Nested: Fields(nil).spec}}}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if data, err := s.Encode(nil, nil); err == nil {
				t.Errorf("it is taken, and encodes to %x", data)
			}
		})
	}
}

func TestEmptySchemaTakesNothing(t *testing.T) {
	if data, err := (Schema{}).Encode(nil, nil); err != nil || len(data) != 1 {
		t.Errorf("Encode(nil) = %x, %v, want an empty map", data, err)
	}
	if _, err := (Schema{}).Encode(map[string]any{"x": 1}, nil); err == nil {
		t.Error("x is taken")
	}
}
