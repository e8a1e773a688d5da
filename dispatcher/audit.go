package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// auditArgs is the periodic job that accounts for minutes that are over, so that
// reading the ledger need not.
type auditArgs struct{}

// Kind names the job for River.
func (auditArgs) Kind() string { return "audit" }

const (
	auditInterval = 30 * time.Second
	// auditTime is when a job leaves the rest to the next one; River cancels it after
	// a minute.
	auditTime = 30 * time.Second
	// An audit's transaction spans more minutes while it is quick, fewer while it is
	// slow: a snapshot that is held for long keeps vacuum from its work.
	quickAudit, slowAudit = 500 * time.Millisecond, 2 * time.Second
	longestAudit          = 6 * time.Hour
)

type auditor struct {
	river.WorkerDefaults[auditArgs]

	pool     *pgxpool.Pool
	reaching reaching
}

// Work implements river.Worker.
func (a *auditor) Work(ctx context.Context, _ *river.Job[auditArgs]) error {
	begin, length := time.Now(), time.Minute
	for time.Since(begin) < auditTime {
		took := time.Now()
		done, more, err := a.step(ctx, length)
		if err != nil {
			return err
		}
		if err := a.summarize(ctx, done); err != nil {
			return err
		}
		if !more {
			return nil
		}
		switch d := time.Since(took); {
		case d < quickAudit:
			length = min(4*length, longestAudit)
		case d > slowAudit:
			length = max(length/4, time.Minute).Truncate(time.Minute)
		}
	}
	return nil
}

const (
	// Another process's audit has the row: it does the work.
	nextMinutesSQL = `SELECT audited_to, date_trunc('minute', now() - $1::interval, 'UTC')
		FROM posthorn.ledger_state FOR UPDATE SKIP LOCKED`
	auditedToSQL = `UPDATE posthorn.ledger_state SET audited_to = $1`

	// What did not balance may have been put right since.
	unbalancedMinutesSQL = `SELECT minute FROM posthorn.ledger_minutes WHERE unaccounted <> 0 ORDER BY random() LIMIT $1`

	// Notes of the minutes that this transaction's snapshot shows. Those that commit
	// meanwhile stay for the next.
	forgetRecountsSQL = `DELETE FROM posthorn.ledger_recounts WHERE minute >= $1 AND minute < $2`
	forgetMinutesSQL  = `DELETE FROM posthorn.ledger_minutes WHERE minute >= $1 AND minute < $2`

	accountMinutesSQL = `WITH ` + account + `, made AS (
			SELECT minute, (SELECT count(*) FROM posthorn.deliveries
				WHERE id >= posthorn.uuid_at(minute) AND id < posthorn.uuid_at(minute + interval '1 minute')) AS deliveries
			FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 minute', interval '1 minute') AS minute
		), created AS (
			SELECT date_trunc('minute', created_at, 'UTC') AS minute, ` + entries + ` FROM account GROUP BY 1
		)
		INSERT INTO posthorn.ledger_minutes (minute, events, pending, routed, no_match, expected, made, unaccounted, deliveries)
		SELECT minute, coalesce(events, 0), coalesce(pending, 0), coalesce(routed, 0), coalesce(no_match, 0),
			coalesce(expected, 0), coalesce(c.made, 0), coalesce(unaccounted, 0), m.deliveries
		FROM made m LEFT JOIN created c USING (minute)
		WHERE c.minute IS NOT NULL OR m.deliveries > 0`
)

// step accounts for the next minutes, up to that many, and for as many again that
// don't hold any longer. It returns the time that it has added, and whether there
// is more to do.
func (a *auditor) step(ctx context.Context, length time.Duration) (done span, more bool, err error) {
	// One snapshot: what commits after it is late, and the relay leaves a note of that.
	err = pgx.BeginTxFunc(ctx, a.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var end time.Time
		err := tx.QueryRow(ctx, nextMinutesSQL, auditAge).Scan(&done.from, &end)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, planLedgerSQL); err != nil {
			return err
		}
		due, full, err := recounts(ctx, tx, done.from, int(length/time.Minute))
		if err != nil {
			return err
		}
		done.to = done.from
		if end.After(done.from) {
			done.to = done.from.Add(min(length, end.Sub(done.from)))
			due = append(due, done)
		}
		more = full || done.to.Before(end)
		return a.write(ctx, tx, due, done.to)
	})
	if err != nil {
		return done, false, fmt.Errorf("audit: %w", err)
	}
	a.reaching.at(auditCommitted)
	return done, more, nil
}

// recounts gives the minutes before a time that are to be counted again, and whether
// the limit has left some out.
func recounts(ctx context.Context, tx pgx.Tx, before time.Time, limit int) (due []span, full bool, err error) {
	minutes, err := staleMinutes(ctx, tx, before, &limit)
	if err != nil {
		return nil, false, err
	}
	full = len(minutes) == limit
	rows, err := tx.Query(ctx, unbalancedMinutesSQL, limit)
	if err != nil {
		return nil, false, err
	}
	minutes, err = pgx.AppendRows(minutes, rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(minutes, time.Time.Compare)
	return spans(slices.CompactFunc(minutes, time.Time.Equal)), full, nil
}

func (a *auditor) write(ctx context.Context, tx pgx.Tx, due []span, to time.Time) error {
	b := &pgx.Batch{}
	for _, s := range due {
		b.Queue(forgetRecountsSQL, s.from, s.to)
		b.Queue(forgetMinutesSQL, s.from, s.to)
		b.Queue(accountMinutesSQL, s.arguments()...)
	}
	b.Queue(auditedToSQL, to)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	a.reaching.at(auditUncommitted)
	return nil
}

// The index by age knows pages that it has been told of: vacuum tells it, but not
// before a fifth of the partition is new.
const summarizeSQL = `
	SELECT brin_summarize_new_values(x.indexrelid)
	FROM pg_index x JOIN pg_inherits i ON i.inhrelid = x.indexrelid
	WHERE i.inhparent IN ('posthorn.outbox_by_age'::regclass, 'posthorn.routings_by_age'::regclass)
	  AND right(x.indrelid::regclass::text, 8) BETWEEN $1 AND $2`

// summarize has the indexes by age take in what is new in the days of the span.
// Somebody else at the same, or vacuum, is reason enough to leave it.
func (a *auditor) summarize(ctx context.Context, s span) error {
	if !s.to.After(s.from) {
		return nil
	}
	const day = "20060102"
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, shortLockWaitSQL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, summarizeSQL, s.from.UTC().Format(day), s.to.Add(auditAge).UTC().Format(day))
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55P03" { // lock_not_available
		return nil
	}
	if err != nil {
		return fmt.Errorf("summarize indexes by age: %w", err)
	}
	return nil
}
