package dispatcher

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// 410: nothing more, ever. A person may know better, and resume it.
func TestGone_DisablesTheEndpointAndHoldsEverything(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(410))
	e, _ := b.endpoint(t, r.URL)
	b.run(t)
	b.publish(t, outbox.Event{})
	eventually(t, b.Pool, "it is disabled", `SELECT status = 'disabled' FROM posthorn.endpoints WHERE id = $1`, e.ID)
	for range 5 {
		b.publish(t, outbox.Event{})
	}
	eventually(t, b.Pool, "all are held", `SELECT count(*) = 6 FROM posthorn.deliveries WHERE status = 'held'
		AND job_id IS NULL AND next_attempt_at IS NULL AND finished_at IS NULL`)
	if n := r.posts(); n != 1 {
		t.Errorf("%d POSTs, want the one that was answered with 410", n)
	}
	got, err := b.store.Get(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	if want := "the receiver answered 410 Gone: the endpoint is disabled until it is resumed"; got.DisabledReason != want {
		t.Errorf("the reason %q", got.DisabledReason)
	}
	if s := value[string](t, b.Pool, `SELECT concat_ws(' ', attempts, last_response_status, last_error_kind) FROM posthorn.deliveries ORDER BY id LIMIT 1`); s != "1 410 http_status" {
		t.Errorf("the log of the first: %s", s)
	}
	balanced(t, b.Pool)
	r.become(nil)
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	allSettled(t, b)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 6 {
		t.Errorf("%+v", l)
	}
}

// Retry-After holds back the endpoint, not the one delivery.
func TestRetryAfter_HoldsTheEndpointBack(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var asked atomic.Int64 // when the pause was asked for, Unix nanoseconds
			r := newReceiver(t, nil)
			r.become(func(w http.ResponseWriter, _ *http.Request) {
				if asked.CompareAndSwap(0, time.Now().UnixNano()) {
					w.Header().Set("Retry-After", "2")
					w.WriteHeader(code)
				}
			})
			other := newReceiver(t, nil)
			e, _ := b.create(t, subscriptions.Draft{URL: r.URL, MaxInFlight: 1})
			b.endpoint(t, other.URL)
			b.run(t)
			b.publish(t, outbox.Event{})
			r.next(t)
			eventually(t, b.Pool, "the pause is known", `SELECT EXISTS (SELECT FROM posthorn.endpoint_health
				WHERE endpoint_id = $1 AND breaker = 'open' AND reason = 'retry_after')`, e.ID)
			for range 10 {
				b.publish(t, outbox.Event{})
			}
			for range 11 {
				other.next(t)
			}
			settled(t, b.Pool)
			r.mu.Lock()
			defer r.mu.Unlock()
			for i, rec := range r.journal[1:] {
				if since := rec.at.Sub(time.Unix(0, asked.Load())); since < 2*time.Second {
					t.Errorf("POST %d came %s after a pause of 2 s was asked for", i+2, since)
				}
			}
			if n := len(r.journal); n != 12 {
				t.Errorf("%d POSTs, want 12", n)
			}
			balanced(t, b.Pool)
		})
	}
}
