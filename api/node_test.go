package api_test

import (
	"testing"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/apitest"
)

func TestNodesOfOneClassDifferInNothingThatPlacementReads(t *testing.T) {
	base := apitest.Node(t).Class()
	for rule, row := range map[string]struct {
		change func(*api.Node)
		same   bool
	}{
		"identity":             {func(n *api.Node) { n.ID, n.Name, n.Ordinal, n.ModifyIndex = "x", "y", 7, 8 }, true},
		"unique attribute":     {func(n *api.Node) { n.Attributes["unique.hostname"] = "z" }, true},
		"unique metadata":      {func(n *api.Node) { n.Meta["unique.rack"] = "7" }, true},
		"status":               {func(n *api.Node) { n.Status = api.NodeStatusDown }, true},
		"driver's description": {func(n *api.Node) { n.Drivers["fake"].HealthDescription = "fine" }, true},
		"attribute":            {func(n *api.Node) { n.Attributes["cpu.arch"] = "arm64" }, false},
		"metadata":             {func(n *api.Node) { n.Meta["rack"] = "7" }, false},
		"attribute or meta":    {func(n *api.Node) { n.Meta["os.name"] = "debian"; delete(n.Attributes, "os.name") }, false},
		"datacenter":           {func(n *api.Node) { n.Datacenter = "dc2" }, false},
		"pool":                 {func(n *api.Node) { n.NodePool = "gpu" }, false},
		"class":                {func(n *api.Node) { n.NodeClass = "big" }, false},
		"unhealthy driver":     {func(n *api.Node) { n.Drivers["fake"].Healthy = false }, false},
		"broken driver":        {func(n *api.Node) { n.Drivers["docker"] = &api.DriverStatus{} }, false},
		"one more driver":      {func(n *api.Node) { n.Drivers["docker"] = &api.DriverStatus{Detected: true, Healthy: true} }, false},
		"driver's attribute":   {func(n *api.Node) { n.Drivers["fake"].Attributes = map[string]string{"v": "2"} }, false},
	} {
		t.Run(rule, func(t *testing.T) {
			n := apitest.Node(t, row.change)
			if got := n.Class() == base; got != row.same {
				t.Errorf("same class: %v, want %v", got, row.same)
			}
			if n.Class() != n.Class() {
				t.Error("two digests of one node differ")
			}
		})
	}
}
