package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// retention drops the days that are past it. What is still needed of them, which is
// what is not finished and the open dead letters, moves into small partitions of the
// same times, whose neighbours are put together: so that a dead letter outlives its
// day, and the number of partitions does not grow with the years.
type retention struct {
	pool     *pgxpool.Pool
	keep     time.Duration
	limit    int           // events that one trimmed partition takes in
	pause    time.Duration // between two tries to lock the tables
	logger   *slog.Logger
	reaching reaching
}

const (
	// mostNeeded bounds what is copied of a day, and the time that the tables are
	// locked. A day of which more is needed stays whole.
	mostNeeded = 50_000
	// lockTries are made with a pause of a second: together they take half a minute.
	lockTries = 30
	// stageTries bounds how often what was staged may turn out to be too old.
	stageTries = 5
)

// days are whole days, from the first to the last, in one partition of each table.
type days struct {
	First, Last time.Time
	Trimmed     bool
}

// String implements fmt.Stringer.
func (d days) String() string {
	if d.First.Equal(d.Last) {
		return d.First.Format(time.DateOnly)
	}
	return d.First.Format(time.DateOnly) + " to " + d.Last.Format(time.DateOnly)
}

// Yesterday stays, because create_partitions would make it again. A day is looked at
// when audit and sweep are through with it: the minutes of it are accounted for, and
// what is not finished is in an index.
const oldDaysSQL = `
	SELECT d.first, d.last, d.trimmed FROM posthorn.stored_days() d, posthorn.ledger_state l, posthorn.sweep_state s
	WHERE (d.last + 1)::timestamp AT TIME ZONE 'UTC' <= least(now() - $1::interval, l.audited_to, s.swept_to - interval '1 minute')
	  AND d.last < (now() AT TIME ZONE 'UTC')::date - 1
	ORDER BY d.first`

// run drops and trims every day that is due.
func (r *retention) run(ctx context.Context) error {
	if err := r.dropGone(ctx); err != nil { // of one who died at it
		return err
	}
	rows, err := r.pool.Query(ctx, oldDaysSQL, r.keep)
	if err != nil {
		return fmt.Errorf("list old days: %w", err)
	}
	old, err := pgx.CollectRows(rows, pgx.RowToStructByPos[days])
	if err != nil {
		return fmt.Errorf("list old days: %w", err)
	}
	var before *days // trimmed, and has room for the next day
	for _, d := range old {
		if d.Trimmed {
			before, err = r.again(ctx, d)
		} else {
			before, err = r.take(ctx, d, before)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const neededSQL = `SELECT count(*) FROM (SELECT FROM posthorn.needed_events($1::date::timestamp AT TIME ZONE 'UTC', ($2::date + 1)::timestamp AT TIME ZONE 'UTC') LIMIT $3) n`

// needed counts the events that something still needs, to one more than the limit.
func (r *retention) needed(ctx context.Context, d days) (n int, err error) {
	if err := r.pool.QueryRow(ctx, neededSQL, d.First, d.Last, r.limit+1).Scan(&n); err != nil {
		return 0, fmt.Errorf("count what is needed of %s: %w", d, err)
	}
	return n, nil
}

// take trims a day, together with the trimmed ones before it if there is room.
func (r *retention) take(ctx context.Context, d days, before *days) (*days, error) {
	if before != nil {
		joined := days{First: before.First, Last: d.Last}
		n, err := r.needed(ctx, joined)
		if err != nil {
			return nil, err
		}
		if n <= r.limit {
			return r.trim(ctx, joined, n)
		}
	}
	n, err := r.needed(ctx, d)
	switch {
	case err != nil:
		return nil, err
	case n > r.limit:
		return nil, r.leave(ctx, d, n)
	}
	return r.trim(ctx, d, n)
}

const storedEventsSQL = `SELECT count(*) FROM posthorn.outbox
	WHERE created_at >= $1::date::timestamp AT TIME ZONE 'UTC' AND created_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'`

// again trims what was trimmed before, once half of what had stayed is not needed
// any longer.
func (r *retention) again(ctx context.Context, d days) (*days, error) {
	n, err := r.needed(ctx, d)
	if err != nil {
		return nil, err
	}
	var stored int
	if err := r.pool.QueryRow(ctx, storedEventsSQL, d.First, d.Last).Scan(&stored); err != nil {
		return nil, fmt.Errorf("count the events of %s: %w", d, err)
	}
	if n > 0 && n > stored/2 {
		return &d, nil
	}
	return r.trim(ctx, d, n)
}

const leaveDaySQL = `INSERT INTO posthorn.days_left (day, needed) VALUES ($1, $2)
	ON CONFLICT (day) DO UPDATE SET needed = excluded.needed, looked_at = now()`

// leave notes that a day stays whole, for the doctor.
func (r *retention) leave(ctx context.Context, d days, needed int) error {
	r.logger.Warn("a day past the retention stays whole: too much of it waits or is dead",
		"day", d, "needed_events", needed, "limit", r.limit)
	if _, err := r.pool.Exec(ctx, leaveDaySQL, d.First, needed); err != nil {
		return fmt.Errorf("leave %s: %w", d, err)
	}
	return nil
}
