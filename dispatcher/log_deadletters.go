package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// DeadLetter tells of a delivery that exhausted its attempts.
type DeadLetter struct {
	// ID names the dead letter, DeliveryID the delivery.
	ID         DeadLetterID
	DeliveryID DeliveryID
	// EventID and EventType are the event's.
	EventID   outbox.EventID
	EventType string
	// EndpointID is where it could not be delivered, TenantID the endpoint's tenant.
	EndpointID subscriptions.EndpointID
	TenantID   string
	// Attempts is how many had been made.
	Attempts int
	// LastResponseStatus is the HTTP status that answered the last attempt, nil
	// when none did.
	LastResponseStatus *int
	// LastErrorKind and LastError say why the last attempt failed.
	LastErrorKind ErrorKind
	LastError     string
	// Fingerprint is alike for failures with one cause.
	Fingerprint string
	// DeadAt is when the attempts were exhausted.
	DeadAt time.Time
	// ResolvedAt is when somebody dealt with it, nil while it waits.
	ResolvedAt *time.Time
	// Resolution is "replayed" or "discarded", empty while it waits.
	Resolution string
}

const deadLetterColumns = `id, delivery_id, event_id, event_type, endpoint_id, tenant_id, attempts, last_response_status,
	last_error_kind, last_error, fingerprint, dead_at, resolved_at, coalesce(resolution, '') AS resolution`

// DeadLetterFilter selects dead letters; the zero filter all that wait.
type DeadLetterFilter struct {
	// TenantID, unless empty, is the endpoints' tenant.
	TenantID string
	// EndpointID, unless zero, is the endpoint.
	EndpointID subscriptions.EndpointID
	// EventType, unless empty, is exactly the event's type.
	EventType string
	// Resolved selects those that were dealt with instead of those that wait.
	Resolved bool
	// Before, unless zero, is a dead letter that all of them are older than.
	Before DeadLetterID
}

func (f DeadLetterFilter) query(limit int) (string, []any) {
	var c conditions
	if f.TenantID != "" {
		c.add("tenant_id = ?", f.TenantID)
	}
	if !f.EndpointID.IsZero() {
		c.add("endpoint_id = ?", f.EndpointID)
	}
	if f.EventType != "" {
		c.add("event_type = ?", f.EventType)
	}
	if !f.Before.IsZero() {
		c.add("id < ?", f.Before)
	}
	if f.Resolved {
		c.texts = append(c.texts, "resolved_at IS NOT NULL")
	} else {
		c.texts = append(c.texts, "resolved_at IS NULL")
	}
	return c.newest(`SELECT `+deadLetterColumns+` FROM posthorn.dead_letters`, limit)
}

// DeadLetters returns up to limit dead letters, newest first.
func (l *Log) DeadLetters(ctx context.Context, f DeadLetterFilter, limit int) ([]DeadLetter, error) {
	sql, args := f.query(limit)
	list, err := collect[DeadLetter](ctx, l.pool, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return list, nil
}

const getDeadLetterSQL = `SELECT ` + deadLetterColumns + ` FROM posthorn.dead_letters
	WHERE id = $1 AND ($2 = '' OR tenant_id = $2)`

// DeadLetter returns a dead letter, or an error for which
// errors.Is(err, ErrNotFound) is true.
func (l *Log) DeadLetter(ctx context.Context, tenantID string, id DeadLetterID) (DeadLetter, error) {
	d, err := collectOne[DeadLetter](ctx, l.pool, getDeadLetterSQL, id, tenantID)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("get dead letter %s: %w", id, err)
	}
	return d, nil
}
