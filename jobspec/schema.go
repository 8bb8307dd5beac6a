package jobspec

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/brumehq/brume/api"
)

// schema is what a block may hold, read from the hcl tags of its struct in the model and from the list of what the
// model knows by name only.
type schema struct {
	fields  map[string]field
	unbuilt map[string]api.Unbuilt
	label   int // index of the field that holds the block's label; -1 if it has none
}

type field struct {
	name  string
	index int
	block bool
	both  bool // a map: written as a block or as an argument
}

// names lists all that is known in the block, and what its decoder adds.
func (s *schema) names(extra ...string) []string {
	names := slices.Clone(extra)
	for n := range s.fields {
		names = append(names, n)
	}
	for n := range s.unbuilt {
		names = append(names, n)
	}
	return names
}

// schemas are those of all structs that job files decode into.
var schemas = sync.OnceValue(func() map[reflect.Type]*schema {
	all := make(map[reflect.Type]*schema)
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || all[t] != nil {
			return
		}
		s := &schema{fields: make(map[string]field), unbuilt: make(map[string]api.Unbuilt), label: -1}
		all[t] = s
		for i := range t.NumField() {
			f := t.Field(i)
			name, kind, _ := strings.Cut(f.Tag.Get("hcl"), ",")
			switch {
			case kind == "label":
				s.label = i
			case name != "":
				s.fields[name] = field{
					name: name, index: i, block: kind == "block",
					both: f.Type.Kind() == reflect.Map,
				}
				add(f.Type)
			}
		}
		for _, u := range api.UnbuiltIn(t) {
			if u.HCL != "" {
				s.unbuilt[u.HCL] = u
			}
		}
	}
	add(reflect.TypeFor[api.Job]())
	add(reflect.TypeFor[api.Port]()) // of networks, which sort ports into two lists
	return all
})
