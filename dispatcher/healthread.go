package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// EndpointHealth is what is known of an endpoint's receiver. All times are the
// database's.
type EndpointHealth struct {
	// Breaker is closed, open or half_open: the endpoint is sent to, its deliveries
	// wait, or one is under way to see whether it answers again.
	Breaker string
	// Reason says why the breaker is not closed, failures or retry_after; empty when
	// it is.
	Reason string
	// ConsecutiveFailures counts the failed attempts since the last success, and
	// FailingSince is when the first of them was; nil when there was none.
	ConsecutiveFailures int
	FailingSince        *time.Time
	// OpenUntil is when an open breaker lets a delivery through, or a half-open one
	// another; nil when it is closed.
	OpenUntil *time.Time
	// LastSuccessAt and LastFailureAt are the last that were noted, which of an
	// endpoint without trouble none are: nil then.
	LastSuccessAt, LastFailureAt *time.Time
}

// A row of another epoch is of a URL that is not the endpoint's any more, or of
// before its resumption.
const endpointHealthSQL = `
	SELECT h.endpoint_id, h.breaker, coalesce(h.reason, ''), h.consecutive_failures, h.failing_since,
		h.open_until, h.last_success_at, h.last_failure_at
	FROM posthorn.endpoint_health h JOIN posthorn.endpoints e ON e.id = h.endpoint_id AND e.health_epoch = h.epoch
	WHERE h.endpoint_id = ANY($1)`

// Health returns the health of each of the endpoints; one of which nothing is known
// has a closed breaker. Whether the caller may see them is the caller's to check.
func (l *Log) Health(ctx context.Context, ids []subscriptions.EndpointID) (map[subscriptions.EndpointID]EndpointHealth, error) {
	all := make(map[subscriptions.EndpointID]EndpointHealth, len(ids))
	for _, id := range ids {
		all[id] = EndpointHealth{Breaker: "closed"}
	}
	rows, err := l.pool.Query(ctx, endpointHealthSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("read the health of %d endpoints: %w", len(ids), err)
	}
	var id subscriptions.EndpointID
	var h EndpointHealth
	columns := []any{&id, &h.Breaker, &h.Reason, &h.ConsecutiveFailures, &h.FailingSince,
		&h.OpenUntil, &h.LastSuccessAt, &h.LastFailureAt}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		all[id] = h
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the health of %d endpoints: %w", len(ids), err)
	}
	return all, nil
}

// MaxWaiting is the most that EndpointWaiting counts to: it stands for more than
// 10,000, which would take too long to count.
const MaxWaiting = 10_001

// maxWaitingRead bounds the deliveries that are looked at for those that are due.
const maxWaitingRead = 10 * MaxWaiting

// EndpointWaiting is how many deliveries wait for an endpoint, each counted up to
// MaxWaiting.
type EndpointWaiting struct {
	// Backlog is how many are due and in its backlog: it is slow, failing, held back,
	// full, or takes its events in order.
	Backlog int
	// Held is how many wait for it to be resumed.
	Held int
}

// A bitmap would hold all of a backlog before the first row comes out of it.
const planInStepsSQL = `SELECT set_config('enable_bitmapscan', 'off', true)`

// The job may own some that are not due; without a bound on them a poll of an
// endpoint in trouble would read its whole backlog each time. BETWEEN is an
// equality that the planner takes for selective: where few jobs own very many
// deliveries it would rather read everybody's by their time.
const endpointWaitingSQL = `
	SELECT
		(SELECT count(*) FROM (
			SELECT FROM posthorn.backlogs b CROSS JOIN LATERAL (
				SELECT status, next_attempt_at FROM posthorn.deliveries
				WHERE job_id BETWEEN b.job_id AND b.job_id AND next_attempt_at IS NOT NULL LIMIT $3) owned
			WHERE b.endpoint_id = $1 AND next_attempt_at <= now() AND status IN ('pending', 'retrying') LIMIT $2) due)::int,
		(SELECT count(*) FROM (
			SELECT FROM posthorn.deliveries WHERE aside = 'held' AND endpoint_id = $1 LIMIT $2) held)::int`

// Waiting counts what waits for the endpoint. Whether the caller may see it is the
// caller's to check.
func (l *Log) Waiting(ctx context.Context, id subscriptions.EndpointID) (EndpointWaiting, error) {
	var w EndpointWaiting
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, planInStepsSQL); err != nil {
			return err
		}
		return tx.QueryRow(ctx, endpointWaitingSQL, id, MaxWaiting, maxWaitingRead).Scan(&w.Backlog, &w.Held)
	})
	if err != nil {
		return EndpointWaiting{}, fmt.Errorf("count what waits for %s: %w", id, err)
	}
	return w, nil
}
