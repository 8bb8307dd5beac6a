package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// table is rows under headings, aligned with two spaces between columns.
type table struct {
	head []string
	rows [][]string
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// plain is s on one line, with nothing that a terminal obeys: drivers and tasks have a say in what is printed.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// lines renders the table; with a width above 0 no line is longer: the last column is cut.
func (t *table) lines(width int) []string {
	widths := make([]int, len(t.head))
	all := append([][]string{t.head}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	out := make([]string, len(all))
	for r, row := range all {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		out[r] = cut(strings.TrimRight(b.String(), " "), width)
	}
	return out
}

// cut shortens s to width columns, the last of them an ellipsis; width 0 is no limit.
func cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

// printTable writes t, or only its heading if it has no rows.
func (c *cli) printTable(t *table) {
	for _, line := range t.lines(c.width) {
		fmt.Fprintln(c.out, line)
	}
}

// facts is a list of "Name: value" lines, aligned; empty values are left out.
type facts [][2]string

func (f *facts) add(name, value string) {
	if value != "" {
		*f = append(*f, [2]string{name, value})
	}
}

func (c *cli) printFacts(f facts) {
	width := 0
	for _, kv := range f {
		width = max(width, utf8.RuneCountInString(kv[0]))
	}
	for _, kv := range f {
		fmt.Fprintln(c.out, cut(fmt.Sprintf("%-*s  %s", width, kv[0], kv[1]), c.width))
	}
}

// section prints a heading with an empty line before it.
func (c *cli) section(title string) { fmt.Fprintf(c.out, "\n%s\n", title) }

// short is the part of an id that people type.
func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// age says how long ago t was, in the two largest units at most.
func (c *cli) age(t time.Time) string {
	if t.IsZero() || t.UnixNano() == 0 {
		return "-"
	}
	return duration(c.now().Sub(t)) + " ago"
}

func duration(d time.Duration) string {
	switch d = max(d, 0).Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// mib renders MiB as people read memory.
func mib(n int64) string {
	switch {
	case n >= 10<<10:
		return fmt.Sprintf("%.0f GiB", float64(n)/1024)
	case n >= 1<<10:
		return fmt.Sprintf("%.1f GiB", float64(n)/1024)
	default:
		return fmt.Sprintf("%d MiB", n)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plural is "1 node", "2 nodes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
