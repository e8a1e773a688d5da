package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// errProbeTaken is for a probe that another node has claimed.
var errProbeTaken = errors.New("another node probes the endpoint")

const (
	// Waits for those that are about to add to it.
	lockBacklogSQL = `SELECT job_id FROM posthorn.backlogs WHERE endpoint_id = $1 AND job_id = $2 FOR UPDATE`

	nextOfBacklogSQL = `SELECT min(next_attempt_at) FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NOT NULL`

	endBacklogSQL = `DELETE FROM posthorn.backlogs WHERE endpoint_id = $1`

	// Waits for a recorder that is about to change it.
	heldBackSQL = `SELECT ` + healthColumns + ` FROM posthorn.endpoint_health WHERE endpoint_id = $1 FOR SHARE`

	// A parked job is nobody's. Large backlogs come after small ones where nodes have
	// less room than work.
	parkBacklogSQL = `
		UPDATE river.river_job SET state = 'available', scheduled_at = coalesce($2, now()), attempted_by = NULL,
			priority = (SELECT 1 + (count(*) > 100)::int + (count(*) > 1000)::int + (count(*) > 10000)::int FROM (
				SELECT FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NOT NULL LIMIT 10001) n)
		WHERE id = $1 AND ` + leased + ` AND ` + holder + ` = $3`
)

// finish ends the backlog when nothing is left of it, or parks it until the next of
// what is left is due.
func (o *owner) finish() (next, error) {
	if o.order.tracking() {
		// Coming back means reading all that waits anew, so not for every pause.
		due := o.order.earliest()
		if time.Since(o.order.quietSince) < ownerPatience || time.Until(due) < ownerPatience/6 {
			return stepWait, nil
		}
	}
	ended, err := o.end()
	switch {
	case err != nil:
		return stepWait, err
	case ended:
		return stepEnd, nil
	}
	// Something has been added. Should it be nothing that can be loaded, it is looked
	// for from the beginning, and not in a loop.
	o.order.arrived = 0
	if o.fruitless++; o.fruitless > 1 {
		return stepWait, nil
	}
	return stepAgain, nil
}

// end removes the backlog and its job; or, when what is left of it is not due yet,
// parks it until then. It reports false when something is due. Who adds to the
// backlog waits meanwhile, and wakes it afterwards.
func (o *owner) end() (ended bool, err error) {
	err = o.inTransaction(func(ctx context.Context, tx pgx.Tx) error {
		var job int64
		err := tx.QueryRow(ctx, lockBacklogSQL, o.endpointID, o.jobID).Scan(&job)
		named := !errors.Is(err, pgx.ErrNoRows) // else the endpoint's backlog is another job's by now
		if err != nil && named {
			return err
		}
		var due *time.Time
		if err := tx.QueryRow(ctx, nextOfBacklogSQL, o.jobID).Scan(&due); err != nil {
			return err
		}
		if o.order.tracking() { // what is due waits behind what is not
			first := o.healths.clock.Now().Add(time.Until(o.order.earliest()))
			due = &first
		}
		switch {
		case due == nil:
			ended = true
			return o.remove(ctx, tx, named)
		case due.After(o.healths.clock.Now()):
			ended = true
			_, err = tx.Exec(ctx, parkBacklogSQL, o.jobID, due, o.node)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end the backlog of %s: %w", o.endpointID, err)
	}
	return ended, nil
}

func (o *owner) remove(ctx context.Context, tx pgx.Tx, named bool) error {
	if named {
		if _, err := tx.Exec(ctx, endBacklogSQL, o.endpointID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, deleteJobsSQL, []int64{o.jobID})
	return err
}

// park leaves the backlog to whichever node looks at it next: at the given time, or
// at once if it is the zero time.
func (o *owner) park(until time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	if _, err := o.pool.Exec(ctx, parkBacklogSQL, o.jobID, orNil(until), o.node); err != nil {
		return fmt.Errorf("park the backlog of %s: %w", o.endpointID, err)
	}
	return nil
}

// parkHeldBack parks the backlog until the breaker lets a probe through. What this
// process knows of that may be old: the row says, and who changes it afterwards
// wakes the backlog.
func (o *owner) parkHeldBack(sub *subscriptions.Subscription) error {
	err := o.inTransaction(func(ctx context.Context, tx pgx.Tx) error {
		known, err := queryHealths(ctx, tx, heldBackSQL, o.endpointID)
		if err != nil {
			return err
		}
		o.healths.learn(known)
		h := known[o.endpointID]
		if h.epoch < sub.HealthEpoch {
			h.until = time.Time{}
		}
		_, err = tx.Exec(ctx, parkBacklogSQL, o.jobID, orNil(h.until), o.node)
		return err
	})
	if err != nil {
		return fmt.Errorf("park the backlog of %s: %w", o.endpointID, err)
	}
	return nil
}

const settleBacklogSQL = `
	UPDATE posthorn.deliveries SET status = $2, job_id = NULL, next_attempt_at = NULL, last_error = coalesce(nullif($3, ''), last_error),
		finished_at = CASE WHEN $2 = 'cancelled' THEN now() END, ordering_position = CASE WHEN $2 = 'held' THEN ordering_position END
	WHERE id = ANY(ARRAY(SELECT id FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at, id LIMIT $4))
	  AND status IN ('pending', 'retrying')`

// settleAll holds or cancels all of the backlog and ends it.
func (o *owner) settleAll(status Status, reason string) error {
	for {
		n, err := o.settleSome(status, reason)
		if err != nil {
			return fmt.Errorf("settle the backlog of %s: %w", o.endpointID, err)
		}
		if n < maxSettled {
			break
		}
	}
	ended, err := o.end()
	if err == nil && !ended { // something has been added
		err = o.park(time.Time{})
	}
	return err
}

// maxSettled is how many deliveries one transaction holds, cancels or resumes.
const maxSettled = 1000

func (o *owner) settleSome(status Status, reason string) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	tag, err := o.pool.Exec(ctx, settleBacklogSQL, o.jobID, status, reason, maxSettled)
	o.telemetry.settled(status, tag.RowsAffected())
	return tag.RowsAffected(), err
}
