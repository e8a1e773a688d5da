package soak

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// ViolationKind names a promise that was broken.
type ViolationKind string

// The violations.
const (
	Lost           ViolationKind = "lost"                    // committed, matched, never taken by the receiver
	RolledBackSent ViolationKind = "rolled back but sent"    // a POST of what was never committed
	Miscounted     ViolationKind = "deliveries miscounted"   // deliveries are not events × endpoints
	Unaccounted    ViolationKind = "unaccounted"             // GET /v1/ledger says so
	Inversion      ViolationKind = "inversion"               // an ordering key's events in another order than their commits
	Unrecorded     ViolationKind = "unrecorded POST"         // more POSTs than attempts, and no fault to explain it
	Unseen         ViolationKind = "attempt without a POST"  // an answer on record that the receiver never gave
	Changed        ViolationKind = "terminal state changed"  // delivered, dead or cancelled, and later something else
	Receded        ViolationKind = "attempts decreased"      // a delivery's count went down
	Inconsistent   ViolationKind = "record inconsistent"     // a delivery and its attempts disagree
	Altered        ViolationKind = "not genuine"             // a bad signature, or another body than published
	Books          ViolationKind = "producer's record wrong" // a commit that is gone, a rollback that stayed
	Restless       ViolationKind = "not settled"             // unfinished work long after the last fault
	Complained     ViolationKind = "process complained"      // a panic, a data race, an end that nobody asked for
)

// ViolationKinds are all of them, in the order of the report.
var ViolationKinds = []ViolationKind{
	Lost, RolledBackSent, Miscounted, Unaccounted, Inversion, Unrecorded, Unseen,
	Changed, Receded, Inconsistent, Altered, Books, Restless, Complained,
}

// Violation is a broken promise with the ids that show it.
type Violation struct {
	Kind    ViolationKind
	Message string
}

// String implements fmt.Stringer.
func (v Violation) String() string { return string(v.Kind) + ": " + v.Message }

// Judge compares the parts of the history with each other and returns every
// disagreement. It does no I/O.
func Judge(h *History) []Violation {
	j := newJudge(h)
	j.books()
	j.sent()
	j.counted()
	j.lost()
	j.accounted()
	j.ordered()
	j.matched()
	j.consistent()
	j.steady()
	if h.Unsettled != "" {
		j.add(Restless, "%s", h.Unsettled)
	}
	for _, c := range h.Complaints {
		j.add(Complained, "%s", c)
	}
	return j.found
}

// pair is an event at an endpoint.
type pair struct{ event, endpoint string }

// judge has the history by the keys that the checks need.
type judge struct {
	*History
	bySeq      map[int64]*Publication
	events     map[string]*Publication // by id: the publication that the event is of
	deliveries map[pair]*Delivery
	attempts   map[string][]Attempt // by delivery, by number
	posts      map[pair][]Post      // in the order of arrival
	found      []Violation
}

func newJudge(h *History) *judge {
	j := &judge{History: h, bySeq: map[int64]*Publication{}, events: map[string]*Publication{},
		deliveries: map[pair]*Delivery{}, attempts: map[string][]Attempt{}, posts: map[pair][]Post{}}
	for i := range h.Publications {
		j.bySeq[h.Publications[i].Seq] = &h.Publications[i]
	}
	for _, p := range h.Posts {
		key := pair{p.EventID, p.Endpoint}
		j.posts[key] = append(j.posts[key], p)
	}
	for _, a := range h.Attempts {
		j.attempts[a.Delivery] = append(j.attempts[a.Delivery], a)
	}
	for _, list := range j.attempts {
		slices.SortFunc(list, func(a, b Attempt) int { return cmp.Compare(a.Number, b.Number) })
	}
	return j
}

func (j *judge) add(kind ViolationKind, format string, args ...any) {
	j.found = append(j.found, Violation{kind, fmt.Sprintf(format, args...)})
}

// books holds the producers' record, the business table and the outbox against
// each other, and finds what each event is of.
func (j *judge) books() {
	announced := map[string]bool{} // event ids that a statement in the books returned
	keys := map[string]bool{}      // idempotency keys whose event is known
	for _, p := range j.Publications {
		switch {
		case p.Outcome == Committed && !p.InBooks:
			j.add(Books, "publication %d was committed and its business row is gone", p.Seq)
		case p.Outcome == RolledBack && p.InBooks:
			j.add(Books, "publication %d was rolled back and its business row is there", p.Seq)
		}
		if p.InBooks && p.EventID != "" {
			announced[p.EventID] = true
			keys[p.Tenant+"\x00"+p.IdempotencyKey] = true
		}
	}
	for _, e := range j.Events {
		p := j.bySeq[e.Seq]
		switch {
		case p == nil:
			j.add(Books, "event %s in the outbox has the number %d, which nobody published", e.ID, e.Seq)
		case !p.InBooks || p.EventID != e.ID:
			j.add(Books, "event %s in the outbox is of publication %d, whose business row says %q", e.ID, e.Seq, p.EventID)
		case j.events[e.ID] != nil:
			j.add(Books, "event %s is in the outbox twice", e.ID)
		default:
			j.events[e.ID] = p
		}
	}
	for _, id := range slices.Sorted(maps.Keys(announced)) {
		if j.events[id] == nil {
			j.add(Books, "event %s was committed and is not in the outbox", id)
		}
	}
	for _, p := range j.Publications {
		if p.InBooks && p.EventID == "" && !keys[p.Tenant+"\x00"+p.IdempotencyKey] {
			j.add(Books, "publication %d was left out as a repeat of the idempotency key %q, which has no event", p.Seq, p.IdempotencyKey)
		}
	}
}

// accounted looks at the answers of the ledger.
func (j *judge) accounted() {
	for _, l := range j.Ledgers {
		if l.Unaccounted != 0 {
			j.add(Unaccounted, "%d at %s (%d events, %d deliveries expected)", l.Unaccounted, clock(l.At), l.Events, l.Expected)
		}
		if l.Final && l.Events != int64(len(j.events)) {
			j.add(Miscounted, "the ledger has %d events, %d were committed", l.Events, len(j.events))
		}
	}
}
