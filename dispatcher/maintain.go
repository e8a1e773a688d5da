package dispatcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// maintainArgs is the periodic job that keeps the tables in shape.
type maintainArgs struct{}

// Kind names the job for River.
func (maintainArgs) Kind() string { return "maintain" }

type maintainer struct {
	river.WorkerDefaults[maintainArgs]

	pool *pgxpool.Pool
}

const (
	createPartitionsSQL = `SELECT posthorn.create_partitions()`

	// Producers are promised 24 hours; the second day is for clocks and holidays.
	forgetKeysSQL = `DELETE FROM posthorn.outbox_keys WHERE created_at < now() - interval '48 hours'`
)

// Work implements river.Worker.
func (m *maintainer) Work(ctx context.Context, _ *river.Job[maintainArgs]) error {
	for _, statement := range []string{createPartitionsSQL, forgetKeysSQL} {
		if _, err := m.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("maintain tables: %w", err)
		}
	}
	return nil
}
