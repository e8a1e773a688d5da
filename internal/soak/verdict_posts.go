package soak

import (
	"fmt"
	"strings"
	"time"
)

const (
	// early and late are how far the clock of an attempt and that of the receiver may
	// be apart: a request is seen a moment after it began, and on a busy machine even
	// a moment after its sender has given up.
	early = 50 * time.Millisecond
	late  = 2 * time.Second
	// recording is how long a result may be on its way to the database.
	recording = 2 * time.Second
	// aftermath is how long after a fault two processes may still hold the same
	// delivery: until one has noticed that its session or its lease is gone.
	aftermath = 6 * time.Second
)

// matched pairs the attempts on record with the POSTs received, both ways: an
// attempt with an answer is a POST that was given it, and a POST without an
// attempt is one that a fault explains.
func (j *judge) matched() {
	for key, d := range j.deliveries {
		attempts, posts := j.attempts[d.ID], j.posts[key]
		unrecorded, unseen := pairUp(attempts, posts)
		for _, a := range unseen {
			j.add(Unseen, "delivery %s (event %s, endpoint %s): attempt %d at %s has the answer %d, which the receiver did not give (%d POSTs)",
				d.ID, d.EventID, d.Endpoint, a.Number, clock(a.StartedAt), a.Status, len(posts))
		}
		for _, p := range j.unexplained(unrecorded) {
			j.add(Unrecorded, "delivery %s (event %s, endpoint %s): POST %d at %s, answered %d, is no attempt, and no fault explains it: %s",
				d.ID, d.EventID, d.Endpoint, p.N, clock(p.At), p.Status, story(attempts, posts))
		}
	}
}

// story tells what happened to a delivery, for the message.
func story(attempts []Attempt, posts []Post) string {
	var b strings.Builder
	for _, a := range attempts {
		fmt.Fprintf(&b, "attempt %d at %s for %s → %d, ", a.Number, clock(a.StartedAt), a.Duration.Round(time.Millisecond), a.Status)
	}
	for _, p := range posts {
		fmt.Fprintf(&b, "POST %d at %s → %d, ", p.N, clock(p.At), p.Status)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// pairUp finds for each attempt its POST, by time and answer: the first that is
// left. It returns the POSTs without an attempt, and the attempts with an answer
// but without a POST.
func pairUp(attempts []Attempt, posts []Post) (unrecorded []Post, unseen []Attempt) {
	taken := make([]bool, len(posts))
	// Those with an answer choose first: the others fit more.
	for _, answered := range []bool{true, false} {
		for _, a := range attempts {
			if (a.Status != 0) != answered {
				continue
			}
			if i := firstOf(a, posts, taken); i >= 0 {
				taken[i] = true
			} else if answered {
				unseen = append(unseen, a)
			}
		}
	}
	for i, p := range posts {
		if !taken[i] {
			unrecorded = append(unrecorded, p)
		}
	}
	return unrecorded, unseen
}

func firstOf(a Attempt, posts []Post, taken []bool) int {
	for i, p := range posts {
		fits := !p.At.Before(a.StartedAt.Add(-early)) && !p.At.After(a.StartedAt.Add(a.Duration+late))
		if !taken[i] && fits && (a.Status == 0 || a.Status == p.Status) {
			return i
		}
	}
	return -1
}

// unexplained returns the POSTs of one delivery, in the order of arrival, whose
// results no fault can have swallowed. A fault swallows at most one result of a
// delivery for each node it is at.
func (j *judge) unexplained(posts []Post) []Post {
	left := make([]int, len(j.Faults))
	for i, f := range j.Faults {
		left[i] = f.Kind.swallows(j.Rules.Nodes)
	}
	var rest []Post
	for _, p := range posts {
		best := -1
		for i, f := range j.Faults {
			// Of those that fit the one that ends first: the others may be needed later.
			if left[i] > 0 && f.reaches(p.At, j.Rules) && (best < 0 || f.End.Before(j.Faults[best].End)) {
				best = i
			}
		}
		if best < 0 {
			rest = append(rest, p)
			continue
		}
		left[best]--
	}
	return rest
}

// reaches says whether the result of a POST received then can be lost by the fault.
func (w Window) reaches(at time.Time, r Rules) bool {
	after := aftermath
	if w.Kind == FaultKill {
		after = late // the dead send nothing; seen late at most
	}
	return at.After(w.Start.Add(-r.AttemptTimeout-recording)) && at.Before(w.End.Add(after))
}
