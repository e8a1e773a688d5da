package dispatcher

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// The nodes' moments together: no two nearer than the rate allows.
func TestRateLimit_NodesShareTheSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	logger := slog.New(slog.DiscardHandler)
	nodes := []*rateLimiter{newRateLimiter(b.Pool, logger), newRateLimiter(b.Pool, logger), newRateLimiter(b.Pool, logger)}
	id := anEndpoint(1)
	const perSecond, gap = 50, 20 * time.Millisecond
	var all []time.Time
	for range 10 {
		for _, n := range nodes {
			s := &slots{}
			must(t, n.lease(id, s, perSecond, 5))
			if s.left != 5 || s.gap != gap {
				t.Fatalf("leased %+v", s)
			}
			for i := range s.left {
				all = append(all, s.next.Add(time.Duration(i)*gap))
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	for i := 1; i < len(all); i++ {
		// This process's clock reads the database's with the round trip's error.
		if d := all[i].Sub(all[i-1]); d < gap-15*time.Millisecond {
			t.Errorf("slots %d and %d are %s apart", i-1, i, d)
		}
	}
	if span := all[len(all)-1].Sub(all[0]); span < time.Duration(len(all)-1)*gap-15*time.Millisecond {
		t.Errorf("%d slots within %s", len(all), span)
	}
}

func TestRateLimit_OldSlotsAreNotUsed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &slots{next: now.Add(-time.Second), gap: 100 * time.Millisecond, left: 20}
	at, ok := s.take(now)
	if !ok || now.Sub(at) > slotLife {
		t.Errorf("a slot of %s ago, %t", now.Sub(at), ok)
	}
	s = &slots{next: now.Add(-time.Hour), gap: time.Millisecond, left: 20}
	if _, ok := s.take(now); ok || s.left != 0 {
		t.Error("slots of an hour ago are used")
	}
}

func TestRateLimit_TwoNodesKeepToOneEndpointsRate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	const rate, n = 40, 80
	b.create(t, subscriptions.Draft{URL: r.URL, RateLimitPerSecond: rate})
	b.exec(t, `INSERT INTO posthorn.outbox (event_type, payload) SELECT 'a', '{}' FROM generate_series(1, $1)`, n)
	b.run(t)
	b.run(t)
	settled(t, b.Pool)
	balanced(t, b.Pool)
	r.mu.Lock()
	defer r.mu.Unlock()
	// No slower machine makes this shorter.
	least := time.Duration(float64(n-1)/rate*float64(time.Second)) - slotLife
	if took := r.journal[n-1].at.Sub(r.journal[0].at); took < least {
		t.Errorf("%d requests within %s at %d a second", n, took, rate)
	}
}

func TestRateLimit_WaitingEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	l := newRateLimiter(b.Pool, slog.New(slog.DiscardHandler))
	id := anEndpoint(2)
	if !l.wait(id, 0.01, 1) {
		t.Fatal("the first goes at once")
	}
	waited := make(chan bool)
	go func() { waited <- l.wait(id, 0.01, 1) }()
	close(l.done)
	select {
	case got := <-waited:
		if got {
			t.Error("it got a slot a hundred seconds too early")
		}
	case <-time.After(patience):
		t.Error("it waits on")
	}
}
