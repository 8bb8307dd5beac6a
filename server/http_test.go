package server

import (
	"net/http"
	"testing"

	"github.com/brumehq/brume/api"
)

// Filters name the fields of the full object; a field that is known but not built is nil.
func TestFilterNamesFieldsOfTheObject(t *testing.T) {
	job := api.NewJob(api.JobTypeBatch)
	job.ID = "nightly"
	job.Meta = map[string]string{"team": "ops"}
	tests := []struct {
		rule, expr string
		want       bool
	}{
		{"equal", `ID == "nightly"`, true},
		{"not equal", `ID != "nightly"`, false},
		{"map entry", `Meta["team"] == "ops"`, true},
		{"absent is nil", `Periodic is nil`, true},
		{"absent is not set", `Periodic is not nil`, false},
		{"and", `Type == "batch" and Priority == 50`, true},
		{"empty matches all", ``, true},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			match, err := filter(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			got := match == nil
			if match != nil {
				if got, err = match(filteredJob(job)); err != nil {
					t.Fatal(err)
				}
			}
			if got != tt.want {
				t.Errorf("filter(%s) = %t, want %t", tt.expr, got, tt.want)
			}
		})
	}
	if _, err := filter(`ID ==`); api.KindName(err) != "invalid" {
		t.Errorf("a broken filter gave %v, want an invalid request", err)
	}
}

// No two rows of the route table answer the same method of the same path, and the mux takes them all.
func TestRoutesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Routes() {
		if seen[r] {
			t.Errorf("%s stands twice in the table", r)
		}
		seen[r] = true
	}
	var _ http.Handler = (&Hub{}).routes() // panics if patterns conflict
}
