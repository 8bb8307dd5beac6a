package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/brumehq/brume/api/apitest"
)

// someState has a little of everything, in more than one block of allocations.
func someState(t testing.TB) *history {
	h := newHistory(t)
	for _, c := range everyCommand(t)[:4] {
		h.do(c)
	}
	j := h.snap().Job("default", apitest.JobID)
	for n := range 3 {
		g := h.place(j, make([]uint32, 4000)...)
		for i := range g.Rows {
			g.Rows[i].Node, g.Rows[i].ID = 1, testID("many", n*4000+i)
		}
		h.do(Plan{Place: []PlaceGroup{g}})
	}
	for _, c := range everyCommand(t)[8:13] {
		_, _ = h.try(c)
	}
	return h
}

func TestTornSnapshotIsRefused(t *testing.T) {
	h := someState(t)
	file := persisted(t, h.snap())
	want := view(h.snap())
	refused := func(what string, b []byte) error {
		t.Helper()
		err := h.store.Restore(bytes.NewReader(b))
		if err == nil {
			t.Errorf("%s was restored", what)
		}
		return err
	}
	for n := 0; n < len(file); n += 1 + n/50 {
		if err := refused("a part", file[:n]); err != nil && !strings.Contains(err.Error(), "snapshot is cut off after ") {
			t.Fatalf("the first %d bytes: %v, want cut off", n, err)
		}
	}
	for n := len(snapshotMagic) + 1; n < len(file); n += 1 + n/50 {
		bad := bytes.Clone(file)
		bad[n] ^= 0x40
		if err := refused("a damaged snapshot", bad); err != nil && !strings.Contains(err.Error(), "snapshot is ") {
			t.Fatalf("byte %d turned: %v", n, err)
		}
	}
	if err := refused("another file", []byte("PK\x03\x04 some other archive")); err.Error() != "this is no snapshot" {
		t.Errorf("another file: %v", err)
	}
	newer := bytes.Clone(file)
	newer[len(snapshotMagic)]++
	if u := (*UnsupportedError)(nil); !errors.As(refused("a newer format", newer), &u) {
		t.Error("a newer format is not unsupported")
	}
	if got := view(h.snap()); len(got) != len(want) || got["index"] != want["index"] {
		t.Error("a refused snapshot changed the state")
	}
	if err := h.store.Restore(bytes.NewReader(file)); err != nil {
		t.Errorf("the whole snapshot: %v", err)
	}
}

func TestSnapshotWithoutABlockIsRefused(t *testing.T) {
	file := persisted(t, someState(t).snap())
	at := len(snapshotMagic) + 1
	for at < len(file) {
		next := at + blockHead + int(binary.LittleEndian.Uint32(file[at+1:]))
		without := append(bytes.Clone(file[:at]), file[next:]...)
		if err := New().Restore(bytes.NewReader(without)); err == nil {
			t.Errorf("a snapshot without its block of kind %d was restored", file[at])
		}
		at = next
	}
}

// reseal gives every block of a mutated snapshot its right checksum, so that fuzzing gets past it.
func reseal(file []byte) []byte {
	file = bytes.Clone(file)
	for at := len(snapshotMagic) + 1; at+blockHead <= len(file); {
		size := int(binary.LittleEndian.Uint32(file[at+1:]))
		if size > len(file)-at-blockHead {
			break
		}
		content := file[at+blockHead : at+blockHead+size]
		binary.LittleEndian.PutUint32(file[at+5:], blockSum(file[at], content))
		at += blockHead + size
	}
	return file
}

// FuzzRestore restores any bytes. Nothing may panic, and what is restored can be read and written again.
func FuzzRestore(f *testing.F) {
	h := newHistory(f)
	f.Add(persisted(f, h.snap()))
	for _, c := range everyCommand(f)[:4] {
		h.do(c)
	}
	f.Add(persisted(f, h.snap()))
	for _, c := range everyCommand(f)[8:13] {
		_, _ = h.try(c)
	}
	f.Add(persisted(f, h.snap()))
	f.Fuzz(func(t *testing.T, file []byte) {
		s := New()
		if s.Restore(bytes.NewReader(reseal(file))) != nil {
			return
		}
		view(s.Snapshot())
		persisted(t, s.Snapshot())
		for _, c := range everyCommand(t) {
			data, err := Encode(Header{Time: testStart}, c)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Apply(s.Snapshot().Index()+1, data)
		}
	})
}
