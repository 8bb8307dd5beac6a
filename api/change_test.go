package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestEveryFieldHasAChangeRule(t *testing.T) {
	for typ, rules := range map[reflect.Type]map[string]Change{
		reflect.TypeFor[Job]():   jobChanges,
		reflect.TypeFor[Group](): groupChanges,
		reflect.TypeFor[Task]():  taskChanges,
	} {
		for f := range typ.Fields() {
			if _, ok := rules[f.Name]; !ok {
				t.Errorf("%v.%s has no rule: say what a change of it means", typ, f.Name)
			}
		}
		for name := range rules {
			if _, ok := typ.FieldByName(name); !ok {
				t.Errorf("there is a rule for %v.%s, and no such field", typ, name)
			}
		}
	}
}

func TestGroupChange(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Job)
		want   Change
	}{
		"the same":                {func(*Job) {}, ChangeNone},
		"nil is empty":            {func(j *Job) { j.Meta, j.TaskGroups[0].Tasks[0].Env = map[string]string{}, map[string]string{} }, ChangeNone},
		"indexes and versions":    {func(j *Job) { j.Version, j.ModifyIndex, j.SubmitTime = 7, 8, 9 }, ChangeNone},
		"count":                   {func(j *Job) { j.TaskGroups[0].Count = 9 }, ChangeNone},
		"another group":           {func(j *Job) { j.TaskGroups[1].Tasks[0].Driver = "docker" }, ChangeNone},
		"default of groups":       {func(j *Job) { j.Update.MaxParallel = 5 }, ChangeNone},
		"priority":                {func(j *Job) { j.Priority = 90 }, ChangeInPlace},
		"constraint":              {func(j *Job) { j.Constraints = []Constraint{{Operand: OperandDistinctHosts}} }, ChangeInPlace},
		"service":                 {func(j *Job) { j.TaskGroups[0].Services = []*Service{{Name: "a"}} }, ChangeInPlace},
		"restart":                 {func(j *Job) { j.TaskGroups[0].RestartPolicy.Attempts++ }, ChangeInPlace},
		"kill timeout":            {func(j *Job) { j.TaskGroups[0].Tasks[0].KillTimeout = time.Hour }, ChangeInPlace},
		"job metadata":            {func(j *Job) { j.Meta = map[string]string{"a": "b"} }, ChangeDestructive},
		"network":                 {func(j *Job) { j.TaskGroups[0].Networks = []*Network{{}} }, ChangeDestructive},
		"config":                  {func(j *Job) { j.TaskGroups[0].Tasks[0].Config = map[string]any{"a": int64(1)} }, ChangeDestructive},
		"memory":                  {func(j *Job) { j.TaskGroups[0].Tasks[0].Resources.MemoryMB++ }, ChangeDestructive},
		"in place and more":       {func(j *Job) { j.Priority = 1; j.TaskGroups[0].Tasks[0].Env = map[string]string{"A": "1"} }, ChangeDestructive},
		"one more task":           {func(j *Job) { g := j.TaskGroups[0]; g.Tasks = append(g.Tasks, g.NewTask()) }, ChangeDestructive},
		"a task renamed":          {func(j *Job) { j.TaskGroups[0].Tasks[0].Name = "z" }, ChangeDestructive},
		"a group gone":            {func(j *Job) { j.TaskGroups = j.TaskGroups[1:] }, ChangeDestructive},
		"order of groups changed": {func(j *Job) { g := j.TaskGroups; g[0], g[1] = g[1], g[0] }, ChangeNone},
	} {
		t.Run(name, func(t *testing.T) {
			from := NewJob(JobTypeService)
			for _, group := range []string{"a", "b"} {
				g := from.NewGroup()
				g.Name = group
				task := g.NewTask()
				task.Name, task.Driver = "t", "fake"
				g.Tasks = []*Task{task}
				from.TaskGroups = append(from.TaskGroups, g)
			}
			raw, err := json.Marshal(from)
			if err != nil {
				t.Fatal(err)
			}
			to := new(Job)
			if err := json.Unmarshal(raw, to); err != nil {
				t.Fatal(err)
			}
			row.change(to)
			if got := GroupChange(from, to, "a"); got != row.want {
				t.Errorf("GroupChange = %v, want %v", got, row.want)
			}
		})
	}
}
