package api

import "fmt"

// Providers of service discovery that job files name. Services of ProviderConsul, the meaning of "" in existing job
// files, are treated as native ones.
const (
	ProviderNative = "nomad"
	ProviderConsul = "consul"
)

// Warnings tells what of the job is accepted and does not do what its author may expect, each with its path.
func (j *Job) Warnings() []string {
	var all []string
	for i, g := range j.TaskGroups {
		where := labelled("group", g.Name, i, len(j.TaskGroups))
		all = append(all, serviceWarnings(where, g.Services)...)
		for k, t := range g.Tasks {
			all = append(all, serviceWarnings(where+" "+labelled("task", t.Name, k, len(g.Tasks)), t.Services)...)
		}
	}
	return all
}

func serviceWarnings(where string, services []*Service) []string {
	var all []string
	for i, s := range services {
		at := where + " " + Nth("service", i, len(services))
		if s.Provider != ProviderNative {
			all = append(all, fmt.Sprintf("%s: provider: %q is treated as %q, the native discovery",
				at, ProviderConsul, ProviderNative))
		}
		if len(s.Checks) > 0 {
			all = append(all, at+": check: not run yet")
		}
	}
	return all
}
