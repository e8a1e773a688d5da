package dispatcher

import "time"

// BreakerState says whether an endpoint is sent to.
type BreakerState string

// The breaker's states. They are all nodes' alike.
const (
	// BreakerClosed: the endpoint is sent to.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen: its deliveries wait, without using attempts up.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen: one delivery is under way, to see whether it answers again.
	BreakerHalfOpen BreakerState = "half_open"
)

// Why a breaker is not closed.
const (
	reasonFailures   = "failures"
	reasonRetryAfter = "retry_after"
)

// BreakerPolicy says when an endpoint's breaker opens and for how long.
type BreakerPolicy struct {
	// Failures is how many attempts in a row must have failed for it to open.
	// Zero means 10; a negative number means that failures never open it.
	Failures int

	// Span is how long at least they must have gone on, so that a receiver's
	// restart is no outage. Zero means 5 s.
	Span time.Duration

	// FirstWait is how long it is open before the first probe. It doubles with
	// each probe that fails, up to MaxWait. Zero means 5 s.
	FirstWait time.Duration

	// MaxWait is the longest wait between probes. Zero means 1 min.
	MaxWait time.Duration

	// ProbeTime is how long a probe may be under way before another may be sent,
	// should its node have died. Zero means AttemptTimeout + 5 s.
	ProbeTime time.Duration
}

func (p BreakerPolicy) withDefaults(attemptTimeout time.Duration) BreakerPolicy {
	orDefault(&p.Failures, 10)
	orDefault(&p.Span, 5*time.Second)
	orDefault(&p.FirstWait, 5*time.Second)
	orDefault(&p.MaxWait, time.Minute)
	orDefault(&p.ProbeTime, attemptTimeout+5*time.Second)
	return p
}

// wait is how long the breaker stays open when it opens for the n-th time in a row.
func (p BreakerPolicy) wait(n int) time.Duration {
	wait := p.FirstWait
	for ; n > 1 && wait < p.MaxWait; n-- {
		wait *= 2
	}
	return min(wait, p.MaxWait)
}

// DisablePolicy says when an endpoint that only fails is disabled.
type DisablePolicy struct {
	// After is how long every attempt must have failed. Zero means 120 h; negative
	// means never.
	After time.Duration

	// Attempts is how many that must have been at least. Zero means 10.
	Attempts int
}

func (p DisablePolicy) withDefaults() DisablePolicy {
	orDefault(&p.After, 120*time.Hour)
	orDefault(&p.Attempts, 10)
	return p
}

// due reports whether an endpoint of this health is to be disabled.
func (p DisablePolicy) due(h health) bool {
	return p.After > 0 && h.failures >= p.Attempts && !h.failingSince.IsZero() &&
		h.lastFailure.Sub(h.failingSince) >= p.After
}

// health is what is known of an endpoint's receiver. The zero value is that of one
// of which nothing bad is known. All times are the database's.
type health struct {
	epoch        int   // the endpoint's HealthEpoch that it is of
	version      int64 // counts the row's changes; 0: there is no row
	failures     int   // failed attempts since the last success
	failingSince time.Time
	breaker      BreakerState // "" means closed
	opened       int          // times in a row that failures opened it
	until        time.Time    // open: when a probe may go; half open: when its time is up
	reason       string
	lastSuccess  time.Time
	lastFailure  time.Time
}

func (h health) closed() bool { return h.breaker == "" || h.breaker == BreakerClosed }

// plain reports whether another success would change nothing that matters.
func (h health) plain() bool { return h.closed() && h.failures == 0 }

// gate is what a health means for the next delivery.
type gate int

const (
	gateOpen   gate = iota // send
	gateProbe              // one may go, for whoever claims the probe
	gateClosed             // wait until health.until
)

func (h health) gate(now time.Time) gate {
	switch {
	case h.closed():
		return gateOpen
	case now.Before(h.until):
		return gateClosed
	default:
		return gateProbe
	}
}

// observation is an attempt's result as far as the endpoint's health goes.
type observation struct {
	began      time.Time // the attempt, which a receiver that hangs makes long
	at         time.Time // its end
	epoch      int       // of the endpoint when the attempt was made
	delivered  bool
	retryAfter time.Duration // zero: the receiver asked for none
	probe      bool
}

// after gives the health after an attempt. It is a pure function.
//
//	           failures, long enough                 its wait is over,
//	┌────────┐ or Retry-After          ┌──────┐      a node claims the probe  ┌───────────┐
//	│ closed │────────────────────────▶│ open │──────────────────────────────▶│ half open │
//	└────────┘                         └──────┘◀──────────────────────────────└───────────┘
//	    ▲  a success                       │            the probe fails             │
//	    └──────────────────────────────────┴────────────────────────────────────────┘
func (h health) after(o observation, p BreakerPolicy) health {
	switch {
	case o.epoch < h.epoch:
		return h // of a URL that is not the endpoint's any more, or of before its resumption
	case o.epoch > h.epoch:
		h = health{epoch: o.epoch, version: h.version}
	}
	if o.delivered {
		return h.afterSuccess(o)
	}
	return h.afterFailure(o, p)
}

func (h health) afterSuccess(o observation) health {
	h.lastSuccess = later(h.lastSuccess, o.at)
	h.failures, h.failingSince = 0, time.Time{}
	// Requests that were under way when the receiver asked for a pause may succeed
	// still; it has asked all the same.
	if !h.closed() && h.reason == reasonRetryAfter && !o.probe && o.at.Before(h.until) {
		return h
	}
	h.breaker, h.opened, h.until, h.reason = BreakerClosed, 0, time.Time{}, ""
	return h
}

func (h health) afterFailure(o observation, p BreakerPolicy) health {
	h.failures++
	h.lastFailure = later(h.lastFailure, o.at)
	if h.failingSince.IsZero() {
		h.failingSince = o.began
	}
	switch {
	case o.retryAfter > 0:
		h.breaker, h.reason = BreakerOpen, reasonRetryAfter
		h.until = later(h.until, o.at.Add(o.retryAfter))
	case h.breaker == BreakerHalfOpen && o.probe,
		h.closed() && p.Failures > 0 && h.failures >= p.Failures && o.at.Sub(h.failingSince) >= p.Span:
		h.opened++
		h.breaker, h.reason = BreakerOpen, reasonFailures
		h.until = o.at.Add(p.wait(h.opened))
	}
	return h
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
