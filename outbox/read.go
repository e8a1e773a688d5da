package outbox

import (
	"context"
	"errors"
	"fmt"
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
