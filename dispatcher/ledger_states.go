package dispatcher

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

const (
	// All deliveries: those of the minutes that were accounted for, and the younger
	// ones by their ids.
	allDeliveriesSQL = `
		SELECT (SELECT coalesce(sum(deliveries), 0)::bigint FROM posthorn.ledger_minutes)
			+ (SELECT count(*) FROM posthorn.deliveries WHERE id >= $1 AND id < $2)`

	// What is neither in its first attempt nor delivered, from the index alone.
	asideSQL = `
		SELECT a.aside, CASE WHEN e.deleted_at IS NULL THEN e.status END, sum(a.n)::bigint, min(a.oldest)
		FROM (SELECT aside, endpoint_id, count(*) AS n, min(event_created_at) AS oldest
			FROM posthorn.deliveries WHERE aside IS NOT NULL GROUP BY aside, endpoint_id) a
		LEFT JOIN posthorn.endpoints e ON e.id = a.endpoint_id
		GROUP BY 1, 2`

	// Whose turn is to come, by the jobs that own them; from the index alone too.
	waitingSQL = `
		SELECT coalesce(sum(w.first), 0)::bigint, coalesce(sum(w.n) FILTER (WHERE j.id IS NULL), 0)::bigint, min(w.oldest)
		FROM (SELECT job_id, count(*) AS n, count(*) FILTER (WHERE aside IS NULL) AS first, min(event_created_at) AS oldest
			FROM posthorn.deliveries
			WHERE next_attempt_at IS NOT NULL AND (aside IS NULL OR aside = 'retrying') GROUP BY job_id) w
		LEFT JOIN river.river_job j ON j.id = w.job_id AND j.finalized_at IS NULL`

	// First attempts under way that the sweep has not put among the waiting ones.
	firstAttemptsSQL = `
		SELECT count(*), count(*) FILTER (WHERE j.id IS NULL), min(d.event_created_at)
		FROM posthorn.deliveries d
		LEFT JOIN river.river_job j ON j.id = d.job_id AND j.finalized_at IS NULL
		WHERE d.id >= $1 AND d.id < $2 AND d.status = 'pending' AND d.next_attempt_at IS NULL`

	pendingSQL = `
		SELECT (SELECT min(created_at) FROM posthorn.outbox_pending),
			(SELECT count(*) FROM posthorn.dead_letters WHERE resolved_at IS NULL)`
)

// addStates counts the deliveries by state. The delivered ones are in no index:
// they are all the others.
func (l *Ledger) addStates(ctx context.Context, tx pgx.Tx, at moment) error {
	oldest := &earliest{at.now}
	var all int64
	if err := tx.QueryRow(ctx, allDeliveriesSQL, floor(at.auditedTo), floor(at.now.Add(ahead))).Scan(&all); err != nil {
		return err
	}
	if err := l.addAside(ctx, tx, oldest); err != nil {
		return err
	}
	if err := l.addUnfinished(tx.QueryRow(ctx, waitingSQL), oldest); err != nil {
		return err
	}
	// The sweep looks at a row when it is old enough to have been committed.
	from, to := floor(at.sweptTo.Add(-slack)), floor(at.now.Add(ahead))
	if err := l.addUnfinished(tx.QueryRow(ctx, firstAttemptsSQL, from, to), oldest); err != nil {
		return err
	}
	l.Unaccounted += l.Unowned
	l.Deliveries[Delivered] = all - l.total()
	var pending *time.Time
	if err := tx.QueryRow(ctx, pendingSQL).Scan(&pending, &l.DeadLetters); err != nil {
		return err
	}
	oldest.or(pending)
	l.OldestUnsent = at.now.Sub(oldest.Time)
	return nil
}

// addUnfinished adds a row of first attempts, deliveries without a live job, and
// the oldest of the events.
func (l *Ledger) addUnfinished(row pgx.Row, oldest *earliest) error {
	var first, unowned int64
	var event *time.Time
	if err := row.Scan(&first, &unowned, &event); err != nil {
		return err
	}
	l.Deliveries[Pending] += first
	l.Unowned += unowned
	oldest.or(event)
	return nil
}

func (l *Ledger) addAside(ctx context.Context, tx pgx.Tx, oldest *earliest) error {
	rows, err := tx.Query(ctx, asideSQL)
	if err != nil {
		return err
	}
	var status Status
	var endpoint *subscriptions.Status
	var n int64
	var event *time.Time
	_, err = pgx.ForEachRow(rows, []any{&status, &endpoint, &n, &event}, func() error {
		l.Deliveries[status] += n
		if status == Held {
			l.HeldBy.add(endpoint, n)
		}
		if status == Held || status == Retrying {
			oldest.or(event)
		}
		return nil
	})
	return err
}

// add counts held deliveries of endpoints with the status, which is nil of deleted ones.
func (h *HeldBy) add(endpoint *subscriptions.Status, n int64) {
	switch {
	case endpoint != nil && *endpoint == subscriptions.Paused:
		h.Paused += n
	case endpoint != nil && *endpoint == subscriptions.Disabled:
		h.Disabled += n
	default:
		h.Other += n
	}
}

// earliest is the earliest of the times that it was told.
type earliest struct{ time.Time }

func (e *earliest) or(at *time.Time) {
	if at != nil && at.Before(e.Time) {
		e.Time = *at
	}
}
