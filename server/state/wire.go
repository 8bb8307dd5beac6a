package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unique"

	"github.com/tinylib/msgp/msgp"

	"github.com/brumehq/brume/api"
)

// encoder writes the body of an entry, or a chunk of a snapshot: varints, and each distinct text once, in a table in front.
type encoder struct {
	buf   []byte
	time  int64 // times are written as distances from it
	texts []string
	refs  map[string]uint64
}

func (e *encoder) size() int {
	n := len(e.buf) + 10
	for _, s := range e.texts {
		n += len(s) + 5
	}
	return n
}

// appendTo appends the table of texts and what was written.
func (e *encoder) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.texts)))
	for _, s := range e.texts {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, e.buf...)
}

// reset makes the encoder fresh but keeps its memory.
func (e *encoder) reset(time int64) {
	e.buf, e.texts, e.time = e.buf[:0], e.texts[:0], time
	clear(e.refs)
}

func (e *encoder) byte(b byte)    { e.buf = append(e.buf, b) }
func (e *encoder) uint(v uint64)  { e.buf = binary.AppendUvarint(e.buf, v) }
func (e *encoder) int(v int64)    { e.buf = binary.AppendVarint(e.buf, v) }
func (e *encoder) count(n int)    { e.uint(uint64(n)) }
func (e *encoder) id(id ID)       { e.buf = append(e.buf, id[:]...) }
func (e *encoder) bytes(b []byte) { e.count(len(b)); e.buf = append(e.buf, b...) }
func (e *encoder) since(t int64)  { e.int(t - e.time) }
func (e *encoder) bool(v bool)    { e.byte(flag(v, 1)) }
func (e *encoder) strings(s []string) {
	e.count(len(s))
	for _, t := range s {
		e.text(t)
	}
}

func flag(v bool, bit byte) byte {
	if v {
		return bit
	}
	return 0
}

// text writes a reference to the table of texts; the empty text is reference 0.
func (e *encoder) text(s string) {
	if s == "" {
		e.uint(0)
		return
	}
	ref, ok := e.refs[s]
	if !ok {
		if e.refs == nil {
			e.refs = make(map[string]uint64)
		}
		e.texts = append(e.texts, s)
		ref = uint64(len(e.texts))
		e.refs[s] = ref
	}
	e.uint(ref)
}

// object writes a struct of api with its maps in the order of their keys, so that equal objects give equal bytes; nil
// writes nothing but its absence.
func (e *encoder) object(m msgp.Marshaler) error {
	raw, err := m.MarshalMsg(nil)
	if err != nil {
		return fmt.Errorf("%T: %w: %w", m, api.ErrInvalid, err)
	}
	sorted, err := sortMaps(make([]byte, 0, len(raw)), raw)
	if err != nil {
		return fmt.Errorf("%T: %w: %w", m, api.ErrInvalid, err)
	}
	e.bytes(sorted)
	return nil
}

func (e *encoder) ids(ids []ID) {
	e.count(len(ids))
	for _, id := range ids {
		e.id(id)
	}
}

func (e *encoder) evals(evals []*api.Evaluation) error {
	e.count(len(evals))
	for _, ev := range evals {
		if ev == nil {
			return fmt.Errorf("an evaluation is null: %w", api.ErrInvalid)
		}
		if err := e.object(ev); err != nil {
			return err
		}
	}
	return nil
}

var errShort = errors.New("it ends too early")

// decoder reads what encoder wrote, from bytes that it does not trust: after the first fault it yields zeros, and nothing
// is allocated for elements that the input is too short to hold.
type decoder struct {
	buf   []byte
	time  int64
	texts []string
	err   error

	shared []unique.Handle[string] // of texts, as far as sharedText was asked for them
}

func newDecoder(b []byte, time int64) *decoder {
	d := &decoder{buf: b, time: time}
	n := d.count(1)
	d.texts = make([]string, 0, n)
	for range n {
		d.texts = append(d.texts, string(d.take(d.count(1))))
	}
	return d
}

// end returns the first fault; input that is left over is one.
func (d *decoder) end() error {
	if d.err == nil && len(d.buf) > 0 {
		d.fail(fmt.Errorf("%d bytes are left over", len(d.buf)))
	}
	return d.err
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = nil
}

// check makes a value that could not have been written a fault.
func (d *decoder) check(err error) {
	if err != nil && d.err == nil {
		d.fail(err)
	}
}

func (d *decoder) take(n int) []byte {
	if n > len(d.buf) {
		d.fail(errShort)
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) bool() bool { return d.byte() == 1 }

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.buf)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.buf)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) since() int64 { return d.time + d.int() }

func (d *decoder) duration() time.Duration { return time.Duration(d.int()) }

// limited reads a number below limit.
func (d *decoder) limited(limit uint64) uint64 {
	v := d.uint()
	if v >= limit {
		d.fail(fmt.Errorf("%d where less than %d was expected", v, limit))
		return 0
	}
	return v
}

// count reads how many elements follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	v := d.uint()
	if v > uint64(len(d.buf)/size) {
		d.fail(errShort)
		return 0
	}
	return int(v)
}

func (d *decoder) id() (id ID) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) text() string {
	if ref := d.limited(uint64(len(d.texts)) + 1); ref > 0 {
		return d.texts[ref-1]
	}
	return ""
}

// sharedText is text as a handle that all equal texts of the program have; the zero handle if empty.
func (d *decoder) sharedText() unique.Handle[string] {
	ref := d.limited(uint64(len(d.texts)) + 1)
	if ref == 0 {
		return unique.Handle[string]{}
	}
	if d.shared == nil {
		d.shared = make([]unique.Handle[string], len(d.texts))
	}
	h := &d.shared[ref-1]
	if *h == (unique.Handle[string]{}) {
		*h = unique.Make(d.texts[ref-1])
	}
	return *h
}

// bytes returns a copy; nil if empty.
func (d *decoder) bytes() []byte { return append([]byte(nil), d.take(d.count(1))...) }

func (d *decoder) strings() []string {
	n := d.count(1)
	s := make([]string, 0, n)
	for range n {
		s = append(s, d.text())
	}
	return s
}

func (d *decoder) object(m msgp.Unmarshaler) {
	raw := d.take(d.count(1))
	if d.err != nil {
		return
	}
	if err := checkSizes(raw); err != nil {
		d.fail(err)
		return
	}
	rest, err := m.UnmarshalMsg(raw)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%T: %d bytes are left over", m, len(rest))
	}
	if err != nil {
		d.fail(err)
	}
}

func (d *decoder) ids() []ID {
	n := d.count(len(ID{}))
	ids := make([]ID, 0, n)
	for range n {
		ids = append(ids, d.id())
	}
	return ids
}

func (d *decoder) evals() []*api.Evaluation {
	n := d.count(1)
	evals := make([]*api.Evaluation, 0, n)
	for range n {
		ev := new(api.Evaluation)
		d.object(ev)
		evals = append(evals, ev)
	}
	return evals
}
