package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// trim replaces the days' partitions by small ones of what is needed of them, or by
// nothing. It returns the days as they are then: nil when nothing of them stays, or
// when they could not be trimmed now.
func (r *retention) trim(ctx context.Context, d days, needed int) (*days, error) {
	begin := time.Now()
	for range stageTries {
		staged, err := r.stage(ctx, d)
		if err != nil {
			return nil, err
		}
		switch err := r.swap(ctx, d); {
		case errors.Is(err, errStale):
			continue
		case errors.Is(err, errBusy):
			r.logger.Info("the tables are in use by a long transaction: a day past the retention is dropped later", "day", d)
			return nil, nil
		case err != nil:
			return nil, err
		}
		r.logger.Info("a day past the retention was dropped", "day", d, "events_kept", staged, "took", time.Since(begin))
		if err := r.dropGone(ctx); err != nil {
			return nil, err
		}
		if needed == 0 && staged == 0 {
			return nil, nil
		}
		return &days{First: d.First, Last: d.Last, Trimmed: true}, nil
	}
	return nil, nil // somebody keeps retrying by hand; there is another hour
}

const stageSQL = `SELECT posthorn.stage_days($1, $2)`

// stage copies what is needed. It takes its time, and nobody waits for it.
func (r *retention) stage(ctx context.Context, d days) (events int64, err error) {
	err = pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, stageSQL, d.First, d.Last).Scan(&events)
	})
	if err != nil {
		return 0, fmt.Errorf("stage what is needed of %s: %w", d, err)
	}
	r.reaching.at(trimStaged)
	return events, nil
}

var (
	errStale = errors.New("something that was not staged is needed now")
	errBusy  = errors.New("the tables are in use")
)

const (
	// The swap wants the tables for itself, for milliseconds. Whoever comes
	// meanwhile queues behind the wait for them, so the wait is short and given up.
	shortLockWaitSQL = `SET LOCAL lock_timeout = '100ms'`
	swapSQL          = `SELECT posthorn.swap_days($1, $2)`
)

// swap puts what was staged in the days' place, or returns errStale or errBusy.
func (r *retention) swap(ctx context.Context, d days) error {
	for range lockTries {
		// READ COMMITTED, whatever the database's default: with the locks comes a newer look.
		err := pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, shortLockWaitSQL); err != nil {
				return err
			}
			var fresh bool
			if err := tx.QueryRow(ctx, swapSQL, d.First, d.Last).Scan(&fresh); err != nil {
				return err
			}
			if !fresh {
				return errStale
			}
			r.reaching.at(trimUncommitted)
			return nil
		})
		switch {
		case err == nil:
			r.reaching.at(trimCommitted)
			return nil
		case !isLockConflict(err):
			return fmt.Errorf("trim %s: %w", d, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("trim %s: %w", d, ctx.Err())
		case <-time.After(r.pause):
		}
	}
	return errBusy
}

// isLockConflict reports that a lock could not be had in time, or only by somebody
// else's loss.
func isLockConflict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01") // lock_not_available, deadlock_detected
}

// What is detached, and what was staged and never used.
const goneSQL = `SELECT c.relname::text FROM pg_class c JOIN posthorn.partitioned_tables t ON c.relname ~ ('^' || t.name || '_\d{8}.*_(gone|new)$')
	WHERE c.relnamespace = 'posthorn'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition ORDER BY 1`

// dropGone drops the tables that are partitions no longer: to delete their files may
// take long, and here it keeps nobody waiting.
func (r *retention) dropGone(ctx context.Context) error {
	rows, err := r.pool.Query(ctx, goneSQL)
	if err != nil {
		return fmt.Errorf("list detached days: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list detached days: %w", err)
	}
	for _, name := range names {
		if _, err := r.pool.Exec(ctx, `DROP TABLE IF EXISTS `+pgx.Identifier{"posthorn", name}.Sanitize()); err != nil {
			return fmt.Errorf("drop %s: %w", name, err)
		}
	}
	return nil
}
