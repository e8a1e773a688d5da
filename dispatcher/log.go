package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// Log reads what became of events: routings, deliveries, attempts and dead
// letters. A tenant id limits what is seen to that tenant's endpoints; the empty
// one sees all. Log is safe for concurrent use.
type Log struct {
	pool *pgxpool.Pool
}

// NewLog makes a Log. The pool stays the caller's to close.
func NewLog(pool *pgxpool.Pool) *Log { return &Log{pool: pool} }

// Delivery is one event for one endpoint.
type Delivery struct {
	// ID names the delivery.
	ID DeliveryID
	// EventID and EventType are the event's.
	EventID   outbox.EventID
	EventType string
	// EndpointID is where it goes, TenantID the endpoint's tenant.
	EndpointID subscriptions.EndpointID
	TenantID   string
	// Status is the one state that it is in.
	Status Status
	// Attempts counts all attempts, over retries and replays too.
	Attempts int
	// NextAttemptAt is nil while the first attempt is under way and when the
	// delivery is finished.
	NextAttemptAt *time.Time
	// LastResponseStatus is the HTTP status that answered the last attempt, nil
	// when none did.
	LastResponseStatus *int
	// LastErrorKind and LastError say why the last attempt failed; empty when it
	// did not.
	LastErrorKind ErrorKind
	LastError     string
	// CreatedAt is when the event was matched to the endpoint.
	CreatedAt time.Time
	// FinishedAt is when it was delivered, died or was cancelled; nil before.
	FinishedAt *time.Time
}

const deliveryColumns = `id, event_id, event_type, endpoint_id, tenant_id, status, attempts, next_attempt_at,
	last_response_status, coalesce(last_error_kind, '') AS last_error_kind, coalesce(last_error, '') AS last_error,
	created_at, finished_at`

const getDeliverySQL = `SELECT ` + deliveryColumns + ` FROM posthorn.deliveries
	WHERE id = $1 AND ($2 = '' OR tenant_id = $2)`

// Delivery returns a delivery, or an error for which errors.Is(err, ErrNotFound)
// is true.
func (l *Log) Delivery(ctx context.Context, tenantID string, id DeliveryID) (Delivery, error) {
	d, err := collectOne[Delivery](ctx, l.pool, getDeliverySQL, id, tenantID)
	if err != nil {
		return Delivery{}, fmt.Errorf("get delivery %s: %w", id, err)
	}
	return d, nil
}

// Routing is the relay's record of an event.
type Routing struct {
	// Matched is how many deliveries the event became.
	Matched int
	// Revision is the subscriptions' revision that it was matched against.
	Revision int64
	// RoutedAt is when.
	RoutedAt time.Time
}

const routingSQL = `SELECT matched, revision, routed_at FROM posthorn.routings WHERE event_id = $1 AND created_at = $2`

// Routing returns an event's routing, or an error for which
// errors.Is(err, ErrNotFound) is true while it waits to be routed.
func (l *Log) Routing(ctx context.Context, event outbox.Place) (Routing, error) {
	r, err := collectOne[Routing](ctx, l.pool, routingSQL, event.ID, event.CreatedAt)
	if err != nil {
		return Routing{}, fmt.Errorf("get routing of %s: %w", event.ID, err)
	}
	return r, nil
}

const byEventSQL = `SELECT ` + deliveryColumns + ` FROM posthorn.deliveries
	WHERE event_id = $1 AND ($2 = '' OR tenant_id = $2) ORDER BY id LIMIT $3`

// ByEvent returns up to limit deliveries of an event, in the order of the
// endpoints that they go to.
func (l *Log) ByEvent(ctx context.Context, tenantID string, id outbox.EventID, limit int) ([]Delivery, error) {
	list, err := collect[Delivery](ctx, l.pool, byEventSQL, id, tenantID, limit)
	if err != nil {
		return nil, fmt.Errorf("list deliveries of %s: %w", id, err)
	}
	return list, nil
}

func collect[T any](ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) ([]T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// collectOne gives ErrNotFound for no row.
func collectOne[T any](ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, err
	}
	one, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return one, ErrNotFound
	}
	return one, err
}
