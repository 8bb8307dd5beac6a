package api

import (
	"errors"
	"fmt"
	"testing"
)

func TestEveryKindOfErrorSurvivesTheWire(t *testing.T) {
	for _, kind := range []error{ErrNotFound, ErrInvalid, ErrConflict, ErrDenied, ErrNoLeader} {
		sent := fmt.Errorf("job web: %w", E(kind, "text of its own"))
		name := KindName(sent)
		if name == "" || !errors.Is(E(KindOfName(name), sent.Error()), kind) {
			t.Errorf("%v travels as %q and comes back as %v", kind, name, KindOfName(name))
		}
		if sent.Error() != "job web: text of its own" {
			t.Errorf("the kind shows in the text: %v", sent)
		}
	}
	if name := KindName(errors.New("another")); name != "" {
		t.Errorf("an error of no kind travels as %q", name)
	}
	if kind := KindOfName("weather"); kind != nil {
		t.Errorf("an unknown kind comes back as %v", kind)
	}
}
