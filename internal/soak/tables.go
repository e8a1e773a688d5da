package soak

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	businessRowsSQL = `SELECT seq, coalesce(posthorn.public_id('evt', event_id), '') AS event_id, position FROM soak.business`
	eventsSQL       = `SELECT posthorn.public_id('evt', id) AS id, (payload->>'seq')::bigint AS seq FROM posthorn.outbox`
	deliveriesSQL   = `SELECT id::text, posthorn.public_id('evt', event_id) AS event_id,
		posthorn.public_id('ep', endpoint_id) AS endpoint, status, attempts FROM posthorn.deliveries ORDER BY deliveries.id`
	attemptsSQL = `SELECT delivery_id::text AS delivery, number, started_at, duration_us,
		coalesce(response_status, 0) AS status FROM posthorn.attempts ORDER BY delivery_id, number`

	unsettledSQL = `SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = '` + producerName + `'),
		(SELECT count(*) FROM posthorn.outbox_pending),
		coalesce((SELECT string_agg(n || ' ' || status, ', ') FROM (SELECT status, count(*) AS n FROM posthorn.deliveries
			WHERE status IN ('pending', 'retrying', 'held') GROUP BY status ORDER BY status) AS s), ''),
		coalesce((SELECT format('delivery %s to %s, attempt %s due in %s, job %s %s due in %s by %s',
				d.id, posthorn.public_id('ep', d.endpoint_id), d.attempts + 1, d.next_attempt_at - now(), d.job_id, j.state, j.scheduled_at - now(), j.attempted_by)
			FROM posthorn.deliveries d LEFT JOIN river.river_job j ON j.id = d.job_id
			WHERE d.status IN ('pending', 'retrying', 'held') ORDER BY d.id LIMIT 1), '')`
)

// settle waits until nothing is unfinished. It returns what still was when ctx was
// done, and tells now and then what it waits for.
func settle(ctx context.Context, conn *pgx.Conn, tell func(what string)) (unsettled string, err error) {
	for next := time.Now().Add(3 * time.Second); ; {
		var sessions, pending int64
		var states, oldest string
		if err := conn.QueryRow(context.WithoutCancel(ctx), unsettledSQL).Scan(&sessions, &pending, &states, &oldest); err != nil {
			return "", fmt.Errorf("settle: %w", err)
		}
		if sessions == 0 && pending == 0 && states == "" {
			return "", nil
		}
		what := fmt.Sprintf("%d producers' sessions; %d events not routed; deliveries: %s; the oldest: %s", sessions, pending, states, oldest)
		if ctx.Err() != nil {
			return what, nil
		}
		if time.Now().After(next) {
			next = next.Add(3 * time.Second)
			tell(what)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// read adds what the tables say to the history.
func (h *History) read(ctx context.Context, conn *pgx.Conn) error {
	if err := h.readBooks(ctx, conn); err != nil {
		return fmt.Errorf("read business rows: %w", err)
	}
	var err error
	if h.Events, err = collect[Event](ctx, conn, eventsSQL); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if h.Deliveries, err = collect[Delivery](ctx, conn, deliveriesSQL); err != nil {
		return fmt.Errorf("read deliveries: %w", err)
	}
	rows, err := conn.Query(ctx, attemptsSQL)
	if err != nil {
		return fmt.Errorf("read attempts: %w", err)
	}
	var a Attempt
	var microseconds int64
	_, err = pgx.ForEachRow(rows, []any{&a.Delivery, &a.Number, &a.StartedAt, &microseconds, &a.Status}, func() error {
		a.Duration = time.Duration(microseconds) * time.Microsecond
		h.Attempts = append(h.Attempts, a)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read attempts: %w", err)
	}
	return nil
}

func collect[T any](ctx context.Context, conn *pgx.Conn, sql string) ([]T, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// readBooks completes the producers' record with the business table.
func (h *History) readBooks(ctx context.Context, conn *pgx.Conn) error {
	type row struct {
		Seq      int64
		EventID  string
		Position int64
	}
	rows, err := collect[row](ctx, conn, businessRowsSQL)
	if err != nil {
		return err
	}
	books := make(map[int64]row, len(rows))
	for _, r := range rows {
		books[r.Seq] = r
	}
	for i := range h.Publications {
		p := &h.Publications[i]
		if r, there := books[p.Seq]; there {
			p.InBooks, p.EventID, p.Position = true, r.EventID, r.Position
		}
	}
	return nil
}
