package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// The errors of a retry by hand and of a replay.
var (
	// ErrNotFound: no such delivery or dead letter in the caller's scope.
	ErrNotFound = errors.New("not found")
	// ErrInProgress: the delivery's next attempt is due or under way.
	ErrInProgress = errors.New("the delivery's next attempt is due or under way")
	// ErrHeldBack: the receiver has asked to be left alone, with Retry-After.
	ErrHeldBack = errors.New("the receiver has asked to be left alone for a while")
	// ErrResolved: the dead letter was replayed or discarded before.
	ErrResolved = errors.New("the dead letter has been resolved")
	// ErrEndpointGone: the endpoint was deleted, there is nowhere to send to.
	ErrEndpointGone = errors.New("the endpoint was deleted")
)

// Redeliverer sends deliveries again because a person asks for it. It is safe
// for concurrent use and needs no running dispatcher in its process: it leaves
// a River job for one.
type Redeliverer struct {
	pool     *pgxpool.Pool
	jobs     *river.Client[pgx.Tx]
	reaching reaching
}

// NewRedeliverer makes a Redeliverer.
func NewRedeliverer(pool *pgxpool.Pool) (*Redeliverer, error) {
	jobs, err := newInserter(pool)
	if err != nil {
		return nil, err
	}
	return &Redeliverer{pool: pool, jobs: jobs}, nil
}

const (
	lockDeliverySQL = `
		SELECT d.endpoint_id, d.status, d.next_attempt_at > now() + interval '1 second',
		       EXISTS (SELECT FROM posthorn.endpoints e WHERE e.id = d.endpoint_id AND e.deleted_at IS NULL)
		FROM posthorn.deliveries d
		WHERE d.id = $1 AND ($2 = '' OR d.tenant_id = $2)
		FOR UPDATE OF d`

	redeliverSQL = `UPDATE posthorn.deliveries
		SET status = 'retrying', schedule_start = attempts, next_attempt_at = now(), job_id = $2, finished_at = NULL,
			ordering_position = NULL
		WHERE id = $1`

	// Whoever asks for a retry wants to know whether the endpoint works again now; a
	// receiver that asked for a pause gets it all the same.
	probeNowSQL = `UPDATE posthorn.endpoint_health SET open_until = now(), version = version + 1
		WHERE endpoint_id = $1 AND breaker = 'open' AND reason = 'failures' AND open_until > now()`

	resolveSQL = `UPDATE posthorn.dead_letters SET resolved_at = now(), resolution = 'replayed'
		WHERE delivery_id = $1 AND resolved_at IS NULL`

	openDeadLetterSQL = `SELECT delivery_id, resolved_at IS NOT NULL FROM posthorn.dead_letters
		WHERE id = $1 AND ($2 = '' OR tenant_id = $2)`
)

// Retry attempts a delivery now and gives it the whole retry schedule again; its
// attempts go on counting. It goes out of order, whatever its ordering key. If its
// endpoint's breaker is open because of failures, a probe is sent first, at once. A dead one leaves the dead letters. With a tenantID
// other deliveries than that tenant's are not found; "" means all.
//
// It returns ErrNotFound, ErrInProgress, ErrHeldBack or ErrEndpointGone, to be told
// by errors.Is.
func (r *Redeliverer) Retry(ctx context.Context, tenantID string, id DeliveryID) error {
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if err := r.redeliver(ctx, tx, tenantID, id); err != nil {
			return err
		}
		r.reaching.at(redeliverWritten)
		return nil
	})
	if err != nil {
		return fmt.Errorf("retry delivery %s: %w", id, err)
	}
	r.reaching.at(redeliverCommitted)
	return nil
}

// Replay is Retry for the delivery of an open dead letter; it returns that
// delivery's id, and ErrResolved for a dead letter that is not open.
func (r *Redeliverer) Replay(ctx context.Context, tenantID string, id DeadLetterID) (DeliveryID, error) {
	var delivery DeliveryID
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		var resolved bool
		err := tx.QueryRow(ctx, openDeadLetterSQL, id, tenantID).Scan(&delivery, &resolved)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case resolved:
			return ErrResolved
		}
		if err := r.redeliver(ctx, tx, "", delivery); err != nil {
			return err
		}
		r.reaching.at(redeliverWritten)
		return nil
	})
	if err != nil {
		return DeliveryID{}, fmt.Errorf("replay dead letter %s: %w", id, err)
	}
	r.reaching.at(redeliverCommitted)
	return delivery, nil
}

// redeliver gives the delivery a new job, due now. A job that it had finds that
// the delivery is no longer its own.
func (r *Redeliverer) redeliver(ctx context.Context, tx pgx.Tx, tenantID string, id DeliveryID) error {
	var endpoint subscriptions.EndpointID
	var status Status
	var waits *bool
	var exists bool
	err := tx.QueryRow(ctx, lockDeliverySQL, id, tenantID).Scan(&endpoint, &status, &waits, &exists)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err != nil:
		return err
	case !exists:
		return ErrEndpointGone
	}
	probed, err := r.probe(ctx, tx, endpoint)
	if err != nil {
		return err
	}
	if status == Pending || status == Retrying && (waits == nil || !*waits) {
		if probed {
			return nil // it waited for the endpoint, and waits no longer
		}
		return r.whyNot(ctx, tx, endpoint)
	}
	ids, err := insertJobs(ctx, r.jobs, tx, []river.InsertManyParams{deliverJob(endpoint, dueNow)})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, redeliverSQL, id, ids[0]); err != nil {
		return err
	}
	// Those of its ordering key need not wait for it any more.
	if err := wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint}); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, resolveSQL, id)
	return err
}

// probe ends the wait of an endpoint that is not sent to because it failed, and
// reports whether it was such a one.
func (r *Redeliverer) probe(ctx context.Context, tx pgx.Tx, endpoint subscriptions.EndpointID) (bool, error) {
	tag, err := tx.Exec(ctx, probeNowSQL, endpoint)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	return true, wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint})
}

const askedForPauseSQL = `SELECT EXISTS (SELECT FROM posthorn.endpoint_health h JOIN posthorn.endpoints e ON e.id = h.endpoint_id AND e.health_epoch = h.epoch
	WHERE h.endpoint_id = $1 AND h.breaker <> 'closed' AND h.reason = 'retry_after' AND h.open_until > now())`

// whyNot says why a delivery that is due is not sent at once.
func (r *Redeliverer) whyNot(ctx context.Context, tx pgx.Tx, endpoint subscriptions.EndpointID) error {
	var pause bool
	if err := tx.QueryRow(ctx, askedForPauseSQL, endpoint).Scan(&pause); err != nil {
		return err
	}
	if pause {
		return ErrHeldBack
	}
	return ErrInProgress
}
