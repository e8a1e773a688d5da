package bench

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// WriteTable prints the report for people: a table for each section.
func (r *Report) WriteTable(w io.Writer) error {
	b := bufio.NewWriter(w)
	m := r.Machine
	whose := "private"
	if !m.Private {
		whose = "not ours"
	}
	fmt.Fprintf(b, "%d cores, %s/%s, %s, PostgreSQL %s (%s; fsync %s, synchronous_commit %s); %s\n", m.CPUs, m.OS, m.Arch, m.Go,
		m.PostgreSQL, whose, m.Fsync, m.SynchronousCommit, time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	for _, g := range r.grids() {
		g.write(b)
	}
	return b.Flush()
}

// grids are the tables of the sections that ran.
func (r *Report) grids() []grid {
	var all []grid
	if r.Throughput != nil {
		all = append(all, r.Throughput.grid())
	}
	if r.Payloads != nil {
		all = append(all, payloadsGrid(r.Payloads))
	}
	if r.Latency != nil {
		all = append(all, latencyGrid(r.Latency))
	}
	if r.Idle != nil {
		all = append(all, r.Idle.grid())
	}
	if r.Producer != nil {
		all = append(all, producerGrid(r.Producer))
	}
	if r.Isolation != nil {
		all = append(all, isolationGrid(r.Isolation))
	}
	if r.Backlog != nil {
		all = append(all, r.Backlog.grid())
	}
	if r.Stored != nil {
		all = append(all, r.Stored.grid(), r.Stored.latencyGrid(), r.Stored.listsGrid())
	}
	return all
}

// grid is a table: its first column is text, the others are figures.
type grid struct {
	title string
	rows  [][]string // the first has the columns' names
}

func (g grid) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", g.title)
	var widths []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range g.rows {
		var line strings.Builder
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString("  " + cell + space)
			} else {
				line.WriteString("  " + space + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// How figures are written; a dash is for what is not known.
func whole(v float64) string  { return grouped(fmt.Sprintf("%.0f", v)) }
func ratio(v float64) string  { return fmt.Sprintf("%.2f", v) }
func millis(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func spread(lowest, highest float64) string { return fmt.Sprintf("%.2f–%.2f", lowest, highest) }

func known(v *float64, format string) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf(format, *v)
}

func megabytes(bytes *int64) string {
	if bytes == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f MB", float64(*bytes)/1e6)
}

// grouped puts commas between thousands.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
