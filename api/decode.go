package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// UnmarshalJSON replaces j by what the JSON says and the defaults for what it leaves out or gives as null. Keys match
// letter case aside; unknown ones are ignored, unbuilt ones too (see DecodeJob), so that an agent can read the job of a
// newer hub. Decoding errors are joined, each with its path.
func (j *Job) UnmarshalJSON(b []byte) error {
	d := jobDecoder{}
	d.decode(b, j)
	return errors.Join(d.errs...)
}

// DecodeJob decodes a job that a user submits: as UnmarshalJSON, but a field that is known and not built is refused
// unless its value changes nothing. Errors are of kind ErrInvalid.
func DecodeJob(b []byte) (*Job, error) {
	if !json.Valid(b) {
		return nil, E(ErrInvalid, "job: not JSON: "+json.Unmarshal(b, new(any)).Error())
	}
	d := jobDecoder{strict: true}
	j := new(Job)
	d.decode(b, j)
	if len(d.errs) > 0 {
		return nil, &Error{Kind: ErrInvalid, Text: errors.Join(d.errs...).Error()}
	}
	return j, nil
}

// UnmarshalJSON decodes the request, its job as DecodeJob does.
func (r *JobRegisterRequest) UnmarshalJSON(b []byte) error {
	type plain JobRegisterRequest
	body := struct {
		*plain
		Job json.RawMessage
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(b, &body); err != nil {
		return err
	}
	r.Job = nil
	if len(body.Job) == 0 || isNull(bytes.TrimSpace(body.Job)) {
		return nil
	}
	job, err := DecodeJob(body.Job)
	r.Job = job
	return err
}

// maxBlocks bounds the groups, tasks, services, constraints and the like of one job: each is far larger in memory than
// the two bytes that it may have in JSON.
const maxBlocks = 20_000

// jobDecoder fills a job from JSON. job and group are those being decoded: they give their children's defaults.
type jobDecoder struct {
	strict bool
	job    *Job
	group  *Group
	blocks int // decoded so far
	errs   []error
}

func (d *jobDecoder) decode(b []byte, j *Job) {
	ms, ok := d.members("job", b)
	if !ok {
		return
	}
	jobType := ""
	for _, m := range ms {
		if strings.EqualFold(m.key, "Type") {
			_ = json.Unmarshal(m.raw, &jobType) // reported when the member is decoded
		}
	}
	*j = *NewJob(jobType)
	d.job = j
	d.fields("", ms, reflect.ValueOf(j).Elem())
	j.Complete()
}

func (d *jobDecoder) fail(path, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// members splits an object, in order, leaving out null members: null is absent.
func (d *jobDecoder) members(path string, raw []byte) ([]member, bool) {
	if raw = bytes.TrimSpace(raw); raw[0] != '{' {
		d.fail(path, "want an object")
		return nil, false
	}
	return splitObject(raw), true
}

// fields fills the struct v: first what children inherit, then the groups or tasks.
func (d *jobDecoder) fields(path string, ms []member, v reflect.Value) {
	known := layouts()[v.Type()]
	for _, children := range []bool{false, true} {
		for _, m := range ms {
			f, ok := known.find(m.key)
			switch {
			case !ok || f.child != children:
			case f.unbuilt != nil:
				if d.strict && !f.unbuilt.Accepts(m.raw) {
					d.fail(join(path, f.unbuilt.Field), "not supported yet")
				}
			default:
				d.value(join(path, f.name), m.raw, v.Field(f.index))
			}
		}
	}
}

func (d *jobDecoder) value(path string, raw []byte, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if ms, ok := d.members(path, raw); ok {
			d.fields(path, ms, v)
		}
	case reflect.Pointer:
		d.pointer(path, raw, v)
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer {
			d.list(path, raw, v)
			return
		}
		d.scalar(path, raw, v)
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.Interface {
			d.config(path, raw, v)
			return
		}
		d.scalar(path, raw, v)
	default:
		d.scalar(path, raw, v)
	}
}

func (d *jobDecoder) pointer(path string, raw []byte, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case **Update:
		if *p == nil && significant(raw) == nil {
			return // batch jobs of other servers carry an update block of zeros
		}
		if *p == nil {
			*p = NewUpdate()
		}
	case **Reschedule:
		if *p == nil {
			*p = NewReschedule(d.job.Type)
		}
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	d.value(path, raw, v.Elem())
}

func (d *jobDecoder) list(path string, raw []byte, v reflect.Value) {
	if raw = bytes.TrimSpace(raw); raw[0] != '[' {
		d.fail(path, "want a list")
		return
	}
	v.SetZero()
	elems := splitList(raw)
	if d.blocks += len(elems); d.blocks > maxBlocks {
		d.fail(path, "a job has at most %d blocks", maxBlocks)
		return
	}
	for i, e := range elems {
		if isNull(e) {
			continue
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		elem := reflect.New(v.Type().Elem()).Elem()
		switch p := elem.Addr().Interface().(type) {
		case **Group:
			*p = d.job.NewGroup()
			d.group = *p
			at = label("group", e, at)
		case **Task:
			*p = d.group.NewTask()
			at = label("task", e, at)
			if g := d.group; g != nil {
				at = fmt.Sprintf("group %q %s", g.Name, at)
			}
		}
		d.value(at, e, elem)
		v.Set(reflect.Append(v, elem))
	}
}

// label is how errors name a group or task: by its name when that can be read.
func label(kind string, raw []byte, otherwise string) string {
	var named struct{ Name string }
	if json.Unmarshal(raw, &named) != nil || named.Name == "" {
		return otherwise
	}
	return fmt.Sprintf("%s %q", kind, named.Name)
}

func (d *jobDecoder) scalar(path string, raw []byte, v reflect.Value) {
	if simple(raw, v) {
		return
	}
	err := json.Unmarshal(raw, v.Addr().Interface())
	var te *json.UnmarshalTypeError
	switch {
	case errors.As(err, &te):
		d.fail(path, "want %s, not %s", wanted(te.Type), te.Value)
	case err != nil:
		d.fail(path, "%v", err)
	}
}

// simple stores the values that most members have, without encoding/json's cost; it returns false for any other.
func simple(raw []byte, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		if raw[0] != '"' || bytes.IndexByte(raw, '\\') >= 0 || !utf8.Valid(raw) {
			return false
		}
		v.SetString(string(raw[1 : len(raw)-1]))
		return true
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || v.OverflowInt(n) {
			return false
		}
		v.SetInt(n)
		return true
	case reflect.Bool:
		if s := string(raw); s == "true" || s == "false" {
			v.SetBool(s == "true")
			return true
		}
	}
	return false
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64:
		if t.String() == "time.Duration" {
			return "nanoseconds as a whole number"
		}
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Map:
		return "an object"
	}
	return "a " + t.Kind().String()
}

