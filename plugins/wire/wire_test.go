package wire

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "write the golden file")

// TestProtocolNeverChanges compares services, methods, field numbers and types with the golden file: plugins that exist
// depend on each of them. New ones are added to it, by -update; none is ever changed.
func TestProtocolNeverChanges(t *testing.T) {
	var lines []string
	for _, file := range []protoreflect.FileDescriptor{
		File_wire_base_proto, File_wire_hclspec_proto, File_wire_structs_proto, File_wire_driver_proto, File_wire_device_proto,
	} {
		for i := range file.Services().Len() {
			lines = append(lines, methods(file.Services().Get(i))...)
		}
		lines = append(lines, messages(file.Messages())...)
		lines = append(lines, enums(file.Enums())...)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	const golden = "testdata/protocol.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the protocol (-was +is):\n%s", diff)
	}
}

func methods(s protoreflect.ServiceDescriptor) []string {
	var lines []string
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		lines = append(lines, fmt.Sprintf("%s: client streams %v, server streams %v", m.FullName(), m.IsStreamingClient(), m.IsStreamingServer()))
	}
	return lines
}

func messages(all protoreflect.MessageDescriptors) []string {
	var lines []string
	for i := range all.Len() {
		m := all.Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			line := fmt.Sprintf("%s %d: %v %v", m.FullName(), f.Number(), f.Cardinality(), f.Kind())
			if f.Message() != nil {
				line += " " + string(f.Message().FullName())
			}
			lines = append(lines, line)
		}
		lines = append(lines, messages(m.Messages())...)
		lines = append(lines, enums(m.Enums())...)
	}
	return lines
}

func enums(all protoreflect.EnumDescriptors) []string {
	var lines []string
	for i := range all.Len() {
		e := all.Get(i)
		for j := range e.Values().Len() {
			lines = append(lines, fmt.Sprintf("%s: %s = %d", e.FullName(), e.Values().Get(j).Name(), e.Values().Get(j).Number()))
		}
	}
	return lines
}
