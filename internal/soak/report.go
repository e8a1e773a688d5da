package soak

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run has shown.
type Report struct {
	Seed       uint64
	History    *History
	Violations []Violation
	Took       time.Duration
	Paused     bool // whether endpoints could be paused
}

// shown is how many violations of a kind are written out.
const shown = 5

// Violated writes out the violations, the first few of each kind; it is empty when
// there are none.
func (r *Report) Violated() string {
	var b strings.Builder
	for _, kind := range ViolationKinds {
		n := 0
		for _, v := range r.Violations {
			if v.Kind != kind {
				continue
			}
			if n++; n <= shown {
				fmt.Fprintln(&b, v)
			}
		}
		if n > shown {
			fmt.Fprintf(&b, "%s: and %d more\n", kind, n-shown)
		}
	}
	return b.String()
}

// String is the summary, as a table.
func (r *Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	h := r.History
	fmt.Fprintf(w, "seed\t%d\n", r.Seed)
	fmt.Fprintf(w, "took\t%s, quiet %s after the last fault\n", r.Took.Round(100*time.Millisecond), h.Settling.Round(10*time.Millisecond))
	fmt.Fprintf(w, "publications\t%s\n", h.outcomes())
	fmt.Fprintf(w, "events, deliveries\t%d, %d\n", len(h.Events), len(h.Deliveries))
	unrecorded, again := h.repeats()
	fmt.Fprintf(w, "POSTs, attempts\t%d, %d; %d POSTs without an attempt, %d taken more than once\n",
		len(h.Posts), len(h.Attempts), unrecorded, again)
	fmt.Fprintf(w, "looks\t%d states, %d ledgers\n", len(h.Sightings), len(h.Ledgers))
	fmt.Fprintf(w, "faults\t%s\n", h.faults())
	if !r.Paused {
		fmt.Fprintf(w, "left out\tpause and resume: there is no such route\n")
	}
	if !h.anyOrdered() {
		fmt.Fprintf(w, "left out\torder by key: endpoints can't have it\n")
	}
	counts := map[ViolationKind]int{}
	for _, v := range r.Violations {
		counts[v.Kind]++
	}
	for _, kind := range ViolationKinds {
		fmt.Fprintf(w, "%s\t%d\n", kind, counts[kind])
	}
	_ = w.Flush() // into memory
	return b.String()
}

func (h *History) outcomes() string {
	counts := map[Outcome]int{}
	for _, p := range h.Publications {
		counts[p.Outcome]++
	}
	return fmt.Sprintf("%d committed, %d rolled back, %d unknown", counts[Committed], counts[RolledBack], counts[Unknown])
}

// repeats counts the POSTs that are no attempt on record, and the deliveries that
// the receiver took more than once.
func (h *History) repeats() (unrecorded, again int) {
	j := newJudge(h)
	j.counted()
	for key, d := range j.deliveries {
		rest, _ := pairUp(j.attempts[d.ID], j.posts[key])
		unrecorded += len(rest)
		taken := 0
		for _, p := range j.posts[key] {
			if p.accepted() {
				taken++
			}
		}
		if taken > 1 {
			again++
		}
	}
	return unrecorded, again
}

func (h *History) faults() string {
	counts := map[FaultKind]int{}
	for _, w := range h.Faults {
		counts[w.Kind]++
	}
	var parts []string
	for _, kinds := range [][]FaultKind{serviceFaults, receiverFaults} {
		for _, kind := range kinds {
			if counts[kind] > 0 {
				parts = append(parts, fmt.Sprintf("%s %d", kind, counts[kind]))
			}
		}
	}
	return strings.Join(parts, ", ")
}

func (h *History) anyOrdered() bool {
	for _, e := range h.Endpoints {
		if e.Ordered {
			return true
		}
	}
	return false
}
