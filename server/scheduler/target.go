package scheduler

import (
	"cmp"
	"strings"

	"github.com/brumehq/brume/api"
)

// target is one side of a constraint: text in which ${…} stands for something that a node says of itself.
type target struct {
	text   string
	parts  []targetPart
	region string // what ${node.region} is: the job's own, for only its hubs place it
	unique bool   // it names what differs between nodes of one class
}

// targetPart is a piece of literal text, or a reference such as "attr.kernel.name".
type targetPart struct {
	text string
	ref  bool
}

func parseTarget(text, region string) target {
	t := target{text: text, region: cmp.Or(region, api.DefaultRegion)}
	for text != "" {
		start := strings.Index(text, "${")
		end := -1
		if start >= 0 {
			end = strings.IndexByte(text[start:], '}')
		}
		if end < 0 {
			t.parts = append(t.parts, targetPart{text: text})
			break
		}
		if start > 0 {
			t.parts = append(t.parts, targetPart{text: text[:start]})
		}
		name := strings.TrimSpace(text[start+2 : start+end])
		t.parts = append(t.parts, targetPart{text: name, ref: true})
		t.unique = t.unique || isUnique(name)
		text = text[start+end+1:]
	}
	return t
}

// isUnique reports whether a reference is outside of what (*api.Node).Class digests.
func isUnique(name string) bool {
	_, key, _ := strings.Cut(name, ".")
	return strings.HasPrefix(key, "unique.")
}

// literal reports whether the target is the same on every node.
func (t *target) literal() bool {
	for _, p := range t.parts {
		if p.ref {
			return false
		}
	}
	return true
}

// resolve returns the target's text on a node; ok is false where something that it names is not set there.
func (t *target) resolve(n *api.Node) (text string, ok bool) {
	switch len(t.parts) {
	case 0:
		return "", true
	case 1:
		if p := t.parts[0]; p.ref {
			return t.lookup(n, p.text)
		}
		return t.parts[0].text, true
	}
	var b strings.Builder
	for _, p := range t.parts {
		s := p.text
		if p.ref {
			if s, ok = t.lookup(n, p.text); !ok {
				return "", false
			}
		}
		b.WriteString(s)
	}
	return b.String(), true
}

// unset returns the first reference of t that a node has no value for, "" if it has all.
func (t *target) unset(n *api.Node) string {
	for _, p := range t.parts {
		if p.ref {
			if _, ok := t.lookup(n, p.text); !ok {
				return "${" + p.text + "}"
			}
		}
	}
	return ""
}

func (t *target) lookup(n *api.Node, name string) (string, bool) {
	switch name {
	case "node.unique.id":
		return n.ID, true
	case "node.unique.name":
		return n.Name, true
	case "node.datacenter":
		return n.Datacenter, true
	case "node.region":
		return t.region, true
	case "node.class":
		return n.NodeClass, n.NodeClass != ""
	case "node.pool":
		return poolOf(n.NodePool), true
	}
	if key, ok := strings.CutPrefix(name, "attr."); ok {
		v, ok := n.Attributes[key]
		return v, ok
	}
	if key, ok := strings.CutPrefix(name, "meta."); ok {
		v, ok := n.Meta[key]
		return v, ok
	}
	return "", false
}

// poolOf is the name of a node pool: "" means the default one.
func poolOf(name string) string { return cmp.Or(name, api.DefaultNodePool) }
