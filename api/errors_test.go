package api_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/brumehq/brume/api"
)

func TestEveryKindOfErrorSurvivesTheWire(t *testing.T) {
	for _, kind := range []error{api.ErrNotFound, api.ErrInvalid, api.ErrConflict, api.ErrDenied, api.ErrNoLeader} {
		sent := fmt.Errorf("job web: %w", api.E(kind, "text of its own"))
		name := api.KindName(sent)
		if name == "" || !errors.Is(api.E(api.KindOfName(name), sent.Error()), kind) {
			t.Errorf("%v travels as %q and comes back as %v", kind, name, api.KindOfName(name))
		}
		if sent.Error() != "job web: text of its own" {
			t.Errorf("the kind shows in the text: %v", sent)
		}
	}
	if name := api.KindName(errors.New("another")); name != "" {
		t.Errorf("an error of no kind travels as %q", name)
	}
	if kind := api.KindOfName("weather"); kind != nil {
		t.Errorf("an unknown kind comes back as %v", kind)
	}
}
