package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ledger is the account of everything that is stored: each committed event times
// each endpoint that it matched is one delivery in exactly one state.
type Ledger struct {
	// Events is how many events are committed.
	Events int64
	// Unrouted is how many of them wait for a relay.
	Unrouted int64
	// Routed is how many were matched against the endpoints.
	Routed int64
	// Expected is how many deliveries the routed events matched.
	Expected int64
	// Deliveries counts them by status; every status is there.
	Deliveries map[Status]int64
	// DeadLetters is how many dead letters are open.
	DeadLetters int64
	// Unaccounted is the sum of what must not be: events neither pending nor
	// routed, matches without a delivery or deliveries without a match, and
	// unfinished deliveries that no River job owns. It must be 0.
	Unaccounted int64
	// OldestUnsent is the age of the oldest event that is not routed or has an
	// unfinished delivery; 0 when there is none.
	OldestUnsent time.Duration
}

// Deliveries whose event and routing have been dropped with their day, as those of
// the days' turn are, are not held against it.
const ledgerSQL = `
	WITH delivered AS (
		SELECT event_id, event_created_at, count(*) AS n FROM posthorn.deliveries GROUP BY event_id, event_created_at
	), event AS (
		SELECT o.id IS NULL AS unknown, r.event_id IS NOT NULL AS routed, p.event_id IS NOT NULL AS pending,
			coalesce(r.matched, 0) AS expected, coalesce(d.n, 0) AS made
		FROM posthorn.outbox o
		LEFT JOIN posthorn.outbox_pending p ON p.event_id = o.id AND p.created_at = o.created_at
		FULL JOIN posthorn.routings r ON r.event_id = o.id AND r.created_at = o.created_at
		FULL JOIN delivered d ON d.event_id = coalesce(o.id, r.event_id) AND d.event_created_at = coalesce(o.created_at, r.created_at)
	), unowned AS (
		SELECT count(*) AS n FROM posthorn.deliveries d
		WHERE d.status IN ('pending', 'retrying')
		  AND NOT EXISTS (SELECT FROM river.river_job j WHERE j.id = d.job_id AND j.finalized_at IS NULL)
	)
	SELECT count(*) FILTER (WHERE NOT unknown),
		count(*) FILTER (WHERE pending),
		count(*) FILTER (WHERE routed),
		coalesce(sum(expected), 0)::bigint,
		(count(*) FILTER (WHERE NOT unknown AND pending = routed) + coalesce(sum(abs(expected - made)) FILTER (WHERE routed), 0) + (SELECT n FROM unowned))::bigint,
		(SELECT count(*) FROM posthorn.dead_letters WHERE resolved_at IS NULL),
		coalesce(extract(epoch FROM now() - least(
			(SELECT min(created_at) FROM posthorn.outbox_pending),
			(SELECT min(event_created_at) FROM posthorn.deliveries WHERE status IN ('pending', 'retrying', 'held')))), 0)::float8
	FROM event`

const deliveriesByStatusSQL = `SELECT status, count(*) FROM posthorn.deliveries GROUP BY status`

// ReadLedger takes the account at one moment, of what is stored. Its cost grows
// with that.
func ReadLedger(ctx context.Context, pool *pgxpool.Pool) (Ledger, error) {
	l := Ledger{Deliveries: map[Status]int64{}}
	for _, s := range Statuses {
		l.Deliveries[s] = 0
	}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		var oldest float64
		err := tx.QueryRow(ctx, ledgerSQL).Scan(&l.Events, &l.Unrouted, &l.Routed, &l.Expected,
			&l.Unaccounted, &l.DeadLetters, &oldest)
		if err != nil {
			return err
		}
		l.OldestUnsent = time.Duration(oldest * float64(time.Second))
		rows, err := tx.Query(ctx, deliveriesByStatusSQL)
		if err != nil {
			return err
		}
		return scanCounts(rows, l.Deliveries)
	})
	if err != nil {
		return Ledger{}, fmt.Errorf("read ledger: %w", err)
	}
	return l, nil
}

// Backlog is what waits.
type Backlog struct {
	// Events is how many committed events are not routed yet.
	Events int64
	// Oldest is the age of the oldest of them; 0 when there is none.
	Oldest time.Duration
	// Deliveries is how many wait for a retry or for a slow endpoint.
	Deliveries int64
}

const backlogSQL = `
	SELECT (SELECT count(*) FROM posthorn.outbox_pending),
	       (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM posthorn.outbox_pending),
	       (SELECT count(*) FROM posthorn.deliveries WHERE next_attempt_at IS NOT NULL)`

// ReadBacklog counts what waits, from small tables and indexes.
func ReadBacklog(ctx context.Context, pool *pgxpool.Pool) (Backlog, error) {
	var b Backlog
	var oldest float64
	if err := pool.QueryRow(ctx, backlogSQL).Scan(&b.Events, &oldest, &b.Deliveries); err != nil {
		return Backlog{}, fmt.Errorf("read backlog: %w", err)
	}
	b.Oldest = time.Duration(oldest * float64(time.Second))
	return b, nil
}
