package dispatcher

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// Attempt is one POST of a delivery whose result was recorded.
type Attempt struct {
	// Number counts the delivery's attempts from 1, over retries and replays too.
	Number int
	// StartedAt is when it began, Duration how long it took.
	StartedAt time.Time
	Duration  time.Duration
	// URL is where it was POSTed.
	URL string
	// RequestHeaders are those sent, in their order.
	RequestHeaders []Header
	// RequestBody is what was sent, made again from the event; nil when the
	// event has aged out.
	RequestBody []byte
	// ResponseStatus is the answer's HTTP status; nil when none came, and then
	// ResponseHeaders and ResponseBody are nil too.
	ResponseStatus *int
	// ResponseHeaders are the answer's, in their order.
	ResponseHeaders []Header
	// ResponseBody is the first 16 KiB of the answer.
	ResponseBody []byte
	// ErrorKind and Error say why it failed; empty when it succeeded.
	ErrorKind ErrorKind
	Error     string
}

// Header is one line of HTTP headers.
type Header struct {
	// Name is as it was on the wire.
	Name string
	// Value has no outer white space.
	Value string
}

// attemptRow is a row of posthorn.attempts with the version of the endpoint that
// was in force.
type attemptRow struct {
	Number          int
	StartedAt       time.Time
	DurationUs      int64
	URL             string
	PayloadFormat   subscriptions.PayloadFormat
	RequestHeaders  string
	ResponseStatus  *int
	ResponseHeaders *string
	ResponseBody    []byte
	ErrorKind       ErrorKind
	Error           string
}

const attemptsSQL = `
	SELECT a.number, a.started_at, a.duration_us, v.url, v.payload_format, a.request_headers,
	       a.response_status, a.response_headers, a.response_body,
	       coalesce(a.error_kind, '') AS error_kind, coalesce(a.error, '') AS error
	FROM posthorn.attempts a
	JOIN posthorn.endpoint_versions v ON v.endpoint_id = $2 AND v.version = a.endpoint_version
	WHERE a.delivery_id = $1 AND ($3 = 0 OR a.number < $3)
	ORDER BY a.number DESC LIMIT $4`

const attemptedEventSQL = `
	SELECT o.id, o.tenant_id, o.event_type AS type, o.occurred_at, o.payload::text AS payload
	FROM posthorn.deliveries d
	JOIN posthorn.outbox o ON o.id = d.event_id AND o.created_at = d.event_created_at
	WHERE d.id = $1`

// maxAttemptBytes bounds the request bodies that one call of Attempts returns.
const maxAttemptBytes = 8 << 20

// Attempts returns up to limit attempts of a delivery with numbers below before,
// newest first; before 0 begins with the newest. It returns fewer, but one at
// least, when their request bodies would exceed 8 MiB; more says whether there
// are others. For a delivery that is not there it returns an error for which
// errors.Is(err, ErrNotFound) is true.
func (l *Log) Attempts(ctx context.Context, tenantID string, id DeliveryID, before, limit int) (page []Attempt, more bool, err error) {
	d, err := l.Delivery(ctx, tenantID, id)
	if err != nil {
		return nil, false, fmt.Errorf("list attempts: %w", err)
	}
	rows, err := collect[attemptRow](ctx, l.pool, attemptsSQL, id, d.EndpointID, before, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("list attempts of %s: %w", id, err)
	}
	// The event is read once: its attempts differ only in the format.
	events, err := collect[BodyEvent](ctx, l.pool, attemptedEventSQL, id)
	if err != nil {
		return nil, false, fmt.Errorf("read the event of %s: %w", id, err)
	}
	bodies := map[subscriptions.PayloadFormat][]byte{}
	size := 0
	for i, row := range rows {
		a := row.attempt()
		if len(events) > 0 {
			if bodies[row.PayloadFormat] == nil {
				bodies[row.PayloadFormat] = Body(row.PayloadFormat, events[0])
			}
			a.RequestBody = bodies[row.PayloadFormat]
		}
		size += len(a.RequestBody)
		if i == limit || i > 0 && size > maxAttemptBytes {
			return page, true, nil
		}
		page = append(page, a)
	}
	return page, false, nil
}

func (r attemptRow) attempt() Attempt {
	a := Attempt{
		Number: r.Number, StartedAt: r.StartedAt, Duration: time.Duration(r.DurationUs) * time.Microsecond,
		URL: r.URL, RequestHeaders: parseHeaders(r.RequestHeaders),
		ResponseStatus: r.ResponseStatus, ResponseBody: r.ResponseBody,
		ErrorKind: r.ErrorKind, Error: r.Error,
	}
	if r.ResponseHeaders != nil {
		a.ResponseHeaders = parseHeaders(*r.ResponseHeaders)
	}
	return a
}

// parseHeaders reads lines of the form "name: value".
func parseHeaders(lines string) []Header {
	headers := []Header{}
	for line := range strings.Lines(lines) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			headers = append(headers, Header{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return headers
}
