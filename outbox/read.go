package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotFound is the error for an event that does not exist, has aged out, or
// belongs to a tenant outside the caller's sight.
var ErrNotFound = errors.New("event not found")

// Reader reads committed events. It is safe for concurrent use.
type Reader struct {
	pool *pgxpool.Pool
}

// NewReader makes a Reader. The pool stays the caller's to close.
func NewReader(pool *pgxpool.Pool) *Reader { return &Reader{pool: pool} }

const maxPayloadSQL = `SELECT posthorn.max_payload_bytes()`

// MaxPayloadBytes is the largest payload that the outbox takes, in bytes, as
// posthorn.set_max_payload_bytes has set it.
func (r *Reader) MaxPayloadBytes(ctx context.Context) (int64, error) {
	var n int64
	if err := r.pool.QueryRow(ctx, maxPayloadSQL).Scan(&n); err != nil {
		return 0, fmt.Errorf("read the payload limit: %w", err)
	}
	return n, nil
}

// Stored is an event as the outbox has it.
type Stored struct {
	// ID names the event.
	ID EventID
	// TenantID is the event's tenant.
	TenantID string
	// EventType is the event's type.
	EventType string
	// Payload is its JSON, byte for byte; Reader.List leaves it nil.
	Payload []byte
	// OrderingKey, IdempotencyKey and Traceparent are the producer's; empty
	// where it set none.
	OrderingKey, IdempotencyKey, Traceparent string
	// OccurredAt is when the producer says that it happened.
	OccurredAt time.Time
	// CreatedAt is the start of the producer's transaction, by the database's
	// clock.
	CreatedAt time.Time
}

const storedColumns = `id, tenant_id, event_type, coalesce(ordering_key, '') AS ordering_key,
	coalesce(idempotency_key, '') AS idempotency_key, coalesce(traceparent, '') AS traceparent,
	occurred_at, created_at`

// A producer that brings ids of its own may have used one twice; the first counts.
const getEventSQL = `SELECT ` + storedColumns + `, payload::text AS payload
	FROM posthorn.outbox WHERE id = $1 AND ($2 = '' OR tenant_id = $2)
	ORDER BY created_at LIMIT 1`

// Get returns an event of the tenant, or of any when tenantID is empty. It
// returns an error for which errors.Is(err, ErrNotFound) is true when there is
// none.
func (r *Reader) Get(ctx context.Context, tenantID string, id EventID) (Stored, error) {
	rows, err := r.pool.Query(ctx, getEventSQL, id, tenantID)
	if err != nil {
		return Stored{}, fmt.Errorf("get event %s: %w", id, err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Stored])
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Stored{}, fmt.Errorf("get event %s: %w", id, err)
	}
	return e, nil
}

// Filter selects events; the zero Filter all of them.
type Filter struct {
	// TenantID, unless empty, is the events' tenant.
	TenantID string
	// EventType, unless empty, is exactly the events' type.
	EventType string
	// Since and Until, unless zero, bound CreatedAt: at Since or later, before
	// Until.
	Since, Until time.Time
	// Before, unless its ID is zero, is an event that all of them are older than.
	Before Place
}

// Place is where an event stands in a list.
type Place struct {
	// CreatedAt and ID are the event's.
	CreatedAt time.Time
	ID        EventID
}

// Place says where the event stands in a list.
func (e Stored) Place() Place { return Place{e.CreatedAt, e.ID} }

// List returns up to limit events, newest first, without their payloads. Those
// of one tenant are ordered by their time of creation; those of all tenants by
// their ids, which is the same except for ids that producers made themselves.
func (r *Reader) List(ctx context.Context, f Filter, limit int) ([]Stored, error) {
	sql, args := f.query(limit)
	rows, err := r.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stored])
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return list, nil
}

// query puts only the conditions in force into the statement, so that each
// combination gets a plan of its own.
func (f Filter) query(limit int) (string, []any) {
	var conditions []string
	var args []any
	where := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		conditions = append(conditions, condition)
	}
	if f.TenantID != "" {
		where("tenant_id = ?", f.TenantID)
	}
	if f.EventType != "" {
		where("event_type = ?", f.EventType)
	}
	if !f.Since.IsZero() {
		where("created_at >= ?", f.Since)
	}
	if !f.Until.IsZero() {
		where("created_at < ?", f.Until)
	}
	// All tenants' events have no index by time, which every producer would pay
	// for; the primary key has their ids.
	order := "id DESC, created_at DESC"
	switch before := f.Before; {
	case f.TenantID != "":
		order = "created_at DESC, id DESC"
		if !before.ID.IsZero() {
			// The first half alone lets PostgreSQL leave out the younger partitions.
			where("created_at <= ? AND (created_at, id) < (?, ?)", before.CreatedAt, before.CreatedAt, before.ID)
		}
	case !before.ID.IsZero():
		where("(id, created_at) < (?, ?)", before.ID, before.CreatedAt)
	}
	sql := `SELECT ` + storedColumns + `, NULL::text AS payload FROM posthorn.outbox`
	if conditions != nil {
		sql += ` WHERE ` + strings.Join(conditions, ` AND `)
	}
	args = append(args, limit)
	return sql + fmt.Sprintf(` ORDER BY %s LIMIT $%d`, order, len(args)), args
}
