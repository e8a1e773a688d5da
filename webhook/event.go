package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrInvalidEvent reports a body that is not an event in the standard payload
// format.
var ErrInvalidEvent = errors.New("webhook: invalid event")

// Event is a body in the standard payload format:
//
//	{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":{…}}
type Event struct {
	// Type says what happened, in words separated by dots: "order.paid".
	Type string `json:"type"`

	// Timestamp is when it happened, which is not when it was sent.
	Timestamp time.Time `json:"timestamp"`

	// Data is the payload, byte for byte as it was published; it may be any JSON
	// value, null too. Encoding an Event compacts it: to keep a signed body, keep
	// its bytes.
	Data json.RawMessage `json:"data"`
}

// ParseEvent reads an [Event] from a verified body. Members it does not know
// are ignored. It returns an error for which errors.Is(err, ErrInvalidEvent) is
// true if the body is not a JSON object, if type, timestamp or data is missing,
// or if timestamp is not in RFC 3339 form. The Event does not share memory with
// body.
func ParseEvent(body []byte) (Event, error) {
	var event Event
	if err := json.Unmarshal(body, &event); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrInvalidEvent, err)
	}
	switch {
	case event.Type == "":
		return Event{}, fmt.Errorf("%w: type is missing", ErrInvalidEvent)
	case event.Timestamp.IsZero():
		return Event{}, fmt.Errorf("%w: timestamp is missing", ErrInvalidEvent)
	case event.Data == nil:
		return Event{}, fmt.Errorf("%w: data is missing", ErrInvalidEvent)
	}
	return event, nil
}
