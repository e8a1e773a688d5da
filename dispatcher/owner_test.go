package dispatcher

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// owner gives the node the backlog of the deliveries' endpoint, as River would. What
// runs by itself in an owner does not run here.
func (n *stillNode) owner(t *testing.T, endpoint subscriptions.EndpointID) *owner {
	t.Helper()
	var job int64
	must(t, n.config.Pool.QueryRow(t.Context(), `UPDATE river.river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour',
		attempted_at = now(), attempted_by = array[$2] WHERE id = (SELECT job_id FROM posthorn.backlogs WHERE endpoint_id = $1) RETURNING id`,
		endpoint, n.config.NodeName).Scan(&job))
	return newOwner(n.feeder, endpoint, job, newLease(time.Now(), time.Hour))
}

// backlogged leaves deliveries of one new endpoint to its backlog.
func (b *bundle) backlogged(t *testing.T, n *stillNode, events int) *owner {
	t.Helper()
	var batch []result
	for _, d := range b.relayed(t, n, events) {
		batch = append(batch, result{delivery: d, released: releasedAside})
	}
	n.recorder.record(t.Context(), batch)
	b.exec(t, `UPDATE posthorn.deliveries SET next_attempt_at = now() - interval '1 second'`) // due, whatever the clocks say
	return n.owner(t, batch[0].delivery.chunk.endpointID)
}

func TestOwner_LoadsNothingThatIsInHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	o := b.backlogged(t, n, 3)
	_, err := o.step()
	must(t, err)
	n.take(t, 3)
	if again, err := o.load(10, false); err != nil || again != 0 {
		t.Errorf("%d deliveries were loaded that are in hand (%v)", again, err)
	}
}

func TestOwner_DoesNotEndABacklogThatSomethingIsLeftOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	o := b.backlogged(t, n, 1)
	if ended, err := o.end(); err != nil || ended {
		t.Errorf("ended %t (%v) with a delivery that is due", ended, err)
	}
	balanced(t, b.Pool)
}

// Who adds to a backlog at this moment has read its job, and not committed yet.
func TestOwner_WaitsForWhoIsAboutToJoin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	endpoints := []subscriptions.EndpointID{d.chunk.endpointID}
	must(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		_, err := joinBacklogs(t.Context(), tx, n.relay.jobs, endpoints)
		return err
	}))
	o := n.owner(t, d.chunk.endpointID)

	tx, err := b.Pool.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // after the commit it says so
	backlogs, err := joinBacklogs(t.Context(), tx, n.relay.jobs, endpoints)
	must(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE posthorn.deliveries SET job_id = $1, next_attempt_at = now() - interval '1 second'`, backlogs[d.chunk.endpointID])
	must(t, err)
	ended := make(chan bool, 1)
	go func() {
		end, err := o.end()
		if err != nil {
			t.Error(err)
		}
		ended <- end
	}()
	eventually(t, b.Pool, "the owner waits", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	must(t, tx.Commit(t.Context()))
	if <-ended {
		t.Error("the backlog ended although a delivery has joined it")
	}
	balanced(t, b.Pool)
}

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
