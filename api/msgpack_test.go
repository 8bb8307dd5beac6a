package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// What is empty may come back as nil: GroupChange and JSON's readers take both alike.
func TestMsgpackRoundTripLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := jobs().Draw(t, "job")
		raw, err := job.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := new(Job)
		rest, err := got.UnmarshalMsg(raw)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%d bytes left, %v", len(rest), err)
		}
		if diff := cmp.Diff(job, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
		for _, g := range job.TaskGroups {
			if c := GroupChange(job, got, g.Name); c != ChangeNone {
				t.Fatalf("group %s changed by the round trip: %v", g.Name, c)
			}
		}
	})
}
