package dispatcher

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// Many keys, interleaved, some of which fail now and then; nodes that are killed and
// others that take over.
func TestOrder_HoldsOverKeysRetriesAndKills(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	draw := rand.New(rand.NewPCG(1, 2))
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		fails := draw.IntN(20) == 0
		mu.Unlock()
		if fails {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
	const keys, each = 300, 8
	patient := slicesOf(20, 20*time.Millisecond) // a tenth of the runs would see a dead letter after three attempts
	victims := []*process{
		startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute, Schedule: patient}),
		startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute, Schedule: patient}),
	}
	committed := map[string]bool{}
	for n := range each {
		for key := range keys {
			id := b.publish(t, outbox.Event{OrderingKey: fmt.Sprint("key ", key), Payload: fmt.Appendf(nil, `{"n": %d, "key": %d}`, n, key)})
			committed[id.String()] = true
		}
		if n == 2 || n == 4 {
			must(t, victims[n/2-1].cmd.Process.Kill())
		}
		if n == 3 {
			b.run(t, func(c *Config) { c.Retry.Schedule = patient })
		}
	}
	settled(t, b.Pool)
	r.checkOrder(t)
	r.checkSuccesses(t, b, committed)
	balanced(t, b.Pool)
}

// checkSuccesses checks that everything came, and that each POST is recorded but for
// those under way as nodes were killed.
func (r *receiver) checkSuccesses(t *testing.T, b *bundle, committed map[string]bool) {
	t.Helper()
	counts := r.counts()
	for id := range committed {
		if counts[id] == 0 {
			t.Errorf("%s was lost", id)
		}
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE status = 'delivered'`); n != len(committed) {
		t.Errorf("%d delivered, want %d: %s", n, len(committed), books(t, b.Pool))
	}
}

func TestOrder_AFailingDeliveryBlocksItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	r.become(func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("webhook-id") == r.first() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
	b.run(t, func(c *Config) { c.Retry.Schedule = slicesOf(1, time.Second) })
	stuck := b.publish(t, outbox.Event{OrderingKey: "a", Payload: []byte(`{"n": 0, "key": 1}`)})
	r.next(t)
	behind := b.publish(t, outbox.Event{OrderingKey: "a", Payload: []byte(`{"n": 1, "key": 1}`)})
	others := map[string]bool{}
	for i := range 20 {
		others[b.publish(t, outbox.Event{OrderingKey: fmt.Sprint("b", i), Payload: []byte(`{}`)}).String()] = true
	}
	unordered := b.publish(t, outbox.Event{Payload: []byte(`{}`)})
	others[unordered.String()] = true
	for range others {
		got := r.next(t).eventID()
		if !others[got] {
			t.Errorf("%s came, while its key waits for a retry", got)
		}
	}
	if n := r.counts()[behind.String()]; n != 0 {
		t.Error("what is behind the failing one was sent")
	}
	// The dead letter is an explicit skip: then the next of the key goes.
	settled(t, b.Pool)
	if n := r.counts()[stuck.String()]; n != 2 {
		t.Errorf("%d attempts of the first, want 2", n)
	}
	if n := r.counts()[behind.String()]; n != 1 {
		t.Errorf("%d attempts of the one behind, want 1", n)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Dead] != 1 || l.Deliveries[Delivered] != 22 {
		t.Errorf("%+v", l)
	}
}

// first is the id of the first event that came.
func (r *receiver) first() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal[0].eventID()
}

func TestOrder_HoldsOverAPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	e, _ := b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
	b.run(t, func(c *Config) { c.DrainPerSecond = 20 })
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			b.publish(t, outbox.Event{OrderingKey: fmt.Sprint(n % 5), Payload: fmt.Appendf(nil, `{"n": %d, "key": %d}`, n, n%5)})
		}
	}
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	publish(0, 50)
	eventually(t, b.Pool, "all are held", `SELECT count(*) = 50 FROM posthorn.deliveries WHERE status = 'held'`)
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	publish(50, 80) // while the held ones are given free, bit by bit
	allSettled(t, b)
	r.checkOrder(t)
	if n := r.posts(); n != 80 {
		t.Errorf("%d POSTs, want 80", n)
	}
	balanced(t, b.Pool)
}

func TestOrder_OneTenantsKeyIsNotAnothers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	e, _ := b.create(t, subscriptions.Draft{TenantID: subscriptions.AllTenants, URL: r.URL, Ordering: subscriptions.ByKey})
	n := b.stillNode(t)
	for _, tenant := range []string{"a", "b", "a"} {
		b.publish(t, outbox.Event{TenantID: tenant, OrderingKey: "order-17"})
	}
	n.relayAll(t)
	if keys := value[int](t, b.Pool, `SELECT count(DISTINCT ordering_key) FROM posthorn.deliveries WHERE endpoint_id = $1`, e.ID); keys != 2 {
		t.Errorf("%d keys, want one for each tenant", keys)
	}
}

// The first of a key waits for its retry; a person retries it now, and those behind it
// need not wait for that time.
func TestOrder_ARetryByHandLetsThoseBehindGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
	b.run(t, func(c *Config) { c.Retry.Schedule = slicesOf(5, time.Hour) })
	b.publish(t, outbox.Event{OrderingKey: "k"})
	eventually(t, b.Pool, "it waits for an hour", `SELECT EXISTS (SELECT FROM posthorn.deliveries WHERE status = 'retrying')`)
	b.publish(t, outbox.Event{OrderingKey: "k"})
	r.become(nil)
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	must(t, redeliverer.Retry(t.Context(), "", value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries WHERE status = 'retrying'`)))
	settled(t, b.Pool)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 2 {
		t.Errorf("%+v", l)
	}
}
