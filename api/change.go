package api

import "reflect"

// Change says what a new version of a job means for the allocations of one of its groups.
type Change int

// From nothing to do, over handing a running allocation the new job, to replacing the allocation.
const (
	ChangeNone Change = iota
	ChangeInPlace
	ChangeDestructive
)

// String is how plans and logs name it.
func (c Change) String() string {
	switch c {
	case ChangeNone:
		return "none"
	case ChangeInPlace:
		return "in-place"
	}
	return "destructive"
}

// GroupChange compares a group in two versions of a job. Destructive is what a task sees from its first moment: what
// runs, with which configuration, environment (metadata included), resources and ports. In place is what agents and
// hubs act on later: policies, signals and time-outs of stopping, services; and constraints, where the scheduler must
// check that the node still satisfies them. A group or task that is in one version only is destructive.
func GroupChange(from, to *Job, group string) Change {
	a, b := from.Group(group), to.Group(group)
	if a == nil || b == nil {
		return ChangeDestructive
	}
	change := max(compare(from, to, jobChanges), compare(a, b, groupChanges))
	if len(a.Tasks) != len(b.Tasks) {
		return ChangeDestructive
	}
	for _, t := range a.Tasks {
		u := b.Task(t.Name)
		if u == nil {
			return ChangeDestructive
		}
		change = max(change, compare(t, u, taskChanges))
	}
	return change
}

// Group returns the group of that name, nil if there is none.
func (j *Job) Group(name string) *Group {
	for _, g := range j.TaskGroups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// Task returns the task of that name, nil if there is none.
func (g *Group) Task(name string) *Task {
	for _, t := range g.Tasks {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// The rule of each field: what a difference in it means. A test holds that every field of the model has one.
var (
	jobChanges = map[string]Change{
		"ID": ChangeNone, "Namespace": ChangeNone, // they name the job
		"Region": ChangeDestructive, "Name": ChangeDestructive, "ParentID": ChangeDestructive, // in the environment
		"Meta": ChangeDestructive,
		"Type": ChangeInPlace, "Priority": ChangeInPlace, "AllAtOnce": ChangeInPlace,
		"Datacenters": ChangeInPlace, "NodePool": ChangeInPlace, "Constraints": ChangeInPlace,
		"TaskGroups": ChangeNone,                           // each by its own rule
		"Update":     ChangeNone, "Reschedule": ChangeNone, // defaults of the groups
		"Stop": ChangeNone, "Stable": ChangeNone, "Status": ChangeNone, "StatusDescription": ChangeNone,
		"Version": ChangeNone, "SubmitTime": ChangeNone,
		"CreateIndex": ChangeNone, "ModifyIndex": ChangeNone, "JobModifyIndex": ChangeNone,
	}
	groupChanges = map[string]Change{
		"Name":        ChangeDestructive,
		"Count":       ChangeNone, // instances are added or removed
		"Constraints": ChangeInPlace,
		"Tasks":       ChangeNone, // each by its own rule
		"Networks":    ChangeDestructive, "EphemeralDisk": ChangeDestructive, "Meta": ChangeDestructive,
		"Services": ChangeInPlace, "RestartPolicy": ChangeInPlace, "ReschedulePolicy": ChangeInPlace,
		"Update": ChangeInPlace, "ShutdownDelay": ChangeInPlace,
	}
	taskChanges = map[string]Change{
		"Name": ChangeDestructive, "Driver": ChangeDestructive, "User": ChangeDestructive, "Config": ChangeDestructive,
		"Env": ChangeDestructive, "Resources": ChangeDestructive, "Meta": ChangeDestructive,
		"LogConfig":   ChangeDestructive, // the log process is told once, at the start
		"Constraints": ChangeInPlace, "Services": ChangeInPlace, "RestartPolicy": ChangeInPlace,
		"Leader": ChangeInPlace, "KillTimeout": ChangeInPlace, "KillSignal": ChangeInPlace, "ShutdownDelay": ChangeInPlace,
	}
)

// compare returns the gravest change among the fields in which two structs differ.
func compare[T any](a, b *T, rules map[string]Change) Change {
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	change := ChangeNone
	for i := range va.NumField() {
		rule := rules[va.Type().Field(i).Name]
		if rule > change && !same(va.Field(i), vb.Field(i)) {
			change = rule
		}
	}
	return change
}

// same is deep equality to which nil and empty maps and lists are the same, as they are to JSON and msgpack.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			if other := b.MapIndex(it.Key()); !other.IsValid() || !same(it.Value(), other) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && same(a.Elem(), b.Elem())
	}
	return a.Equal(b)
}
