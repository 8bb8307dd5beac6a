package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Limits of what a job may ask for.
const (
	MaxJobCount   = 50_000  // instances of all groups together
	MaxNameLength = 255     // bytes of a job's id and of names in it
	MaxPattern    = 1 << 10 // bytes of a regular expression in a constraint
	MaxVersions   = 512     // bytes of a version constraint

	maxTaskName           = 200           // bytes; the files and pipes of its logs are called after it
	maxAmount             = math.MaxInt32 // MHz, MB or files that a task asks for: no sum of them overflows
	maxProblems           = 100           // that Validate spells out
	minMemoryMB           = 10
	minRestartInterval    = 5 * time.Second
	minRescheduleInterval = 15 * time.Second
	minRescheduleDelay    = 5 * time.Second
	minCheckTime          = time.Second
)

// FieldError is one problem of a job: where (`group "web" task "nginx"`, "" for the job itself), in which field, what.
type FieldError struct {
	Where   string
	Field   string // as job files name it; "" for the whole block
	Problem string
}

// Error reads `group "web" task "nginx": driver: missing`.
func (e *FieldError) Error() string {
	parts := make([]string, 0, 3)
	for _, p := range []string{e.Where, e.Field, e.Problem} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// Validate reports all that is wrong with the job, joined, each a *FieldError; nil for a job that can be registered.
func (j *Job) Validate() error {
	p := &problems{}
	p.job(j)
	if p.unsaid > 0 {
		p.errs = append(p.errs, &FieldError{Problem: fmt.Sprintf("and %d problems more", p.unsaid)})
	}
	return errors.Join(p.errs...)
}

// problems collects what is wrong.
type problems struct {
	errs   []error
	unsaid int // beyond maxProblems
}

func (p *problems) add(where, field, format string, args ...any) {
	if len(p.errs) == maxProblems {
		p.unsaid++
		return
	}
	p.errs = append(p.errs, &FieldError{Where: where, Field: field, Problem: fmt.Sprintf(format, args...)})
}

func (p *problems) job(j *Job) {
	switch {
	case j.ID == "":
		p.add("", "id", "missing")
	case strings.ContainsFunc(j.ID, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		p.add("", "id", "%q must have no spaces and no control characters", j.ID)
	}
	p.text("", "id", j.ID)
	p.text("", "name", j.Name)
	if j.Namespace != DefaultNamespace {
		p.add("", "namespace", "%q: namespaces are not supported yet, only %q", j.Namespace, DefaultNamespace)
	}
	switch j.Type {
	case JobTypeService, JobTypeBatch:
	case JobTypeSystem, JobTypeSysbatch:
		p.add("", "type", "%q: not supported yet", j.Type)
	default:
		p.add("", "type", "%q is neither %q nor %q", j.Type, JobTypeService, JobTypeBatch)
	}
	if j.Priority < 1 || j.Priority > 100 {
		p.add("", "priority", "must be 1 to 100, not %d", j.Priority)
	}
	if len(j.Datacenters) == 0 {
		p.add("", "datacenters", "must name at least one (\"*\" for all)")
	}
	for _, dc := range j.Datacenters {
		if _, err := path.Match(dc, ""); dc == "" || err != nil {
			p.add("", "datacenters", "%q is no name and no pattern", dc)
		}
	}
	if !poolName.MatchString(j.NodePool) {
		p.add("", "node_pool", "%q must be 1 to 128 letters, digits, dashes and underscores", j.NodePool)
	}
	p.unbuilt("", j)
	p.constraints("", j.Constraints)
	p.update("", j, j.Update)
	p.reschedule("", j.Reschedule)
	p.groups(j)
}

var poolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (p *problems) groups(j *Job) {
	if len(j.TaskGroups) == 0 {
		p.add("", "group", "a job needs at least one")
	}
	seen := make(map[string]bool)
	total := 0
	for i, g := range j.TaskGroups {
		if g == nil {
			p.add(Nth("group", i, len(j.TaskGroups)), "", "missing")
			continue
		}
		where := labelled("group", g.Name, i, len(j.TaskGroups))
		p.name(where, g.Name)
		if seen[g.Name] {
			p.add(where, "", "there is another group of that name")
		}
		seen[g.Name] = true
		p.group(where, j, g)
		total += min(max(g.Count, 0), MaxJobCount+1)
	}
	if total > MaxJobCount {
		p.add("", "group", "counts add up to more than %d", MaxJobCount)
	}
}

func (p *problems) group(where string, j *Job, g *Group) {
	if g.Count < 0 {
		p.add(where, "count", "must not be negative, is %d", g.Count)
	}
	p.unbuilt(where, g)
	p.constraints(where, g.Constraints)
	p.restart(where, g.RestartPolicy)
	p.reschedule(where, g.ReschedulePolicy)
	p.update(where, j, g.Update)
	p.notNegative(where, "shutdown_delay", g.ShutdownDelay)
	disk := where + " ephemeral_disk"
	p.unbuilt(disk, &g.EphemeralDisk)
	p.amount(disk, amount{"size", " MB", g.EphemeralDisk.SizeMB, 0})
	ports := p.networks(where, g.Networks)
	p.services(where, g, ports, g.Services)
	if len(g.Tasks) == 0 {
		p.add(where, "task", "a group needs at least one")
	}
	seen := make(map[string]bool)
	leaders := 0
	for i, t := range g.Tasks {
		if t == nil {
			p.add(where+" "+Nth("task", i, len(g.Tasks)), "", "missing")
			continue
		}
		at := where + " " + labelled("task", t.Name, i, len(g.Tasks))
		p.name(at, t.Name)
		if n := len(t.Name); n > maxTaskName && n <= MaxNameLength {
			p.add(at, "name", "longer than %d bytes: files are called after it", maxTaskName)
		}
		switch {
		case seen[t.Name]:
			p.add(at, "", "there is another task of that name in the group")
		case t.Name == "alloc":
			p.add(at, "", "the name is taken: \"alloc\" is the directory that tasks share")
		}
		seen[t.Name] = true
		if t.Leader {
			leaders++
		}
		if leaders > 1 && t.Leader {
			p.add(at, "leader", "a group has at most one leader")
		}
		p.task(at, t)
		p.services(at, g, ports, t.Services)
	}
}

func (p *problems) task(where string, t *Task) {
	if t.Driver == "" {
		p.add(where, "driver", "missing")
	}
	p.text(where, "driver", t.Driver)
	p.text(where, "user", t.User)
	for _, k := range slices.Sorted(maps.Keys(t.Env)) {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			p.add(where, "env", "%q cannot be the name of a variable", k)
		}
	}
	p.unbuilt(where, t)
	p.constraints(where, t.Constraints)
	p.restart(where, t.RestartPolicy)
	res := where + " resources"
	p.unbuilt(res, &t.Resources)
	p.amount(res, amount{"cpu", " MHz", t.Resources.CPU, 1})
	p.amount(res, amount{"memory", " MB", t.Resources.MemoryMB, minMemoryMB})
	if l := t.LogConfig; !l.Disabled {
		p.amount(where+" logs", amount{"max_files", "", l.MaxFiles, 1})
		p.amount(where+" logs", amount{"max_file_size", " MB", l.MaxFileSizeMB, 1})
	}
	p.notNegative(where, "kill_timeout", t.KillTimeout)
	p.notNegative(where, "shutdown_delay", t.ShutdownDelay)
	if t.KillSignal != "" && !signals[t.KillSignal] {
		p.add(where, "kill_signal", "%q is no signal (SIGTERM, SIGINT, …)", t.KillSignal)
	}
}

// name checks a group's or task's name: it becomes part of paths.
func (p *problems) name(where, name string) {
	switch {
	case name == "":
		p.add(where, "name", "missing")
	case name == "." || name == "..", strings.ContainsAny(name, `/\`), strings.ContainsFunc(name, unicode.IsControl):
		p.add(where, "name", "%q must have no slashes and no control characters", name)
	}
	p.text(where, "name", name)
}

// text checks what holds of every short text.
func (p *problems) text(where, field, s string) {
	if len(s) > MaxNameLength {
		p.add(where, field, "longer than %d bytes", MaxNameLength)
	}
	if strings.ContainsRune(s, 0) {
		p.add(where, field, "has a null character")
	}
}

// amount is how much of something a task asks for.
type amount struct {
	field, unit string
	n, least    int
}

func (p *problems) amount(where string, a amount) {
	switch {
	case a.n < a.least:
		p.add(where, a.field, "must be at least %d%s, is %d", a.least, a.unit, a.n)
	case a.n > maxAmount:
		p.add(where, a.field, "must be at most %d%s, is %d", maxAmount, a.unit, a.n)
	}
}

func (p *problems) notNegative(where, field string, d time.Duration) {
	if d < 0 {
		p.add(where, field, "must not be negative, is %v", d)
	}
}

// unbuilt refuses values of fields that are in the model and not built.
func (p *problems) unbuilt(where string, block any) {
	v := reflect.ValueOf(block).Elem()
	for _, u := range unbuilt[v.Type()] {
		f := v.FieldByName(u.Field)
		if !f.IsValid() || f.IsZero() {
			continue
		}
		if raw, err := json.Marshal(f.Interface()); err != nil || !u.Accepts(raw) {
			p.add(where, u.HCL, "not supported yet")
		}
	}
}

// Nth names the i-th of n blocks of a kind, as Where does: alone by its kind, else with its number from 1.
func Nth(kind string, i, n int) string {
	if n == 1 {
		return kind
	}
	return fmt.Sprintf("%s %d", kind, i+1)
}

func labelled(kind, name string, i, n int) string {
	if name == "" {
		return Nth(kind, i, n)
	}
	return fmt.Sprintf("%s %q", kind, name)
}
