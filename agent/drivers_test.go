package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/fingerprint"
	"github.com/brumehq/brume/plugins"
)

// driversOf runs plugins in a bubble until the test ends.
func driversOf(t *testing.T, specs ...pluginSpec) (*driverSet, *nodeRecord) {
	t.Helper()
	node := describeNode(Config{}, "n", &fingerprint.Facts{})
	s := newDriverSet(slog.New(slog.NewTextHandler(t.Output(), nil)), node, specs)
	ready := make(chan struct{})
	background(t, func(ctx context.Context) { s.run(ctx, func() { close(ready) }) })
	<-ready
	return s, node
}

func offering(file, name string, c plugins.Client) pluginSpec {
	return pluginSpec{file, func(context.Context) (*plugin, error) {
		return &plugin{name: name, client: c, release: func(context.Context) {}}, nil
	}}
}

func TestOnePluginADriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := plugins.InProcess(newScripted()), plugins.InProcess(newScripted())
		s, _ := driversOf(t, offering("one", "scripted", one), offering("two", "scripted", two))
		synctest.Wait()
		first, err := s.get(t.Context(), "scripted", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if again, err := s.get(t.Context(), "scripted", nil); err != nil || again != first {
			t.Errorf("the driver changed hands: %v, %v", again, err)
		}
	})
}

func TestPluginThatCannotStartDoesNotHoldTheNodeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := pluginSpec{"broken", func(ctx context.Context) (*plugin, error) { return nil, errors.New("no such file") }}
		slow := pluginSpec{"slow", func(ctx context.Context) (*plugin, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		began := time.Now()
		s, node := driversOf(t, broken, slow, offering("good", "scripted", plugins.InProcess(newScripted())))
		if took := time.Since(began); took > firstFingerprint {
			t.Errorf("the node waited %s for its drivers", took)
		}
		if !node.current().Drivers["scripted"].Healthy {
			t.Error("the good driver is not healthy")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.get(ctx, "other", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get of what a broken plugin may offer = %v, want to wait", err)
		}
	})
}

// changing is a driver whose health the test changes.
type changing struct {
	*scripted
	news chan plugins.Fingerprint
}

func (c *changing) Fingerprint(context.Context) (<-chan plugins.Fingerprint, error) {
	return c.news, nil
}

func TestDriversHealthIsTheNodesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changing{newScripted(), make(chan plugins.Fingerprint, 1)} // so that the first is there
		c.news <- plugins.Fingerprint{Health: plugins.Healthy, Attributes: map[string]string{"driver.scripted": "1", "driver.scripted.gpu": "yes"}}
		_, node := driversOf(t, offering("scripted", "scripted", plugins.InProcess(c)))
		for _, tt := range []struct {
			name              string
			f                 plugins.Fingerprint
			detected, healthy bool
			description       string
			attributes        int
		}{
			{"unhealthy", plugins.Fingerprint{Health: plugins.Unhealthy, Description: "engine is stopped", Attributes: map[string]string{"driver.scripted": "1"}}, true, false, "engine is stopped", 1},
			{"undetected", plugins.Fingerprint{Health: plugins.Undetected, Description: "no socket"}, false, false, "no socket", 0},
			{"an error", plugins.Fingerprint{Health: plugins.Unhealthy, Err: errors.New("asking failed")}, true, false, "asking failed", 0},
			{"healthy again", plugins.Fingerprint{Health: plugins.Healthy, Attributes: map[string]string{"driver.scripted": "1"}}, true, true, "", 1},
		} {
			changed := node.watch()
			c.news <- tt.f
			<-changed
			n := node.current()
			d := n.Drivers["scripted"]
			if d.Detected != tt.detected || d.Healthy != tt.healthy || d.HealthDescription != tt.description || len(n.Attributes) != tt.attributes {
				t.Errorf("%s: %+v with attributes %v", tt.name, d, n.Attributes)
			}
		}
		close(c.news)
	})
}
