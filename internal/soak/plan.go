package soak

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Plan is what a run does, all of it drawn from the seed.
type Plan struct {
	Seed      uint64
	Endpoints []Endpoint    // without ids, which Posthorn gives
	Service   []Fault       // by At
	Receivers []Fault       // by At; two never overlap
	Producers [][]Purchase  // what each producer does, one after the other
	Span      time.Duration // from the beginning to the end of the last fault
}

// Fault is one thing that breaks, and when.
type Fault struct {
	Kind FaultKind
	At   time.Duration // since the beginning
	For  time.Duration // how long it lasts, where it lasts
	// Draw decides what else there is to decide: which node, which endpoint, how much.
	Draw uint64
}

// pick chooses among n, the same n the same way.
func (f Fault) pick(n int) int { return int(f.Draw % uint64(n)) }

// Purchase is one transaction of a producer.
type Purchase struct {
	Wait     time.Duration // before it
	Tenant   string
	Steps    []Step
	RollBack bool
	Think    time.Duration // before each step
	HangUp   bool          // at the commit, without waiting for its answer
}

// Step is one publication in a transaction, with its business row.
type Step struct {
	Seq            int64
	EventType      string
	OrderingKey    string
	IdempotencyKey string
	Padding        int       // bytes
	Insert         bool      // INSERT INTO posthorn.outbox instead of posthorn.publish
	Savepoint      savepoint // around it
}

type savepoint int

const (
	noSavepoint savepoint = iota
	savepointReleased
	savepointRolledBack
)

// pace is what tells a short run from a long one.
type pace struct {
	duration  time.Duration // how long there must be faults; 0: each kind once
	lease     time.Duration
	gap       span          // between faults
	badFor    span          // how long receivers are bad
	wait      time.Duration // between a producer's transactions, on average
	nodes     int
	producers int
}

// span is a range of durations.
type span struct{ from, to time.Duration }

func (s span) draw(r *rand.Rand) time.Duration {
	return s.from + time.Duration(r.Int64N(int64(s.to-s.from)))
}

var (
	tenants    = []string{"soak_a", "soak_b", "soak_c"}
	eventTypes = []string{"order.paid", "order.created", "order.refund.made", "payment.captured", "user.deleted"}
)

// endpoints: each tenant has one for everything; two have one that takes its
// events in order.
var endpoints = []Endpoint{
	{Tenant: "soak_a", Pattern: "*"},
	{Tenant: "soak_a", Pattern: "*", Ordered: true},
	{Tenant: "soak_a", Pattern: "order.*"},
	{Tenant: "soak_b", Pattern: "*"},
	{Tenant: "soak_b", Pattern: "*", Ordered: true},
	{Tenant: "soak_b", Pattern: "payment.captured"},
	{Tenant: "soak_c", Pattern: "*"},
}

// newPlan draws the plan. Every part has a generator of its own, so that one can
// change without the others.
func newPlan(seed uint64, p pace) *Plan {
	plan := &Plan{Seed: seed, Endpoints: endpoints, Span: p.duration}
	plan.Service = drawFaults(rand.New(rand.NewPCG(seed, 1)), serviceFaults, p)
	plan.Receivers = drawFaults(rand.New(rand.NewPCG(seed, 2)), receiverFaults, p)
	for _, f := range append(plan.Service[:len(plan.Service):len(plan.Service)], plan.Receivers...) {
		plan.Span = max(plan.Span, f.At+f.For)
	}
	seq := int64(0)
	for i := range p.producers {
		r := rand.New(rand.NewPCG(seed, 100+uint64(i)))
		plan.Producers = append(plan.Producers, drawPurchases(r, int(plan.Span/p.wait), p.wait, &seq))
	}
	return plan
}

// drawFaults deals the kinds in random order, again and again until the time is
// filled: every kind comes once before any comes twice.
func drawFaults(r *rand.Rand, kinds []FaultKind, p pace) []Fault {
	var faults []Fault
	at := p.gap.draw(r)
	for first := true; first || at < p.duration; first = false {
		for _, i := range r.Perm(len(kinds)) {
			if !first && at >= p.duration {
				break
			}
			f := Fault{Kind: kinds[i], At: at, Draw: r.Uint64()}
			f.For = lasting(r, f.Kind, p)
			faults = append(faults, f)
			wait := f.For
			// Some faults meet: the next one comes while this one lasts. While a process
			// stands still there is always time for others.
			if wide := f.Kind == FaultStop; wide || f.Kind.swallows(1) > 0 && r.IntN(4) == 0 {
				wait = time.Duration(r.Float64() * float64(wait) / 2)
			}
			at += wait + p.gap.draw(r)
		}
	}
	return faults
}

// lasting is how long a fault lasts.
func lasting(r *rand.Rand, kind FaultKind, p pace) time.Duration {
	ms := func(from, to int) time.Duration {
		return span{time.Duration(from), time.Duration(to)}.draw(r) * time.Millisecond
	}
	switch kind {
	case FaultKill, FaultDatabase:
		return ms(100, 1500) // and then the start
	case FaultRolling:
		return time.Duration(p.nodes) * time.Second // about; it takes what it takes
	case FaultStop:
		return p.lease + ms(1000, 2500)
	case FaultTerminate:
		return 0
	case FaultCut:
		return ms(0, 800)
	case FaultFreeze, FaultHalfOpen, FaultDelay:
		return ms(800, 2500)
	}
	return p.badFor.draw(r)
}

// drawPurchases draws a producer's transactions. seq numbers the publications of
// all producers.
func drawPurchases(r *rand.Rand, n int, wait time.Duration, seq *int64) []Purchase {
	purchases := make([]Purchase, n)
	for i := range purchases {
		p := Purchase{
			Wait:     time.Duration(2 * r.Float64() * float64(wait)),
			Tenant:   tenants[r.IntN(len(tenants))],
			RollBack: r.IntN(5) == 0,
			Think:    time.Duration(r.IntN(15)) * time.Millisecond,
			HangUp:   r.IntN(30) == 0,
		}
		// One key in a transaction: two would let transactions wait for each other.
		key := ""
		if r.IntN(2) == 0 {
			key = fmt.Sprintf("order-%d", r.IntN(6))
		}
		for range 1 + max(0, r.IntN(5)-2) { // most have one
			*seq++
			p.Steps = append(p.Steps, drawStep(r, i, *seq, key))
		}
		purchases[i] = p
	}
	return purchases
}

func drawStep(r *rand.Rand, purchase int, seq int64, key string) Step {
	s := Step{Seq: seq, EventType: eventTypes[r.IntN(len(eventTypes))], Insert: r.IntN(2) == 0, Padding: r.IntN(300)}
	if key != "" && r.IntN(5) > 0 {
		s.OrderingKey = key
	}
	switch r.IntN(10) {
	case 0, 1: // often one that another producer has used, or is using
		s.IdempotencyKey = fmt.Sprintf("key-%d-%d", purchase/10, r.IntN(6))
	case 2:
		s.Padding = 40 << 10 // more than is kept in memory
	}
	switch r.IntN(10) {
	case 0:
		s.Savepoint = savepointRolledBack
	case 1:
		s.Savepoint = savepointReleased
	}
	return s
}
