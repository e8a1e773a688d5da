package dispatcher

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
