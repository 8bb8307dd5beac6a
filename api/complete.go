package api

import (
	"cmp"
	"regexp"
	"strings"
)

// Complete fills in what follows from the rest of the job: its name from its id, the default where an empty namespace,
// region or pool means it, names of services, and the one spelling of constraint operators. Decoders call it last;
// doing it twice changes nothing.
func (j *Job) Complete() {
	j.Name = cmp.Or(j.Name, j.ID)
	j.Type = cmp.Or(j.Type, JobTypeService)
	j.Namespace = cmp.Or(j.Namespace, DefaultNamespace)
	j.Region = cmp.Or(j.Region, DefaultRegion)
	j.NodePool = cmp.Or(j.NodePool, DefaultNodePool)
	canonicalOperands(j.Constraints)
	for _, g := range j.TaskGroups {
		canonicalOperands(g.Constraints)
		nameServices(g.Services, j.Name+"-"+g.Name)
		for _, t := range g.Tasks {
			canonicalOperands(t.Constraints)
			nameServices(t.Services, j.Name+"-"+g.Name+"-"+t.Name)
		}
	}
}

func nameServices(services []*Service, name string) {
	for _, s := range services {
		if s.Name == "" {
			s.Name = safeName(name)
		}
	}
}

// notInName is what a service's name cannot hold, and what cannot be at its ends.
var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// safeName makes a name of a service from any text.
func safeName(text string) string {
	s := notInName.ReplaceAllString(text, "-")
	return strings.Trim(s[:min(len(s), 63)], "._-")
}

func canonicalOperands(cs []Constraint) {
	for i, c := range cs {
		switch c.Operand {
		case "", "==", "is":
			cs[i].Operand = OperandEqual
		case "not":
			cs[i].Operand = OperandNotEqual
		}
	}
}
