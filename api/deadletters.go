package api

import (
	"context"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/subscriptions"
)

// ListDeadLetters implements GET /v1/dead-letters.
func (h handlers) ListDeadLetters(ctx context.Context, r ListDeadLettersRequestObject) (ListDeadLettersResponseObject, error) {
	l := list{"dead letters", scope(ctx)}
	f := dispatcher.DeadLetterFilter{EventType: orZero(r.Params.EventType), Resolved: orZero(r.Params.Resolved)}
	var err error
	if f.TenantID, err = listTenant(ctx, r.Params.TenantID); err != nil {
		return nil, err
	}
	if f.EndpointID, err = filterID("endpoint_id", r.Params.EndpointID, subscriptions.ParseEndpointID); err != nil {
		return nil, err
	}
	if err := readID(l, r.Params.Cursor, &f.Before); err != nil {
		return nil, err
	}
	limit := limitOf(r.Params.Limit)
	found, lookedTo, err := h.log.DeadLetters(ctx, f, limit+1)
	if err != nil {
		return nil, err
	}
	p := pageOf(found, limit, showDeadLetter, func(d dispatcher.DeadLetter) *string { return idCursor(l, d.ID) })
	if !lookedTo.IsZero() {
		p.goOn(idCursor(l, lookedTo))
	}
	return ListDeadLetters200JSONResponse{Data: p.data, NextCursor: p.next, HasMore: p.more}, nil
}

// GetDeadLetter implements GET /v1/dead-letters/{id}.
func (h handlers) GetDeadLetter(ctx context.Context, r GetDeadLetterRequestObject) (GetDeadLetterResponseObject, error) {
	id, err := dispatcher.ParseDeadLetterID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	d, err := h.log.DeadLetter(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	return GetDeadLetter200JSONResponse(showDeadLetter(d)), nil
}

// ReplayDeadLetter implements POST /v1/dead-letters/{id}/replay.
func (h handlers) ReplayDeadLetter(ctx context.Context, r ReplayDeadLetterRequestObject) (ReplayDeadLetterResponseObject, error) {
	id, err := dispatcher.ParseDeadLetterID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	delivery, err := h.config.Redeliverer.Replay(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	d, err := h.log.Delivery(ctx, scope(ctx), delivery)
	if err != nil {
		return nil, err
	}
	return ReplayDeadLetter202JSONResponse(showDelivery(d)), nil
}

func showDeadLetter(d dispatcher.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID.String(), Object: "dead_letter", DeliveryID: d.DeliveryID.String(), EventID: d.EventID.String(),
		EndpointID: d.EndpointID.String(), TenantID: d.TenantID, EventType: d.EventType, Attempts: d.Attempts,
		LastResponseStatus: d.LastResponseStatus, LastErrorKind: string(d.LastErrorKind), LastError: d.LastError,
		Fingerprint: d.Fingerprint, DeadAt: d.DeadAt.UTC(), ResolvedAt: inUTC(d.ResolvedAt), Resolution: orNull(d.Resolution),
	}
}
