package api

import (
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
)

// ListAttempts implements GET /v1/deliveries/{id}/attempts.
func (h handlers) ListAttempts(ctx context.Context, r ListAttemptsRequestObject) (ListAttemptsResponseObject, error) {
	id, err := dispatcher.ParseDeliveryID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	l := list{"attempts of " + id.String(), scope(ctx)}
	place, err := l.place(r.Params.Cursor, 4)
	if err != nil {
		return nil, err
	}
	before := 0
	if place != nil {
		before = int(binary.BigEndian.Uint32(place))
	}
	found, more, err := h.log.Attempts(ctx, scope(ctx), id, before, limitOf(r.Params.Limit))
	if err != nil {
		return nil, err
	}
	shown := AttemptList{Data: make([]Attempt, 0, len(found)), HasMore: more}
	for _, a := range found {
		shown.Data = append(shown.Data, showAttempt(a))
	}
	if more {
		last := found[len(found)-1].Number
		shown.NextCursor = l.cursor(binary.BigEndian.AppendUint32(nil, uint32(last)))
	}
	return ListAttempts200JSONResponse(shown), nil
}

func showAttempt(a dispatcher.Attempt) Attempt {
	return Attempt{
		Number: a.Number, Object: "attempt", StartedAt: a.StartedAt.UTC(),
		DurationMs: a.Duration.Round(time.Millisecond).Milliseconds(), URL: a.URL,
		RequestHeaders: showHeaders(a.RequestHeaders), RequestBody: showBody(a.RequestBody),
		ResponseStatus: a.ResponseStatus, ResponseHeaders: showHeaders(a.ResponseHeaders), ResponseBody: showBody(a.ResponseBody),
		ErrorKind: orNull(a.ErrorKind), Error: orNull(a.Error),
	}
}

// showBody shows bytes as text, with U+FFFD for what is not UTF-8.
func showBody(b []byte) *string {
	if b == nil {
		return nil
	}
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	return &text
}

// headerMap is HTTP headers as JSON shows them: a text, or a list of texts for
// a name that came several times. It is null when it is nil.
type headerMap map[string]any

func showHeaders(lines []dispatcher.Header) headerMap {
	if lines == nil {
		return nil
	}
	m := make(headerMap, len(lines))
	for _, h := range lines {
		value := strings.ToValidUTF8(h.Value, "\uFFFD")
		switch before := m[h.Name].(type) {
		case nil:
			m[h.Name] = value
		case string:
			m[h.Name] = []string{before, value}
		case []string:
			m[h.Name] = append(before, value)
		}
	}
	return m
}
