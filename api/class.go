package api

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"
)

// uniquePrefix begins attributes and metadata that tell one node from another; a class must not depend on them.
const uniquePrefix = "unique."

// Class digests what feasibility depends on and nodes have in common: datacenter, pool, class, attributes, metadata,
// which drivers there are and whether they work. What begins with "unique." is left out: a rule that reads it is decided for each node.
func (n *Node) Class() string {
	h := sha256.New()
	write(h, n.Datacenter, n.NodePool, n.NodeClass)
	writeMap(h, n.Attributes)
	writeMap(h, n.Meta)
	for _, name := range slices.Sorted(maps.Keys(n.Drivers)) {
		switch d := n.Drivers[name]; {
		case d == nil: // as if it were not listed
		case d.Detected && d.Healthy:
			write(h, "driver", name)
			writeMap(h, d.Attributes)
		default:
			write(h, "broken driver", name) // its attributes may still be among the node's
		}
	}
	return "v1:" + hex.EncodeToString(h.Sum(nil)[:16])
}

func writeMap(h hash.Hash, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(k, uniquePrefix) {
			write(h, "key", k, m[k])
		}
	}
	write(h, "end")
}

// write hashes texts so that no two lists of them give the same bytes.
func write(h hash.Hash, texts ...string) {
	for _, s := range texts {
		n := len(s)
		h.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		h.Write([]byte(s))
	}
}
