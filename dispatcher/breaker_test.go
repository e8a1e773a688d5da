package dispatcher

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// aMoment is a time to count from.
var aMoment = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func after(s float64) time.Time { return aMoment.Add(time.Duration(s * float64(time.Second))) }

var somePolicy = BreakerPolicy{Failures: 3, Span: 2 * time.Second, FirstWait: 10 * time.Second, MaxWait: time.Minute, ProbeTime: 20 * time.Second}

// story applies one observation after the other.
func story(h health, p BreakerPolicy, observations ...observation) health {
	for _, o := range observations {
		h = h.after(o, p)
	}
	return h
}

func failed(s float64) observation      { return observation{began: after(s), at: after(s)} }
func hung(from, to float64) observation { return observation{began: after(from), at: after(to)} }
func succeeded(s float64) observation   { return observation{at: after(s), delivered: true} }
func probe(o observation) observation   { o.probe = true; return o }
func wantsPause(s, pause float64) observation {
	return observation{began: after(s), at: after(s), retryAfter: time.Duration(pause * float64(time.Second))}
}

func TestBreaker_OpensAfterFailuresInARowThatLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		observations []observation
		open         bool
	}{
		{"none", nil, false},
		{"too few, however long", []observation{failed(0), failed(100)}, false},
		{"enough, in a moment", []observation{failed(0), failed(.1), failed(.2), failed(.3)}, false},
		{"enough, for long enough", []observation{failed(0), failed(1), failed(2)}, true},
		{"with a success in between", []observation{failed(0), failed(1), succeeded(1.5), failed(2), failed(3)}, false},
		{"after a success", []observation{failed(0), succeeded(1), failed(2), failed(3), failed(4)}, true},
		{"timeouts at once, of requests that hung for long", []observation{hung(0, 15), hung(0, 15), hung(0, 15)}, true},
		{"closed by a request that was under way still", []observation{failed(0), failed(1), failed(2), succeeded(2.1)}, false},
	} {
		if h := story(health{}, somePolicy, c.observations...); h.closed() == c.open {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
	never := somePolicy
	never.Failures = -1
	if h := story(health{}, never, failed(0), failed(10), failed(20), failed(30)); !h.closed() {
		t.Errorf("switched off, it opens: %+v", h)
	}
}

func TestBreaker_WaitsTwiceAsLongAfterEachProbeThatFails(t *testing.T) {
	t.Parallel()
	h := story(health{}, somePolicy, failed(0), failed(1), failed(2))
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
		now := h.until
		if wait := h.until.Sub(h.lastFailure); wait != want || h.breaker != BreakerOpen {
			t.Errorf("%s after a failure of a probe: want %s, %+v", wait, want, h)
		}
		if g := h.gate(now.Add(-1)); g != gateClosed {
			t.Errorf("before its time: gate %d", g)
		}
		if g := h.gate(now); g != gateProbe {
			t.Errorf("when its time has come: gate %d", g)
		}
		h.breaker, h.until = BreakerHalfOpen, now.Add(somePolicy.ProbeTime) // as a node claims it
		if g := h.gate(now.Add(time.Second)); g != gateClosed {
			t.Errorf("while a probe is under way: gate %d", g)
		}
		before := h
		if h = h.after(observation{at: now}, somePolicy); h.breaker != BreakerHalfOpen || h.opened != before.opened {
			t.Errorf("a failure that is not the probe's: %+v", h)
		}
		h = h.after(probe(observation{at: now.Add(time.Second)}), somePolicy)
	}
	h.breaker = BreakerHalfOpen
	h = h.after(probe(observation{at: h.until, delivered: true}), somePolicy)
	if !h.plain() || h.opened != 0 || h.gate(h.lastSuccess) != gateOpen {
		t.Errorf("after a probe that succeeds: %+v", h)
	}
}

