package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

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
