package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/outbox/outboxotel"
	"github.com/posthorn/posthorn/subscriptions"
)

// PublishEvent implements POST /v1/events.
func (h handlers) PublishEvent(ctx context.Context, r PublishEventRequestObject) (PublishEventResponseObject, error) {
	tenant, err := newTenant(ctx, r.Body.TenantID)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(r.Body.EventType, subscriptions.OperationalPrefix) {
		return nil, invalid(fault("/event_type", `is reserved: types that begin with "`+subscriptions.OperationalPrefix+`" are published by Posthorn itself`))
	}
	e := outbox.Event{
		TenantID: tenant, Type: r.Body.EventType, Payload: r.Body.Payload,
		OrderingKey: orZero(r.Body.OrderingKey), IdempotencyKey: cmp.Or(orZero(r.Body.IdempotencyKey), orZero(r.Params.IdempotencyKey)),
		Traceparent: orZero(r.Body.Traceparent), OccurredAt: orZero(r.Body.OccurredAt),
	}
	var id outbox.EventID
	err = pgx.BeginFunc(ctx, h.config.Pool, func(tx pgx.Tx) error {
		id, err = outboxotel.PublishWith(ctx, h.config.TracerProvider, tx, e)
		return err
	})
	if errors.Is(err, outbox.ErrInvalid) {
		return nil, refused(err)
	} else if err != nil {
		return nil, err
	}
	return PublishEvent202JSONResponse{ID: id.String(), Object: "event", TenantID: e.TenantID, EventType: e.Type}, nil
}

// refused tells the client why the database has not taken an event. Our own
// checks say why, and begin with the field's name.
func refused(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return invalid(fault("", "is not accepted"))
	}
	switch pg.Code {
	case "23514": // check_violation
		reason := strings.TrimPrefix(pg.Message, "posthorn: ")
		field, rest, _ := strings.Cut(reason, " ")
		if strings.HasPrefix(reason, "payload has ") {
			return problem("too_large", "The "+reason+".")
		}
		return invalid(fault("/"+field, rest))
	case "54001": // statement_too_complex
		return invalid(fault("/payload", "is nested too deeply"))
	}
	return invalid(fault("/payload", "is not JSON as PostgreSQL accepts it"))
}

// ListEvents implements GET /v1/events.
func (h handlers) ListEvents(ctx context.Context, r ListEventsRequestObject) (ListEventsResponseObject, error) {
	tenant, err := listTenant(ctx, r.Params.TenantID)
	if err != nil {
		return nil, err
	}
	l := list{"events", scope(ctx)}
	before, err := eventPlace(l, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := limitOf(r.Params.Limit)
	found, lookedTo, err := h.events.List(ctx, outbox.Filter{
		TenantID: tenant, EventType: orZero(r.Params.EventType),
		Since: orZero(r.Params.Since), Until: orZero(r.Params.Until), Before: before,
	}, limit+1)
	if err != nil {
		return nil, err
	}
	p := pageOf(found, limit, showEvent, func(e outbox.Stored) *string { return eventCursor(l, e.Place()) })
	if !lookedTo.ID.IsZero() {
		p.goOn(eventCursor(l, lookedTo))
	}
	return ListEvents200JSONResponse{Data: p.data, NextCursor: p.next, HasMore: p.more}, nil
}

func showEvent(e outbox.Stored) Event {
	return Event{
		ID: e.ID.String(), Object: "event", TenantID: e.TenantID, EventType: e.EventType,
		OccurredAt: e.OccurredAt.UTC(), CreatedAt: e.CreatedAt.UTC(),
		IdempotencyKey: orNull(e.IdempotencyKey), OrderingKey: orNull(e.OrderingKey),
	}
}

// GetEvent implements GET /v1/events/{id}.
func (h handlers) GetEvent(ctx context.Context, r GetEventRequestObject) (GetEventResponseObject, error) {
	id, err := outbox.ParseEventID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	e, err := h.events.Get(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	shown := EventDetail{
		ID: e.ID.String(), Object: "event", TenantID: e.TenantID, EventType: e.EventType,
		OccurredAt: e.OccurredAt.UTC(), CreatedAt: e.CreatedAt.UTC(),
		IdempotencyKey: orNull(e.IdempotencyKey), OrderingKey: orNull(e.OrderingKey),
		Traceparent: orNull(e.Traceparent), Payload: e.Payload,
	}
	if err := h.decide(ctx, e, &shown); err != nil {
		return nil, err
	}
	return verbatimEvent(shown), nil
}

// verbatimEvent is an event whose payload is written byte for byte: encoding/json
// would take the white space out of it.
type verbatimEvent EventDetail

// VisitGetEventResponse implements GetEventResponseObject.
func (e verbatimEvent) VisitGetEventResponse(w http.ResponseWriter) error {
	head, err := json.Marshal(struct {
		EventDetail
		Payload any `json:"payload,omitempty"` // hides the other one
	}{EventDetail: EventDetail(e)})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	for _, part := range [][]byte{head[:len(head)-1], []byte(`,"payload":`), e.Payload, []byte("}\n")} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
