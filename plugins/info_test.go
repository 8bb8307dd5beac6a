package plugins

import (
	"strings"
	"testing"

	"github.com/brumehq/brume/plugins/wire"
)

func TestInfo(t *testing.T) {
	good := func() *wire.PluginInfoResponse {
		return &wire.PluginInfoResponse{
			Type: wire.PluginType_PLUGIN_TYPE_DRIVER, PluginApiVersions: []string{"v0.2.0", wire.APIVersion}, PluginVersion: "0.4.0-dev", Name: "podman",
		}
	}
	for name, test := range map[string]struct {
		change func(*wire.PluginInfoResponse)
		want   string // in the error; "" is none
	}{
		"a driver":               {func(*wire.PluginInfoResponse) {}, ""},
		"a device":               {func(w *wire.PluginInfoResponse) { w.Type = wire.PluginType_PLUGIN_TYPE_DEVICE }, ""},
		"neither":                {func(w *wire.PluginInfoResponse) { w.Type = 7 }, "neither a driver's nor a device's"},
		"another version of API": {func(w *wire.PluginInfoResponse) { w.PluginApiVersions = []string{"v1.0.0"} }, wire.APIVersion},
		"no version":             {func(w *wire.PluginInfoResponse) { w.PluginVersion = "new" }, `"new"`},
		"no name":                {func(w *wire.PluginInfoResponse) { w.Name = "" }, "no name"},
		"too long a name":        {func(w *wire.PluginInfoResponse) { w.Name = strings.Repeat("x", 129) }, "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			w := good()
			test.change(w)
			info, err := infoFromWire(w)
			if test.want == "" && (err != nil || info.Name != "podman" || info.Device != (name == "a device")) {
				t.Errorf("info %+v, %v", info, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
