package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// An agent that sends many bodies at once has the hub hold few of them; questions do not wait behind them.
func TestFewBodiesOfAnAgentAreTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agentLink{writes: make(chan struct{}, maxLinkWrites)}
		ctx, cancel := context.WithCancel(t.Context())
		taken := 0
		hold := func(_ *agentLink, r *http.Request) (any, error) {
			taken++
			<-r.Context().Done()
			return nil, nil
		}
		for range maxLinkWrites {
			go a.take(httptest.NewRequestWithContext(ctx, http.MethodPut, "/", nil), hold)
			synctest.Wait()
		}
		late, giveUp := context.WithCancel(ctx)
		go a.take(httptest.NewRequestWithContext(late, http.MethodPut, "/", nil), hold)
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if taken != maxLinkWrites {
			t.Errorf("%d bodies taken at once, want %d", taken, maxLinkWrites)
		}
		go a.take(httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), hold)
		synctest.Wait()
		if taken != maxLinkWrites+1 {
			t.Error("a question waits for the bodies")
		}
		cancel()
	})
}
