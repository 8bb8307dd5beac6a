package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/brumehq/brume/api"
)

// progress shows how a job comes up: a block that is redrawn on a terminal, one line a change elsewhere. With -o json it
// goes to the error stream, so that standard output holds JSON alone.
type progress struct {
	cli   *cli
	out   io.Writer
	tty   bool
	drawn int               // lines of the block on the terminal
	seen  map[string]string // allocation or task -> what was last said of it
}

func newProgress(c *cli) *progress {
	p := &progress{cli: c, out: c.out, tty: c.tty, seen: map[string]string{}}
	if c.output == outputJSON {
		p.out, p.tty = c.err, false
	}
	return p
}

// line prints one line below everything said so far.
func (p *progress) line(format string, args ...any) {
	p.end()
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *progress) lines(lines []string) {
	for _, l := range lines {
		p.line("%s", l)
	}
}

// end leaves the block standing: what follows goes below it.
func (p *progress) end() { p.drawn = 0 }

// update shows the present state of allocs.
func (p *progress) update(job *api.Job, allocs []*api.AllocationListStub) {
	allocs = slices.Clone(allocs)
	slices.SortFunc(allocs, func(a, b *api.AllocationListStub) int { return compareNames(a.Name, b.Name) })
	if p.tty {
		p.redraw(job, allocs)
		return
	}
	for _, a := range allocs {
		p.changes(a)
	}
}

// changes prints what is new of one allocation.
func (p *progress) changes(a *api.AllocationListStub) {
	now := p.cli.now().Format(time.TimeOnly)
	for _, name := range sortedTasks(a) {
		key := a.ID + "/" + name
		if e := lastEvent(a.TaskStates[name]); e != nil && noteworthy(e) {
			if text := plain(e.Type + ": " + e.DisplayMessage); p.seen[key] != text {
				p.seen[key] = text
				fmt.Fprintf(p.out, "%s  %s on %s: task %q: %s\n", now, a.Name, a.NodeName, name, text)
			}
		}
	}
	if s := allocStatus(a); p.seen[a.ID] != s {
		p.seen[a.ID] = s
		fmt.Fprintf(p.out, "%s  %s on %s: %s\n", now, a.Name, a.NodeName, s)
	}
}

// noteworthy leaves out what every start goes through.
func noteworthy(e *api.TaskEvent) bool {
	return e.Type != api.TaskReceived && e.Type != api.TaskSetup && e.Type != api.TaskStarted
}

// maxDrawn bounds the redrawn block: a longer one would scroll and could not be redrawn.
const maxDrawn = 20

// rows is how many allocations are drawn: with heading, sum and the cursor's line they must fit on the terminal.
func (p *progress) rows() int {
	if p.cli.height <= 0 {
		return maxDrawn
	}
	return max(min(maxDrawn, p.cli.height-3), 0)
}

func (p *progress) redraw(job *api.Job, allocs []*api.AllocationListStub) {
	t := newTable("ALLOCATION", "NODE", "STATUS", "LAST EVENT")
	for _, a := range allocs[:min(len(allocs), p.rows())] {
		t.add(a.Name, a.NodeName, allocStatus(a), newestEvent(a))
	}
	lines := t.lines(p.cli.width)
	want := 0
	for _, g := range job.TaskGroups {
		want += g.Count
	}
	lines = append(lines, cut(fmt.Sprintf("%d of %d placed, %d healthy or complete", len(allocs), want, countGood(allocs)), p.cli.width))
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA", p.drawn)
	}
	for _, l := range lines {
		fmt.Fprintf(p.out, "\x1b[2K%s\n", l)
	}
	if len(lines) < p.drawn { // fewer lines than before: clear the rest
		fmt.Fprint(p.out, "\x1b[J")
	}
	p.drawn = len(lines)
}

func countGood(allocs []*api.AllocationListStub) int {
	n := 0
	for _, a := range allocs {
		h := a.DeploymentStatus
		if a.ClientStatus == api.AllocClientComplete || (h != nil && h.Healthy != nil && *h.Healthy) {
			n++
		}
	}
	return n
}

// newestEvent is the last thing that happened to any task of a.
func newestEvent(a *api.AllocationListStub) string {
	var newest *api.TaskEvent
	for _, name := range sortedTasks(a) {
		if e := lastEvent(a.TaskStates[name]); e != nil && (newest == nil || e.Time > newest.Time) {
			newest = e
		}
	}
	if newest == nil {
		return "-"
	}
	if newest.DisplayMessage == "" {
		return newest.Type
	}
	return newest.Type + ": " + newest.DisplayMessage
}

func lastEvent(s *api.TaskState) *api.TaskEvent {
	if s == nil || len(s.Events) == 0 {
		return nil
	}
	return s.Events[len(s.Events)-1]
}

func sortedTasks(a *api.AllocationListStub) []string { return slices.Sorted(maps.Keys(a.TaskStates)) }
