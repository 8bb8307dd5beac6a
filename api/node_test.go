package api

import (
	"testing"
)

func TestNodesOfOneClassDifferInNothingThatPlacementReads(t *testing.T) {
	base := testNode(func(*Node) {}).Class()
	for rule, row := range map[string]struct {
		change func(*Node)
		same   bool
	}{
		"identity":              {func(n *Node) { n.ID, n.Name, n.Ordinal, n.ModifyIndex = "x", "y", 7, 8 }, true},
		"unique attribute":      {func(n *Node) { n.Attributes["unique.hostname"] = "z" }, true},
		"unique metadata":       {func(n *Node) { n.Meta["unique.rack"] = "7" }, true},
		"status":                {func(n *Node) { n.Status = NodeStatusDown }, true},
		"driver's description":  {func(n *Node) { n.Drivers["fake"].HealthDescription = "fine" }, true},
		"attribute":             {func(n *Node) { n.Attributes["cpu.arch"] = "arm64" }, false},
		"metadata":              {func(n *Node) { n.Meta["rack"] = "7" }, false},
		"attribute or meta":     {func(n *Node) { n.Meta["os.name"] = "debian"; delete(n.Attributes, "os.name") }, false},
		"datacenter":            {func(n *Node) { n.Datacenter = "dc2" }, false},
		"pool":                  {func(n *Node) { n.NodePool = "gpu" }, false},
		"class":                 {func(n *Node) { n.NodeClass = "big" }, false},
		"unhealthy driver":      {func(n *Node) { n.Drivers["fake"].Healthy = false }, false},
		"broken driver":         {func(n *Node) { n.Drivers["docker"] = &DriverStatus{} }, false},
		"driver without a word": {func(n *Node) { n.Drivers["docker"] = nil }, true},
		"one more driver":       {func(n *Node) { n.Drivers["docker"] = &DriverStatus{Detected: true, Healthy: true} }, false},
		"driver's attribute":    {func(n *Node) { n.Drivers["fake"].Attributes = map[string]string{"v": "2"} }, false},
	} {
		t.Run(rule, func(t *testing.T) {
			n := testNode(row.change)
			if got := n.Class() == base; got != row.same {
				t.Errorf("same class: %v, want %v", got, row.same)
			}
			if first, second := n.Class(), n.Class(); first != second {
				t.Errorf("two digests of one node differ: %s, %s", first, second)
			}
		})
	}
}

func testNode(change func(*Node)) *Node {
	n := &Node{
		ID: "1", Name: "node", Datacenter: DefaultDatacenter, NodePool: DefaultNodePool, Status: NodeStatusReady,
		Attributes: map[string]string{"os.name": "debian", "cpu.arch": "amd64", "unique.hostname": "node"},
		Meta:       map[string]string{},
		Drivers:    map[string]*DriverStatus{"fake": {Detected: true, Healthy: true}},
	}
	change(n)
	return n
}

// An agent chooses its attributes; it must not choose to be of another node's class.
func TestNoAttributePassesForMetadata(t *testing.T) {
	a := testNode(func(n *Node) { n.Attributes, n.Meta = map[string]string{"": "a"}, nil })
	b := testNode(func(n *Node) { n.Attributes, n.Meta = nil, map[string]string{"a": ""} })
	if a.Class() == b.Class() {
		t.Error("an attribute without a name and metadata without a value make one class")
	}
}
