package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/typeid"
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

// DeliveryFilter selects deliveries; the zero filter all of them.
type DeliveryFilter struct {
	// TenantID, unless empty, is the endpoints' tenant.
	TenantID string
	// EndpointID, unless zero, is the endpoint.
	EndpointID subscriptions.EndpointID
	// EventID, unless zero, is the event.
	EventID outbox.EventID
	// EventType, unless empty, is exactly the event's type.
	EventType string
	// Status, unless empty, is the deliveries' state.
	Status Status
	// ResponseStatus, unless zero, is the HTTP status that answered the last attempt.
	ResponseStatus int
	// Since and Until, unless zero, bound the time of creation, to the
	// millisecond: at Since or later, before Until.
	Since, Until time.Time
	// Before, unless zero, is a delivery that all of them are older than.
	Before DeliveryID
}

// query puts only the conditions in force into the statement, so that each
// combination gets a plan of its own, on the index that suits it.
func (f DeliveryFilter) query(limit int) (string, []any) {
	var c conditions
	if f.TenantID != "" {
		c.add("tenant_id = ?", f.TenantID)
	}
	if !f.EndpointID.IsZero() {
		c.add("endpoint_id = ?", f.EndpointID)
	}
	if !f.EventID.IsZero() {
		c.add("event_id = ?", f.EventID)
	}
	if f.EventType != "" {
		c.add("event_type = ?", f.EventType)
	}
	if f.Status != "" {
		c.add("status = ?", f.Status)
	}
	if f.ResponseStatus != 0 {
		c.add("last_response_status = ?", f.ResponseStatus)
	}
	if floor := idFloor(f.Since); !floor.IsZero() {
		c.add("id >= ?", floor)
	}
	if !f.Until.IsZero() {
		// Before 1970 the floor is the zero id, which is NULL: nothing is smaller.
		c.add("id < ?", idFloor(f.Until))
	}
	if !f.Before.IsZero() {
		c.add("id < ?", f.Before)
	}
	const columns = `SELECT ` + deliveryColumns + ` FROM posthorn.deliveries`
	if f.TenantID == "" || !f.EndpointID.IsZero() || !f.EventID.IsZero() {
		return c.newest(columns, limit)
	}
	c.texts = append(c.texts, "endpoint_id = of_tenant.endpoint_id")
	newest, args := c.newest(columns, limit)
	return fmt.Sprintf(byTenantFormat, newest, len(args)), args
}

// Deliveries have no index by tenant, which each of them would have to be
// entered into. A tenant's are the newest of those of its few endpoints, deleted
// ones too, which the endpoints' versions remember.
const byTenantFormat = `SELECT d.* FROM
	(SELECT DISTINCT endpoint_id FROM posthorn.endpoint_versions WHERE tenant_id = $1) of_tenant
	CROSS JOIN LATERAL (%s) d ORDER BY id DESC LIMIT $%d`

// idFloor is the least id of a time. Ids hold milliseconds since 1970, so that
// earlier times have no floor: the zero id.
func idFloor(at time.Time) DeliveryID {
	if at.Before(time.UnixMilli(1)) {
		return DeliveryID{}
	}
	return typeid.Floor[deliveryKind](at)
}

// Deliveries returns up to limit deliveries, newest first.
func (l *Log) Deliveries(ctx context.Context, f DeliveryFilter, limit int) ([]Delivery, error) {
	sql, args := f.query(limit)
	list, err := collect[Delivery](ctx, l.pool, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

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

// conditions are those of a WHERE clause, with their arguments.
type conditions struct {
	texts []string
	args  []any
}

// add puts the argument's number in place of the question mark.
func (c *conditions) add(condition string, arg any) {
	c.args = append(c.args, arg)
	c.texts = append(c.texts, strings.Replace(condition, "?", fmt.Sprintf("$%d", len(c.args)), 1))
}

// newest completes a statement that lists rows by falling id.
func (c *conditions) newest(sql string, limit int) (string, []any) {
	if c.texts != nil {
		sql += ` WHERE ` + strings.Join(c.texts, ` AND `)
	}
	args := append(c.args, limit)
	return sql + fmt.Sprintf(` ORDER BY id DESC LIMIT $%d`, len(args)), args
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
