package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// layout says where the JSON members of one model struct go, by lower-case key.
type layout map[string]fieldLayout

type fieldLayout struct {
	name    string
	index   int
	child   bool     // holds the groups or tasks, which inherit from the fields beside it
	unbuilt *Unbuilt // known by name only; never decoded
}

func (l layout) find(key string) (fieldLayout, bool) {
	if f, ok := l[key]; ok {
		return f, true
	}
	f, ok := l[strings.ToLower(key)]
	return f, ok
}

// layouts are those of Job and of every struct in it.
var layouts = sync.OnceValue(func() map[reflect.Type]layout {
	all := make(map[reflect.Type]layout)
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if _, done := all[t]; done || t.Kind() != reflect.Struct {
			return
		}
		l := make(layout)
		all[t] = l
		for i := range t.NumField() {
			f := t.Field(i)
			child := f.Type == reflect.TypeFor[[]*Group]() || f.Type == reflect.TypeFor[[]*Task]()
			l.put(fieldLayout{name: f.Name, index: i, child: child})
			add(f.Type)
		}
		for i, u := range unbuilt[t] {
			if u.Field != "" {
				l.put(fieldLayout{name: u.Field, unbuilt: &unbuilt[t][i]})
			}
		}
	}
	add(reflect.TypeFor[Job]())
	return all
})

// put enters a field under the spelling that is usual and under the one that any other is folded to.
func (l layout) put(f fieldLayout) {
	l[f.name] = f
	l[strings.ToLower(f.name)] = f
}

// member is one key and value of a JSON object.
type member struct {
	key string
	raw []byte
}

// splitObject returns the members of a valid JSON object in order, without those that are null.
func splitObject(raw []byte) []member {
	var ms []member
	for i := 1; ; {
		i = skipSpace(raw, i)
		if raw[i] == '}' {
			return ms
		}
		end := skipValue(raw, i)
		key := string(raw[i+1 : end-1])
		if strings.Contains(key, `\`) {
			_ = json.Unmarshal(raw[i:end], &key) // valid JSON: it can only succeed
		}
		i = skipSpace(raw, skipSpace(raw, end)+1) // past the colon
		end = skipValue(raw, i)
		if value := raw[i:end]; !isNull(value) {
			ms = append(ms, member{key, value})
		}
		if i = skipSpace(raw, end); raw[i] == ',' {
			i++
		}
	}
}

// splitList returns the elements of a valid JSON list.
func splitList(raw []byte) [][]byte {
	var list [][]byte
	for i := 1; ; {
		i = skipSpace(raw, i)
		if raw[i] == ']' {
			return list
		}
		end := skipValue(raw, i)
		list = append(list, raw[i:end])
		if i = skipSpace(raw, end); raw[i] == ',' {
			i++
		}
	}
}

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r' {
		i++
	}
	return i
}

// skipValue returns where the value that starts at i ends.
func skipValue(raw []byte, i int) int {
	depth := 0
	for {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			for i+1 < len(raw) && !strings.ContainsRune(",:]} \t\r\n\"{[", rune(raw[i+1])) {
				i++
			}
		}
		i++
		if depth == 0 {
			return i
		}
	}
}
