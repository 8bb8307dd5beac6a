package state

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

// chaos makes values that no sound client sends: what is null, empty, extreme, nested deep or no text.
type chaos struct{ *rand.Rand }

func (c chaos) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*Snapshot]() || c.IntN(8) == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		c.fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(c.time()))
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() {
				c.fill(field)
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[[]byte]() && c.IntN(2) == 0 {
			v.SetBytes(make([]byte, 32)) // as a hash
			return
		}
		if n := c.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
		}
		for i := range v.Len() {
			c.fill(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			c.fill(v.Index(i))
		}
	case reflect.Map:
		for n := c.IntN(4); n > 0; n-- {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			e := reflect.New(v.Type().Elem()).Elem()
			c.fill(e)
			v.SetMapIndex(reflect.ValueOf(c.text()), e)
		}
	case reflect.Interface:
		if a := c.any(8); a != nil {
			v.Set(reflect.ValueOf(a))
		}
	case reflect.String:
		v.SetString(c.text())
	case reflect.Bool:
		v.SetBool(c.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(math.Float64frombits(c.Uint64()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(c.int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(c.int()))
	default:
		panic(v.Type().String())
	}
}

func (c chaos) time() time.Time {
	switch c.IntN(3) {
	case 0:
		return time.Time{}
	case 1:
		return time.Unix(c.int(), c.int()%1e9)
	}
	return time.Unix(0, c.int())
}

func (c chaos) int() int64 {
	odd := []int64{0, 0, 1, -1, 2, 7, 8, 15, 16, 31, 32, 127, 128, 255, 256, 65535, 65536, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}
	return odd[c.IntN(len(odd))]
}

func (c chaos) text() string {
	id := testID("chaos", c.IntN(3)).String()
	odd := []string{"", "", "x", "default", "\xff\xfe", "a\x00b", strings.Repeat("long", 1<<c.IntN(12)), id, strings.ToUpper(id),
		api.AllocClientRunning, api.AllocClientComplete, api.TaskStateRunning, api.EvalStatusPending, api.TaskStarted}
	return odd[c.IntN(len(odd))]
}

// any is a value of a task's configuration, nested up to depth.
func (c chaos) any(depth int) any {
	switch k := c.IntN(9); {
	case k < 2 && depth > 0:
		return []any{c.any(depth - 1), c.any(depth - 1)}
	case k < 4 && depth > 0:
		return map[string]any{c.text(): c.any(depth - 1)}
	case k == 4:
		return c.text()
	case k == 5:
		return c.int()
	case k == 6:
		return float64(c.int())
	case k == 7:
		return c.IntN(2) == 0
	}
	return nil
}

// What can be written to the log can be read from it, whatever is in it: an entry that cannot would stop every hub. And a
// state that it made can be restored.
func TestWhatCanBeWrittenCanBeRead(t *testing.T) {
	c := chaos{rand.New(rand.NewPCG(1, 2))}
	written := map[kind]int{}
	h := newHistory(t)
	for _, good := range everyCommand(t) {
		_, _ = h.try(good) // some refuse what others have taken
	}
	for range 300 {
		for _, like := range everyCommand(t) {
			v := reflect.New(reflect.TypeOf(like)).Elem()
			c.fill(v)
			if c.IntN(2) == 0 { // a good one with one member gone wrong
				part := v
				v = reflect.ValueOf(&like).Elem().Elem()
				whole := reflect.New(v.Type()).Elem()
				whole.Set(v)
				if at := c.IntN(whole.NumField()); whole.Field(at).CanSet() {
					whole.Field(at).Set(part.Field(at))
				}
				v = whole
			}
			cmd := v.Interface().(Command)
			entry, err := Encode(Header{Time: c.int()}, cmd)
			if err != nil {
				continue
			}
			written[cmd.kind()]++
			if _, _, err := decodeEntry(1, entry); err != nil {
				t.Fatalf("%+v was written and cannot be read: %v", cmd, err)
			}
			e := Entry{uint64(len(h.entries) + 1), entry}
			h.entries = append(h.entries, e)
			_, _ = h.store.Apply(e.Index, e.Data) // may refuse
		}
	}
	for _, good := range everyCommand(t) {
		if written[good.kind()] < 20 {
			t.Errorf("%T was written %d times only", good, written[good.kind()])
		}
	}
	file := persisted(t, h.snap())
	again := New()
	if err := again.Restore(strings.NewReader(string(file))); err != nil {
		t.Fatalf("the state cannot be restored: %v", err)
	}
	if !slices.Equal(persisted(t, again.Snapshot()), file) {
		t.Error("a restored state differs")
	}
}

// Values nest as deep as may be written and no deeper, however they are made.
func TestNestingThatCanBeWrittenCanBeRead(t *testing.T) {
	written := 0
	for depth := range 2 * maxDepth {
		for _, wrap := range []func(any) any{
			func(a any) any { return []any{a} },
			func(a any) any { return map[string]any{"k": a} },
		} {
			value := any("leaf")
			for range depth {
				value = wrap(value)
			}
			j := apitest.Job(t)
			j.TaskGroups[0].Tasks[0].Config = map[string]any{"deep": value}
			entry, err := Encode(Header{}, RegisterJob{Job: j})
			if err != nil {
				continue
			}
			written++
			if _, _, err := decodeEntry(1, entry); err != nil {
				t.Errorf("depth %d was written and cannot be read: %v", depth, err)
			}
		}
	}
	if written < maxDepth || written == 4*maxDepth {
		t.Errorf("%d of %d were written, want the shallow ones", written, 4*maxDepth)
	}
}
