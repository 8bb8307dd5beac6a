package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brumehq/brume/api"
)

// oneGroup is a job of one group of count.
func oneGroup(kind string, count int) *api.Job {
	j := api.NewJob(kind)
	j.ID, j.Name = "web", "web"
	g := j.NewGroup()
	g.Name, g.Count = "web", count
	j.TaskGroups = []*api.Group{g}
	return j
}

func stub(index int, status, message string) *api.AllocationListStub {
	return &api.AllocationListStub{
		ID: fmt.Sprintf("%08d", index), Name: fmt.Sprintf("web.web[%d]", index), NodeName: "n1", ClientStatus: status,
		DesiredStatus: api.AllocDesiredRun,
		TaskStates: map[string]*api.TaskState{"t": {State: status, Events: []*api.TaskEvent{
			{Type: api.TaskDriverMessage, DisplayMessage: message, Time: 1},
		}}},
	}
}

// screen is what a terminal shows: it obeys the few sequences that redrawing uses, and fails at any other.
type screen struct {
	t     *testing.T
	lines []string
	row   int
}

func (s *screen) Write(p []byte) (int, error) {
	for rest := string(p); rest != ""; {
		var up int
		switch {
		case strings.HasPrefix(rest, "\x1b[2K"):
			rest = rest[4:]
			if s.row < len(s.lines) {
				s.lines[s.row] = ""
			}
		case strings.HasPrefix(rest, "\x1b[J"):
			rest = rest[3:]
			s.lines = s.lines[:s.row]
		case strings.HasPrefix(rest, "\x1b["):
			if _, err := fmt.Sscanf(rest, "\x1b[%dA", &up); err != nil || up > s.row {
				s.t.Fatalf("on line %d: sequence %q", s.row, rest)
			}
			s.row -= up
			rest = rest[strings.IndexByte(rest, 'A')+1:]
		default:
			line, after, whole := strings.Cut(rest, "\n")
			if !whole {
				s.t.Fatalf("part of a line: %q", rest)
			}
			if s.row == len(s.lines) {
				s.lines = append(s.lines, "")
			}
			s.lines[s.row] = line
			s.row, rest = s.row+1, after
		}
	}
	return len(p), nil
}

// On a terminal the block of allocations is drawn in its own place, whatever comes and goes and whatever a driver says;
// lines said meanwhile stay above it.
func TestProgressIsRedrawnInPlace(t *testing.T) {
	s := &screen{t: t}
	p := newProgress(&cli{out: s, tty: true, width: 60, height: 24, now: func() time.Time { return noon }})
	job := oneGroup(api.JobTypeService, 2)
	p.line("Job submitted")
	p.update(job, []*api.AllocationListStub{stub(0, "pending", "fetching\n\x1b[31mred")})
	p.update(job, []*api.AllocationListStub{stub(1, "pending", "x"), stub(0, "running", strings.Repeat("long ", 30))})
	p.update(job, []*api.AllocationListStub{stub(0, "running", "ready")})
	want := []string{
		"Job submitted",
		"ALLOCATION  NODE  STATUS   LAST EVENT",
		"web.web[0]  n1    running  Driver: ready",
		"1 of 2 placed, 0 healthy or complete",
	}
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("the screen shows (-want +got):\n%s", diff)
	}
	p.line("The hub is away")
	p.update(job, []*api.AllocationListStub{stub(0, "running", "on")})
	want = append(want, "The hub is away", want[1], "web.web[0]  n1    running  Driver: on", want[3])
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("after a line the screen shows (-want +got):\n%s", diff)
	}
}

// The block is never higher than the terminal: what has scrolled away cannot be redrawn.
func TestProgressFitsTheTerminal(t *testing.T) {
	for _, tt := range []struct{ height, want int }{{10, 10 - 1}, {2, 2}, {100, maxDrawn + 2}, {0, maxDrawn + 2}} {
		s := &screen{t: t}
		p := newProgress(&cli{out: s, tty: true, width: 80, height: tt.height, now: time.Now})
		var allocs []*api.AllocationListStub
		for i := range 50 {
			allocs = append(allocs, stub(i, "pending", "x"))
		}
		for range 2 {
			p.update(oneGroup(api.JobTypeService, 50), allocs)
		}
		if len(s.lines) != tt.want {
			t.Errorf("on %d lines %d are drawn, want %d", tt.height, len(s.lines), tt.want)
		}
	}
}
