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
	l := look{table: "posthorn.dead_letters", columns: deadLetterColumns}
	open := "resolved_at IS NULL"
	if f.Resolved {
		open = "resolved_at IS NOT NULL"
	}
	s := stream{where: []string{open}}
	switch {
	case !f.EndpointID.IsZero() && f.TenantID != "":
		l.endpoints = "SELECT DISTINCT endpoint_id FROM posthorn.endpoint_versions WHERE " +
			l.arg("tenant_id = ?", f.TenantID) + l.arg(" AND endpoint_id = ?", f.EndpointID)
	case !f.EndpointID.IsZero():
		s.where = append(s.where, l.arg("endpoint_id = ?", f.EndpointID))
	case f.TenantID != "":
		s.where = append(s.where, l.arg("tenant_id = ?", f.TenantID))
	}
	if f.EventType != "" {
		l.match("event_type = ?", f.EventType)
	}
	if !f.Before.IsZero() {
		l.within("id < ?", f.Before)
	}
	l.streams, l.all = []stream{s}, f.EventType == ""
	return l.statement(limit)
}

// lookedDeadLetter is a row of a list's statement.
type lookedDeadLetter struct {
	DeadLetter
	LookedTo bool
}

// DeadLetters returns up to limit dead letters, newest first. It looks at a bounded
// number of those stored: when that was not enough, lookedTo is the oldest that it has
// looked at, and a filter with Before at lookedTo goes on.
func (l *Log) DeadLetters(ctx context.Context, f DeadLetterFilter, limit int) (list []DeadLetter, lookedTo DeadLetterID, err error) {
	sql, args := f.query(limit)
	list, stopped, err := takeLook(ctx, l.pool, sql, args, func(d lookedDeadLetter) (DeadLetter, bool) { return d.DeadLetter, d.LookedTo })
	if err != nil {
		return nil, DeadLetterID{}, fmt.Errorf("list dead letters: %w", err)
	}
	if stopped != nil {
		lookedTo = stopped.ID
	}
	return list, lookedTo, nil
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