func TestBreaker_HeedsRetryAfter(t *testing.T) {
	t.Parallel()
	h := story(health{}, somePolicy, wantsPause(0, 30))
	if h.gate(after(29)) != gateClosed || h.gate(after(30)) != gateProbe || h.reason != reasonRetryAfter {
		t.Errorf("%+v", h)
	}
	// Of the requests under way as it was asked for, one succeeds and one asks for less.
	h = story(h, somePolicy, succeeded(1), wantsPause(2, 5))
	if h.gate(after(29)) != gateClosed {
		t.Errorf("the pause ends early: %+v", h)
	}
	if longer := story(h, somePolicy, wantsPause(3, 60)); !longer.until.Equal(after(63)) {
		t.Errorf("a longer pause: %+v", longer)
	}
	h.breaker = BreakerHalfOpen
	if h = h.after(probe(succeeded(31)), somePolicy); !h.plain() {
		t.Errorf("after the probe: %+v", h)
	}
}

func TestBreaker_ForgetsWhatIsOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	open := story(health{epoch: 3, version: 9}, somePolicy, observation{began: after(0), at: after(0), epoch: 3}, observation{at: after(1), epoch: 3}, observation{at: after(2), epoch: 3})
	if open.closed() {
		t.Fatal("it is not open")
	}
	if h := open.after(observation{at: after(3), epoch: 2, delivered: true}, somePolicy); h != open {
		t.Errorf("a success of the old URL: %+v", h)
	}
	if h := open.after(observation{began: after(3), at: after(3), epoch: 4}, somePolicy); !h.closed() || h.failures != 1 || h.epoch != 4 || h.version != 9 {
		t.Errorf("the first failure of the new URL: %+v", h)
	}
}

func TestDisable_IsDueWhenNothingElseHappenedForLong(t *testing.T) {
	t.Parallel()
	p := DisablePolicy{After: time.Hour, Attempts: 3}
	for _, c := range []struct {
		name         string
		observations []observation
		due          bool
	}{
		{"long, with too few attempts", []observation{failed(0), failed(3600)}, false},
		{"many, not for long", []observation{failed(0), failed(1), failed(3599)}, false},
		{"long and many", []observation{failed(0), failed(1), failed(3600)}, true},
		{"with a success", []observation{failed(0), failed(1), succeeded(2), failed(3), failed(4), failed(3601)}, false},
	} {
		if got := p.due(story(health{}, somePolicy, c.observations...)); got != c.due {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	never := DisablePolicy{After: -1, Attempts: 3}
	if never.due(story(health{}, somePolicy, failed(0), failed(1), failed(1e9))) {
		t.Error("switched off, it is due")
	}
}

// Whatever happens, in whatever order: the invariants of the state.
func TestBreaker_IsAlwaysInOneOfItsStates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, now := health{}, aMoment
		for range rapid.IntRange(1, 60).Draw(t, "observations") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "ms")) * time.Millisecond)
			if h.gate(now) == gateProbe && rapid.Bool().Draw(t, "claim") {
				h.breaker, h.until = BreakerHalfOpen, now.Add(somePolicy.ProbeTime)
			}
			o := observation{began: now, at: now, epoch: h.epoch + rapid.IntRange(-1, 1).Draw(t, "epoch"), delivered: rapid.Bool().Draw(t, "delivered")}
			if o.epoch < 0 {
				o.epoch = 0
			}
			if !o.delivered && rapid.IntRange(0, 5).Draw(t, "pause") == 0 {
				o.retryAfter = time.Duration(rapid.IntRange(1, 86400).Draw(t, "retry after")) * time.Second
			}
			o.probe = h.breaker == BreakerHalfOpen && rapid.Bool().Draw(t, "probe")
			before := h
			h = h.after(o, somePolicy)
			switch {
			case h.closed() != h.until.IsZero(), h.closed() != (h.reason == ""):
				t.Fatalf("%+v", h)
			case (h.failures == 0) != h.failingSince.IsZero():
				t.Fatalf("failures without a beginning, or the reverse: %+v", h)
			case h.epoch < before.epoch, h.opened < 0:
				t.Fatalf("%+v after %+v", h, before)
			case h.reason == reasonFailures && before.reason != reasonFailures && h.until.Sub(now) > somePolicy.MaxWait:
				t.Fatalf("it waits longer than the longest wait: %+v", h)
			case o.delivered && o.epoch == before.epoch && h.failures != 0:
				t.Fatalf("a success leaves failures: %+v", h)
			}
		}
	})
}
