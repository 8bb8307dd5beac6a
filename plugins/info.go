package plugins

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/go-version"

	"github.com/brumehq/brume/plugins/wire"
)

// Info is what a plugin says of itself.
type Info struct {
	Name    string
	Version string
	Device  bool // it offers devices and runs no tasks
}

func infoFromWire(w *wire.PluginInfoResponse) (Info, error) {
	info := Info{Name: w.GetName(), Version: w.GetPluginVersion(), Device: w.GetType() == wire.PluginType_PLUGIN_TYPE_DEVICE}
	var problems []error
	if w.GetType() != wire.PluginType_PLUGIN_TYPE_DRIVER && !info.Device {
		problems = append(problems, fmt.Errorf("type %d is neither a driver's nor a device's", w.GetType()))
	}
	if !slices.Contains(w.GetPluginApiVersions(), wire.APIVersion) {
		problems = append(problems, fmt.Errorf("it does not speak version %s of the plugin API", wire.APIVersion))
	}
	if _, err := version.NewVersion(info.Version); err != nil {
		problems = append(problems, fmt.Errorf("its version %q is none", clip(info.Version, 64)))
	}
	if info.Name == "" || len(info.Name) > 128 {
		problems = append(problems, errors.New("it has no name of 1 to 128 bytes"))
	}
	return info, errors.Join(problems...)
}
