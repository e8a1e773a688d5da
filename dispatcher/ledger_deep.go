package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/subscriptions"
)

const (
	deepEventsSQL = `
		WITH sent AS (
			SELECT event_id, event_created_at AS created_at, sum(n) AS made, count(*) AS endpoints
			FROM (SELECT event_id, event_created_at, endpoint_id, count(*) AS n FROM posthorn.deliveries
				GROUP BY event_id, event_created_at, endpoint_id) d
			GROUP BY event_id, event_created_at
		), account AS (
			SELECT coalesce(o.created_at, r.created_at, s.created_at) AS created_at, (o.id IS NOT NULL)::int AS event, (p.event_id IS NOT NULL)::int AS pending, (r.event_id IS NOT NULL)::int AS routed,
				coalesce(r.matched, 0) AS expected, coalesce(s.made, 0) AS made, coalesce(s.endpoints, 0) AS endpoints
			FROM posthorn.outbox o
			LEFT JOIN (SELECT DISTINCT event_id, created_at FROM posthorn.outbox_pending) p ON p.event_id = o.id AND p.created_at = o.created_at
			FULL JOIN posthorn.routings r ON r.event_id = o.id AND r.created_at = o.created_at
			FULL JOIN sent s ON s.event_id = coalesce(o.id, r.event_id) AND s.created_at = coalesce(o.created_at, r.created_at)
		)
		SELECT events, pending, routed, no_match, expected, unaccounted FROM (SELECT ` + entries + ` FROM account) a`

	deepStatusesSQL = `
		SELECT d.status, CASE WHEN e.deleted_at IS NULL THEN e.status END, count(*),
			count(*) FILTER (WHERE d.status IN ('pending', 'retrying')
				AND NOT EXISTS (SELECT FROM river.river_job j WHERE j.id = d.job_id AND j.finalized_at IS NULL))
		FROM posthorn.deliveries d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id AND d.status = 'held'
		GROUP BY 1, 2`

	deepRestSQL = `
		SELECT (SELECT count(*) FROM posthorn.dead_letters WHERE resolved_at IS NULL),
			least((SELECT min(created_at) FROM posthorn.outbox_pending),
				(SELECT min(event_created_at) FROM posthorn.deliveries WHERE status IN ('pending', 'retrying', 'held'))),
			now()`
)

// ReadLedgerDeep takes the account of everything that is stored, at one moment,
// relying on nothing that was counted before. It reads every event and delivery.
func ReadLedgerDeep(ctx context.Context, pool *pgxpool.Pool) (Ledger, error) {
	l := newLedger()
	err := inSnapshot(ctx, pool, func(tx pgx.Tx) error { return l.readDeep(ctx, tx) })
	if err != nil {
		return Ledger{}, fmt.Errorf("read ledger deep: %w", err)
	}
	return *l, nil
}

func (l *Ledger) readDeep(ctx context.Context, tx pgx.Tx) error {
	if err := l.add(tx.QueryRow(ctx, deepEventsSQL)); err != nil {
		return err
	}
	if err := l.addDeepStatuses(ctx, tx); err != nil {
		return err
	}
	l.Unaccounted += l.Unowned
	var now time.Time
	var oldest *time.Time
	if err := tx.QueryRow(ctx, deepRestSQL).Scan(&l.DeadLetters, &oldest, &now); err != nil {
		return err
	}
	if oldest != nil {
		l.OldestUnsent = now.Sub(*oldest)
	}
	return nil
}

func (l *Ledger) addDeepStatuses(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, deepStatusesSQL)
	if err != nil {
		return err
	}
	var status Status
	var endpoint *subscriptions.Status
	var n, unowned int64
	_, err = pgx.ForEachRow(rows, []any{&status, &endpoint, &n, &unowned}, func() error {
		l.Deliveries[status] += n
		l.Unowned += unowned
		if status == Held {
			l.HeldBy.add(endpoint, n)
		}
		return nil
	})
	return err
}