// config decodes a map of any values, whole numbers as int64 and others as float64, so that they survive any number of
// encodings.
func (d *jobDecoder) config(path string, raw []byte, v reflect.Value) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		d.fail(path, "want an object")
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e, err := plainNumbers(m[k])
		if err != nil {
			d.fail(join(path, k), "%v", err)
		}
		m[k] = e
	}
	v.Set(reflect.ValueOf(m))
}

func plainNumbers(v any) (any, error) {
	var first error
	keep := func(e any) any {
		e, err := plainNumbers(e)
		if err != nil && first == nil {
			first = err
		}
		return e
	}
	switch v := v.(type) {
	case json.Number:
		return plainNumber(v.String())
	case map[string]any:
		for k, e := range v {
			v[k] = keep(e)
		}
	case []any:
		for i, e := range v {
			v[i] = keep(e)
		}
	}
	return v, first
}

// plainNumber returns the number that a decimal text says as the model keeps it in driver configurations: int64 where
// it is whole and fits, else float64.
func plainNumber(text string) (any, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("number %s: out of range", text)
	}
	if f == math.Trunc(f) && f >= math.MinInt64 && f < math.MaxInt64 {
		return int64(f), nil
	}
	return f, nil
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// join appends a field's name to the path of what holds it.
func join(path, field string) string {
	switch {
	case path == "":
		return field
	case strings.HasSuffix(path, `"`):
		return path + ": " + field
	}
	return path + "." + field
}
