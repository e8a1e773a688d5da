package dispatcher

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// touchy is a breaker that opens at once and probes often.
func touchy(c *Config) {
	c.Breaker = BreakerPolicy{Failures: 3, Span: time.Nanosecond, FirstWait: 100 * time.Millisecond, MaxWait: 100 * time.Millisecond}
}

func TestOutage_WaitingUsesNoAttemptsUpAndEndsWithTheFirstSuccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broken, fine := newReceiver(t, status(500)), newReceiver(t, nil)
	ill, _ := b.endpoint(t, broken.URL)
	b.endpoint(t, fine.URL)
	told := newReceiver(t, nil)
	b.endpoint(t, told.URL, "posthorn.*")
	// Enough attempts that none is exhausted by the probes.
	long := func(c *Config) { c.Retry.Schedule = slicesOf(1000, time.Millisecond) }
	b.run(t, touchy, long)
	b.run(t, touchy, long)
	ids := map[string]bool{}
	for range 100 {
		ids[b.publish(t, outbox.Event{}).String()] = true
	}
	eventually(t, b.Pool, "the breaker has been open for some probes", `SELECT EXISTS (
		SELECT FROM posthorn.endpoint_health WHERE endpoint_id = $1 AND opened >= 3)`, ill.ID)
	for range ids {
		fine.next(t)
	}
	eventually(t, b.Pool, "all of the broken one's wait in its backlog", `SELECT count(*) >= 99 FROM posthorn.deliveries d
		JOIN posthorn.backlogs b ON b.job_id = d.job_id WHERE d.endpoint_id = $1 AND d.status IN ('pending', 'retrying')`, ill.ID)
	h, err := NewLog(b.Pool).Health(t.Context(), []subscriptions.EndpointID{ill.ID})
	must(t, err)
	if got := h[ill.ID]; got.Breaker == "closed" || got.Reason != reasonFailures || got.OpenUntil == nil || got.FailingSince == nil {
		t.Errorf("the log shows %+v", got)
	}
	// While it is open there are probes, one at a time, and nothing else.
	before := broken.posts()
	opened := value[int](t, b.Pool, `SELECT opened FROM posthorn.endpoint_health WHERE endpoint_id = $1`, ill.ID)
	eventually(t, b.Pool, "five more probes", `SELECT opened >= $2 + 5 FROM posthorn.endpoint_health WHERE endpoint_id = $1`, ill.ID, opened)
	probes := value[int](t, b.Pool, `SELECT opened FROM posthorn.endpoint_health WHERE endpoint_id = $1`, ill.ID) - opened
	if posts := broken.posts() - before; posts > probes+2 { // one may have been under way at each look
		t.Errorf("%d POSTs in %d probes", posts, probes)
	}
	balanced(t, b.Pool)

	broken.become(nil)
	settled(t, b.Pool)
	attempts := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts a JOIN posthorn.deliveries d ON d.id = a.delivery_id WHERE d.endpoint_id = $1`, ill.ID)
	if posts := broken.posts(); posts != attempts {
		t.Errorf("%d POSTs, %d attempts recorded", posts, attempts)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 201 {
		t.Errorf("%+v", l)
	}
	var event struct {
		Type string
		Data endpointRecovered
	}
	must(t, json.Unmarshal([]byte(told.next(t).body), &event))
	if event.Type != eventEndpointRecovered || event.Data.EndpointID != ill.ID.String() || event.Data.Failures < 3 {
		t.Errorf("told of %+v", event)
	}
	eventually(t, b.Pool, "nothing is left of the backlog", `SELECT NOT EXISTS (SELECT FROM posthorn.backlogs)`)
}

func slicesOf(n int, d time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

// A person who asks for a retry wants to know now whether it works again.
func TestOutage_ARetryByHandProbesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	b.run(t, func(c *Config) {
		c.Breaker = BreakerPolicy{Failures: 1, Span: time.Nanosecond, FirstWait: time.Hour, MaxWait: time.Hour}
		c.Retry.Schedule = slicesOf(3, time.Millisecond)
	})
	b.publish(t, outbox.Event{})
	eventually(t, b.Pool, "the breaker is open", `SELECT EXISTS (SELECT FROM posthorn.endpoint_health WHERE breaker = 'open')`)
	eventually(t, b.Pool, "the delivery waits in the backlog", `SELECT EXISTS (SELECT FROM posthorn.deliveries d
		JOIN posthorn.backlogs b ON b.job_id = d.job_id JOIN river.river_job j ON j.id = b.job_id AND j.state = 'available')`)
	r.become(nil)
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	must(t, redeliverer.Retry(t.Context(), "", value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries`)))
	settled(t, b.Pool)
	balanced(t, b.Pool)
}

