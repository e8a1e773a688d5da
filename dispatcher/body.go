package dispatcher

import (
	"encoding/json"
	"net/url"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// BodyEvent is what a webhook's body is made of.
type BodyEvent struct {
	// ID is the event's.
	ID outbox.EventID
	// TenantID is the event's tenant.
	TenantID string
	// Type is the event's type.
	Type string
	// OccurredAt is the producer's time of it.
	OccurredAt time.Time
	// Payload is its JSON, which goes into the body byte for byte.
	Payload []byte
}

// Body makes the body of a webhook. The same event gives the same bytes on
// every attempt, so that the log can show what was sent without keeping it.
func Body(format subscriptions.PayloadFormat, e BodyEvent) []byte {
	switch format {
	case subscriptions.Raw:
		return e.Payload
	case subscriptions.CloudEvents:
		return cloudEvent(e)
	default:
		b := make([]byte, 0, len(e.Payload)+len(e.Type)+80)
		b = append(b, `{"type":"`...)
		b = append(b, e.Type...) // letters, digits, underscores and dots
		b = append(b, `","timestamp":"`...)
		b = e.OccurredAt.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, `","data":`...)
		b = append(b, e.Payload...)
		return append(b, '}')
	}
}

// ContentType is the content-type header that goes with a body of the format.
func ContentType(format subscriptions.PayloadFormat) string {
	if format == subscriptions.CloudEvents {
		return "application/cloudevents+json"
	}
	return "application/json"
}

// cloudEvent is a CloudEvents 1.0 event in structured mode. The source names the
// tenant, as a URN because the specification asks for a URI reference.
func cloudEvent(e BodyEvent) []byte {
	head, _ := json.Marshal(struct { // strings alone always marshal
		SpecVersion     string `json:"specversion"`
		ID              string `json:"id"`
		Source          string `json:"source"`
		Type            string `json:"type"`
		Time            string `json:"time"`
		DataContentType string `json:"datacontenttype"`
	}{"1.0", e.ID.String(), "urn:posthorn:" + url.PathEscape(e.TenantID), e.Type,
		e.OccurredAt.UTC().Format(time.RFC3339Nano), "application/json"})
	b := append(head[:len(head)-1], `,"data":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}
