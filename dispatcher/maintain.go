package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// maintainArgs is the periodic job that keeps the tables in shape.
type maintainArgs struct{}

// Kind names the job for River.
func (maintainArgs) Kind() string { return "maintain" }

type maintainer struct {
	river.WorkerDefaults[maintainArgs]

	pool      *pgxpool.Pool
	retention time.Duration // zero: everything is kept
	logger    *slog.Logger
}

const (
	createPartitionsSQL = `SELECT posthorn.create_partitions()`

	// Producers are promised 24 hours; the second day is for clocks and holidays.
	forgetHealthSQL = `DELETE FROM posthorn.endpoint_health WHERE endpoint_id IN (SELECT id FROM posthorn.endpoints WHERE deleted_at IS NOT NULL)`
	forgetRatesSQL  = `DELETE FROM posthorn.endpoint_rates WHERE endpoint_id IN (SELECT id FROM posthorn.endpoints WHERE deleted_at IS NOT NULL)`

	forgetKeysSQL = `DELETE FROM posthorn.outbox_keys WHERE created_at < now() - interval '48 hours'`
)

// Work implements river.Worker.
func (m *maintainer) Work(ctx context.Context, _ *river.Job[maintainArgs]) error {
	for _, statement := range []string{createPartitionsSQL, forgetKeysSQL, forgetHealthSQL, forgetRatesSQL} {
		if _, err := m.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("maintain tables: %w", err)
		}
	}
	return m.dropOldDays(ctx)
}

const (
	// Dropping a partition wants the tables for itself, for milliseconds. Whoever
	// comes meanwhile queues behind the wait, so the wait is short and given up:
	// there is another try in an hour.
	shortLockWaitSQL = `SET LOCAL lock_timeout = '200ms'`
	dropOldestDaySQL = `SELECT posthorn.drop_oldest_day($1)`
)

// dropOldDays drops the days beyond the retention, one in a transaction, as far as
// all of a day is finished.
func (m *maintainer) dropOldDays(ctx context.Context) error {
	if m.retention == 0 {
		return nil
	}
	for {
		var dropped *time.Time
		err := pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, shortLockWaitSQL); err != nil {
				return err
			}
			return tx.QueryRow(ctx, dropOldestDaySQL, m.retention).Scan(&dropped)
		})
		if err != nil {
			return fmt.Errorf("drop old days: %w", err)
		}
		if dropped == nil {
			return nil
		}
		m.logger.Info("a day beyond the retention was dropped", "day", dropped.Format(time.DateOnly))
	}
}
