package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// owned makes the node the owner of the one backlog there is, without running it.
func (n *stillNode) owned(t *testing.T, b *bundle) *owner {
	t.Helper()
	var endpoint subscriptions.EndpointID
	var job int64
	must(t, b.Pool.QueryRow(t.Context(), `SELECT endpoint_id, job_id FROM posthorn.backlogs`).Scan(&endpoint, &job))
	b.exec(t, `UPDATE river.river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour', attempted_by = array[$2] WHERE id = $1`,
		job, n.config.NodeName)
	o := newOwner(n.feeder, endpoint, job, newLease(time.Now(), time.Hour))
	n.feeder.mu.Lock()
	n.feeder.owners[endpoint] = o
	n.feeder.mu.Unlock()
	return o
}

// An owner parks the backlog until its next retry, and is not gone yet as the relay adds
// something that is due now.
func TestOwner_WhatJoinsAParkedBacklogWakesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.create(t, subscriptions.Draft{URL: nowhere, Ordering: subscriptions.ByKey})
	b.publish(t, outbox.Event{OrderingKey: "k"})
	n.relayAll(t)
	o := n.owned(t, b)
	b.exec(t, `UPDATE posthorn.deliveries SET ordering_position = NULL, next_attempt_at = now() + interval '1 hour'`)
	if next, err := o.finish(); next != stepEnd || err != nil {
		t.Fatalf("it does not park: %d, %v", next, err)
	}
	due := func() float64 {
		return value[float64](t, b.Pool, `SELECT extract(epoch FROM scheduled_at - now())::float8 FROM river.river_job WHERE id = $1`, o.jobID)
	}
	if due() < 3000 {
		t.Fatalf("parked for %v s", due())
	}
	b.publish(t, outbox.Event{OrderingKey: "k"})
	n.relayAll(t)
	if due() > 1 {
		t.Errorf("the job waits %v s more, with a delivery that is due", due())
	}
}

// A backlog is ended under a lock that those who join it take too.
func TestOwner_DoesNotEndABacklogThatIsBeingJoined(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.create(t, subscriptions.Draft{URL: nowhere, Ordering: subscriptions.ByKey})
	b.publish(t, outbox.Event{OrderingKey: "k"})
	n.relayAll(t)
	o := n.owned(t, b)
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'delivered', ordering_position = NULL, next_attempt_at = NULL, finished_at = now()`)
	joining, err := b.Pool.Begin(t.Context())
	must(t, err)
	backlogs, err := joinBacklogs(t.Context(), joining, n.river, []subscriptions.EndpointID{o.endpointID})
	must(t, err)
	ended := make(chan bool, 1)
	go func() {
		e, err := o.end()
		must(t, err)
		ended <- e
	}()
	eventually(t, b.Pool, "the owner waits", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	_, err = joining.Exec(t.Context(), `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id, next_attempt_at)
		SELECT posthorn.uuid_v7(), event_id, event_created_at, endpoint_id, tenant_id, event_type, $1, now() FROM posthorn.deliveries`, backlogs[o.endpointID])
	must(t, err)
	must(t, joining.Commit(t.Context()))
	if <-ended {
		t.Error("the backlog was ended under a delivery that joined it")
	}
	if jobs := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE id = $1`, o.jobID); jobs != 1 {
		t.Error("its job is gone")
	}
}

// Somebody else's lock on a job's row, such as a recorder's that waits, costs no lease.
func TestLease_OfALockedJobIsNotLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	locking, err := b.Pool.Begin(t.Context())
	must(t, err)
	_, err = locking.Exec(t.Context(), `SELECT FROM river.river_job WHERE id = $1 FOR UPDATE`, d.chunk.jobID)
	must(t, err)
	must(t, (&keeper{Dispatcher: n.Dispatcher}).renew(t.Context()))
	if !d.chunk.lease.held() {
		t.Error("the lease counts as lost")
	}
	must(t, locking.Rollback(t.Context()))
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

// All nodes were away as the endpoint was resumed, and for days after.
func TestSweep_FindsWhatIsHeldForAnEndpointResumedLongAgo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	for range 3 {
		b.endpoint(t, nowhere)
	}
	e, _ := b.endpoint(t, nowhere, "order.*")
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	b.exec(t, `UPDATE posthorn.endpoints SET updated_at = now() - interval '9 days'`)
	must(t, n.sweeper(t, time.Hour).align(t.Context()))
	if got := value[string](t, b.Pool, `SELECT string_agg(args->>'endpoint', ',') FROM river.river_job WHERE kind = 'align'`); got != e.ID.String() {
		t.Errorf("aligned %q, want %s", got, e.ID)
	}
}
