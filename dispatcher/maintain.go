package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
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
	reaching  reaching
}

const (
	createPartitionsSQL = `SELECT posthorn.create_partitions()`

	forgetHealthSQL = `DELETE FROM posthorn.endpoint_health WHERE endpoint_id IN (SELECT id FROM posthorn.endpoints WHERE deleted_at IS NOT NULL)`
	forgetRatesSQL  = `DELETE FROM posthorn.endpoint_rates WHERE endpoint_id IN (SELECT id FROM posthorn.endpoints WHERE deleted_at IS NOT NULL)`

	// Producers are promised 24 hours; the second day is for clocks and holidays.
	forgetKeysSQL = `DELETE FROM posthorn.outbox_keys WHERE created_at < now() - interval '48 hours'`

	// Those that nobody has dealt with stay, however old.
	forgetResolvedSQL = `DELETE FROM posthorn.dead_letters WHERE resolved_at < now() - interval '90 days'`
)

// Work implements river.Worker.
func (m *maintainer) Work(ctx context.Context, _ *river.Job[maintainArgs]) error {
	for _, statement := range []string{createPartitionsSQL, forgetKeysSQL, forgetHealthSQL, forgetRatesSQL, forgetResolvedSQL} {
		if _, err := m.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("maintain tables: %w", err)
		}
	}
	if m.retention == 0 {
		return nil
	}
	if err := m.dropOldDays(ctx); err != nil {
		return err
	}
	return m.forgetEndpoints(ctx)
}

// Timeout implements river.Worker: a day may be large, and its files too.
func (m *maintainer) Timeout(*river.Job[maintainArgs]) time.Duration { return maintainTime }

// maintainTime is how long a run may take.
const maintainTime = 15 * time.Minute

const aloneSQL = `SELECT pg_try_advisory_lock(hashtextextended('posthorn.retention', 0))`

// dropOldDays drops what is past the retention, in one process at a time.
func (m *maintainer) dropOldDays(ctx context.Context) error {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("drop old days: %w", err)
	}
	lock := conn.Hijack()                        // its end lets go of the lock, however it comes
	defer lock.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
	var alone bool
	if err := lock.QueryRow(ctx, aloneSQL).Scan(&alone); err != nil {
		return fmt.Errorf("drop old days: %w", err)
	}
	if !alone {
		return nil
	}
	r := &retention{pool: m.pool, keep: m.retention, limit: mostNeeded, pause: time.Second, logger: m.logger, reaching: m.reaching}
	return r.run(ctx)
}

// Who has changed and has deliveries from before a moment.
const inUseSQL = `SELECT e.id FROM posthorn.endpoints e WHERE e.version > 1
	AND EXISTS (SELECT FROM posthorn.deliveries d WHERE d.endpoint_id = e.id AND d.id < $1) ORDER BY e.id`

// forgetAfter is how much longer than its deliveries an endpoint is known: days are
// dropped whole.
const forgetAfter = 48 * time.Hour

// forgetEndpoints removes deleted endpoints and past versions, once nothing that is
// stored is of them.
func (m *maintainer) forgetEndpoints(ctx context.Context) error {
	before := time.Now().Add(-m.retention - forgetAfter)
	rows, err := m.pool.Query(ctx, inUseSQL, floor(before))
	if err != nil {
		return fmt.Errorf("list endpoints in use: %w", err)
	}
	inUse, err := pgx.CollectRows(rows, pgx.RowTo[subscriptions.EndpointID])
	if err != nil {
		return fmt.Errorf("list endpoints in use: %w", err)
	}
	if inUse == nil {
		inUse = []subscriptions.EndpointID{} // NULL would compare with nothing
	}
	return subscriptions.Forget(ctx, m.pool, before, inUse)
}