// A tenant's heap of events is routed in turns with the others' few.
func TestRelay_ATenantsHeapDoesNotDelayAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	heap, few := newReceiver(t, nil), newReceiver(t, nil)
	b.tenantEndpoint(t, "heap", heap.URL)
	b.tenantEndpoint(t, "few", few.URL)
	b.exec(t, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload) SELECT 'heap', 'a', '{}' FROM generate_series(1, 20000)`)
	for range 10 {
		b.publish(t, outbox.Event{TenantID: "few"})
	}
	b.run(t)
	for range 10 {
		few.next(t)
	}
	if left := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox_pending`); left < 1000 {
		t.Errorf("the few came when %d of the heap were left to route: they had waited for it", left)
	}
}

func TestDisable_AfterNothingButFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(503))
	e, _ := b.endpoint(t, r.URL)
	told := newReceiver(t, nil)
	b.endpoint(t, told.URL, "posthorn.endpoint.*")
	b.run(t, touchy, func(c *Config) {
		c.Retry.Schedule = slicesOf(100, time.Millisecond)
		c.Disable = DisablePolicy{After: 500 * time.Millisecond, Attempts: 4}
	})
	for range 20 {
		b.publish(t, outbox.Event{})
	}
	eventually(t, b.Pool, "it is disabled and everything held", `SELECT (SELECT status = 'disabled' FROM posthorn.endpoints WHERE id = $1)
		AND (SELECT count(*) = 20 FROM posthorn.deliveries WHERE endpoint_id = $1 AND status = 'held')`, e.ID)
	balanced(t, b.Pool)
	got, err := b.store.Get(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	if !strings.Contains(got.DisabledReason, "every attempt since 20") || !strings.Contains(got.DisabledReason, "503") {
		t.Errorf("the reason: %q", got.DisabledReason)
	}
	var event struct {
		Type string
		Data endpointDisabled
	}
	must(t, json.Unmarshal([]byte(told.next(t).body), &event))
	if event.Type != eventEndpointDisabled || event.Data.EndpointID != e.ID.String() || event.Data.Reason != got.DisabledReason {
		t.Errorf("told of %+v", event)
	}
	posts := r.posts()
	held := b.publish(t, outbox.Event{})
	eventually(t, b.Pool, "a new event's delivery is held", `SELECT EXISTS (SELECT FROM posthorn.deliveries
		WHERE event_id = $1 AND status = 'held' AND job_id IS NULL)`, held)
	if n := r.posts(); n != posts {
		t.Errorf("%d POSTs to a disabled endpoint", n-posts)
	}
	r.become(nil)
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	allSettled(t, b)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 23 { // and what was told: that it was disabled, and that it works again
		t.Errorf("%+v", l)
	}
}

// allSettled waits until every delivery is finished, held ones too.
func allSettled(t *testing.T, b *bundle) {
	t.Helper()
	eventually(t, b.Pool, "every delivery finished, and none held", `SELECT NOT EXISTS (SELECT FROM posthorn.outbox_pending)
		AND NOT EXISTS (SELECT FROM posthorn.deliveries WHERE status IN ('pending', 'retrying', 'held'))`)
}

