package plugins

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	ctymsgpack "github.com/zclconf/go-cty/cty/msgpack"
)

// Encode checks config against the schema, fills in defaults, evaluates ${...} with vars and returns it as msgpack: a
// map with all names of the schema. Dots in the names of vars make objects; env holds all of them by their whole names.
// The error names all that is wrong.
func (s Schema) Encode(config map[string]any, vars map[string]string) ([]byte, error) {
	spec, err := s.decoder()
	if err != nil {
		return nil, err
	}
	text, err := fitted(spec, config)
	if err != nil {
		return nil, err
	}
	file, diags := hcljson.Parse(text, "config")
	if diags.HasErrors() {
		return nil, problems(diags)
	}
	value, err := decode(file.Body, spec, &hcl.EvalContext{Variables: variables(vars), Functions: functions()})
	if err != nil {
		return nil, err
	}
	if !value.IsWhollyKnown() || value.IsNull() {
		return nil, errors.New("config: a value is not known")
	}
	return ctymsgpack.Marshal(value, value.Type())
}

func decode(body hcl.Body, spec hcldec.Spec, ctx *hcl.EvalContext) (value cty.Value, err error) {
	defer func() {
		if r := recover(); r != nil { // hcldec panics where a schema and its defaults do not fit together
			err = fmt.Errorf("schema: %v", r)
		}
	}()
	value, diags := hcldec.Decode(body, spec, ctx)
	if diags.HasErrors() {
		return cty.NilVal, problems(diags)
	}
	return value, nil
}

// variables turns flat names into nested objects. Where one name is both a value and the beginning of others, the value
// wins: the others are still in env.
func variables(vars map[string]string) map[string]cty.Value {
	root := map[string]any{}
	env := make(map[string]cty.Value, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) { // the shorter comes first
		value := cty.StringVal(vars[name])
		env[name] = value
		nest(root, strings.Split(name, "."), value)
	}
	out := make(map[string]cty.Value, len(root)+1)
	for name, v := range root {
		out[name] = object(v)
	}
	if len(env) > 0 {
		out["env"] = cty.ObjectVal(env)
	}
	return out
}

// maxNesting bounds the depth of the objects that names make.
const maxNesting = 32

func nest(at map[string]any, path []string, value cty.Value) {
	if len(path) > maxNesting || slices.Contains(path, "") {
		return
	}
	for _, part := range path[:len(path)-1] {
		switch next := at[part].(type) {
		case nil:
			inner := map[string]any{}
			at[part] = inner
			at = inner
		case map[string]any:
			at = next
		default:
			return
		}
	}
	if last := path[len(path)-1]; at[last] == nil {
		at[last] = value
	}
}

func object(v any) cty.Value {
	nested, ok := v.(map[string]any)
	if !ok {
		return v.(cty.Value)
	}
	values := make(map[string]cty.Value, len(nested))
	for name, inner := range nested {
		values[name] = object(inner)
	}
	return cty.ObjectVal(values)
}

// decodeMsgpack fills v from what a host encoded; names that v does not have are ignored, as the protocol says.
func decodeMsgpack(data []byte, v any) error {
	if len(data) == 0 {
		return nil
	}
	return codec.NewDecoderBytes(data, msgpackHandle()).Decode(v)
}

func msgpackHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.RawToString = true
	h.MapType = reflect.TypeFor[map[string]any]()
	return h
}
