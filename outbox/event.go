package outbox

import (
	"encoding/json"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
)

// EventID names an event: evt_ and 26 base32 characters outside, a uuid inside.
type EventID = typeid.ID[eventKind]

type eventKind struct{}

// Prefix makes the kind of id that EventID is.
func (eventKind) Prefix() string { return "evt" }

// ParseEventID reads the outside form of an event's id.
func ParseEventID(s string) (EventID, error) { return typeid.Parse[eventKind](s) }

// DefaultTenant is the tenant of an event that names none.
const DefaultTenant = "default"

// Event is what a producer says of one thing that happened. Only Type and
// Payload must be set.
type Event struct {
	// ID is the event's id, for producers that make their own; the zero ID has
	// the database make a time-ordered one.
	ID EventID

	// TenantID names the merchant, shop or account that the event belongs to: 1
	// to 255 characters, not "*". Empty means DefaultTenant.
	TenantID string

	// Type is dot-separated names of letters, digits and underscores, such as
	// "order.paid"; at most 255 characters.
	Type string

	// Payload is JSON. It is kept and delivered byte for byte. At most 256 KiB,
	// unless posthorn.set_max_payload_bytes has set another limit.
	Payload json.RawMessage

	// OrderingKey groups events that endpoints with ordering "key" receive one
	// after the other, in commit order. Empty means no order.
	OrderingKey string

	// IdempotencyKey makes a repeated publication harmless: unique in a tenant
	// for at least 24 hours. Empty means none.
	IdempotencyKey string

	// Traceparent is the W3C trace context to carry to the receivers. Empty
	// means none; package outboxotel takes it from the context.
	Traceparent string

	// OccurredAt is when it happened. The zero time means now.
	OccurredAt time.Time
}