func TestHold_PausedEndpointsGatherEverythingAndResumeSendsItOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var failing atomic.Bool
	failing.Store(true)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	e, _ := b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.Retry.Schedule = slicesOf(20, time.Hour); c.DrainPerSecond = 50 })
	for range 30 { // which wait for their retries
		b.publish(t, outbox.Event{})
	}
	eventually(t, b.Pool, "all wait for a retry", `SELECT count(*) = 30 FROM posthorn.deliveries WHERE status = 'retrying'`)
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	for range 30 { // which have not been attempted
		b.publish(t, outbox.Event{})
	}
	eventually(t, b.Pool, "all are held, by no job", `SELECT count(*) = 60 FROM posthorn.deliveries WHERE status = 'held' AND job_id IS NULL`)
	balanced(t, b.Pool)
	failing.Store(false)
	posts := r.posts()
	if _, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID); err != nil {
		t.Fatal(err)
	}
	allSettled(t, b)
	if n := r.posts() - posts; n != 60 {
		t.Errorf("%d POSTs after the resumption, want 60", n)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 60 {
		t.Errorf("%+v", l)
	}
}

func TestHold_ADeletedEndpointsDeliveriesAreCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	waits, _ := b.endpoint(t, r.URL)
	held, _ := b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.Retry.Schedule = slicesOf(20, time.Hour) })
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, held.ID)
	must(t, err)
	for range 10 {
		b.publish(t, outbox.Event{})
	}
	eventually(t, b.Pool, "one's wait, the other's are held", `SELECT count(*) FILTER (WHERE status = 'retrying') = 10
		AND count(*) FILTER (WHERE status = 'held') = 10 FROM posthorn.deliveries`)
	for _, id := range []subscriptions.EndpointID{waits.ID, held.ID} {
		must(t, b.store.Delete(t.Context(), subscriptions.Scope{}, id))
	}
	eventually(t, b.Pool, "all are cancelled", `SELECT count(*) = 20 FROM posthorn.deliveries
		WHERE status = 'cancelled' AND finished_at IS NOT NULL AND last_error IS NOT NULL`)
	balanced(t, b.Pool)
}

func TestDead_IsToldToWhoAsksAndDoesNotBreed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL, "order.*")
	told := newReceiver(t, status(500)) // the one that is told fails too
	b.endpoint(t, told.URL, "posthorn.*")
	everything := newReceiver(t, nil)
	b.endpoint(t, everything.URL, "*")
	b.run(t)
	id := b.publish(t, outbox.Event{})
	eventually(t, b.Pool, "both have died", `SELECT count(*) = 2 FROM posthorn.dead_letters`)
	settled(t, b.Pool)
	var event struct {
		Type string
		Data deliveryDead
	}
	must(t, json.Unmarshal([]byte(told.next(t).body), &event))
	if event.Type != eventDeliveryDead || event.Data.EventID != id.String() || event.Data.Attempts != 3 || *event.Data.LastResponseStatus != 500 {
		t.Errorf("told of %+v", event)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`); n != 2 {
		t.Errorf("%d events, want the order and what was told of it", n)
	}
	if n := everything.posts(); n != 1 {
		t.Errorf("an endpoint for * got %d events, want the order only", n)
	}
	balanced(t, b.Pool)
}

// Where nodes have less room than work, small backlogs come first.
func TestBacklog_ItsPriorityFallsWithItsSize(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broken := status(500)
	small, large := newReceiver(t, broken), newReceiver(t, broken)
	few, _ := b.tenantEndpoint(t, "few", small.URL)
	many, _ := b.tenantEndpoint(t, "many", large.URL)
	b.exec(t, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload) SELECT 'many', 'a', '{}' FROM generate_series(1, 300)`)
	b.exec(t, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload) SELECT 'few', 'a', '{}' FROM generate_series(1, 50)`)
	b.run(t, func(c *Config) {
		c.Breaker = BreakerPolicy{Failures: 3, Span: time.Nanosecond, FirstWait: 50 * time.Millisecond, MaxWait: 50 * time.Millisecond}
		c.Retry.Schedule = slicesOf(10_000, time.Millisecond)
	})
	for id, want := range map[subscriptions.EndpointID]int{few.ID: 1, many.ID: 2} {
		eventually(t, b.Pool, "parked with its priority", `SELECT EXISTS (SELECT FROM posthorn.backlogs b JOIN river.river_job j ON j.id = b.job_id
			WHERE b.endpoint_id = $1 AND j.state = 'available' AND j.priority = $2 AND j.queue = 'backlog')`, id, want)
	}
	balanced(t, b.Pool)
}
