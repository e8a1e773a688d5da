package api

import (
	"context"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// ListDeliveries implements GET /v1/deliveries.
func (h handlers) ListDeliveries(ctx context.Context, r ListDeliveriesRequestObject) (ListDeliveriesResponseObject, error) {
	l := list{"deliveries", scope(ctx)}
	f, err := deliveryFilter(ctx, l, r.Params)
	if err != nil {
		return nil, err
	}
	limit := limitOf(r.Params.Limit)
	found, lookedTo, err := h.log.Deliveries(ctx, f, limit+1)
	if err != nil {
		return nil, err
	}
	p := pageOf(found, limit, showDelivery, func(d dispatcher.Delivery) *string { return idCursor(l, d.ID) })
	if !lookedTo.IsZero() {
		p.goOn(idCursor(l, lookedTo))
	}
	return ListDeliveries200JSONResponse{Data: p.data, NextCursor: p.next, HasMore: p.more}, nil
}

func deliveryFilter(ctx context.Context, l list, p ListDeliveriesParams) (dispatcher.DeliveryFilter, error) {
	f := dispatcher.DeliveryFilter{
		EventType: orZero(p.EventType), Status: orZero(p.Status), ResponseStatus: orZero(p.ResponseStatus),
		Since: orZero(p.Since), Until: orZero(p.Until),
	}
	var err error
	if f.TenantID, err = listTenant(ctx, p.TenantID); err != nil {
		return f, err
	}
	if f.EndpointID, err = filterID("endpoint_id", p.EndpointID, subscriptions.ParseEndpointID); err != nil {
		return f, err
	}
	if f.EventID, err = filterID("event_id", p.EventID, outbox.ParseEventID); err != nil {
		return f, err
	}
	return f, readID(l, p.Cursor, &f.Before)
}

// filterID reads an id that a list is filtered by. One that is well formed but
// unknown, or another tenant's, gives an empty list: who asks learns nothing.
func filterID[ID any](name string, text *string, parse func(string) (ID, error)) (ID, error) {
	var none ID
	if text == nil {
		return none, nil
	}
	id, err := parse(*text)
	if err != nil {
		return none, invalid(fault("/"+name, err.Error()))
	}
	return id, nil
}

// GetDelivery implements GET /v1/deliveries/{id}.
func (h handlers) GetDelivery(ctx context.Context, r GetDeliveryRequestObject) (GetDeliveryResponseObject, error) {
	d, err := h.delivery(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return GetDelivery200JSONResponse(showDelivery(d)), nil
}

func (h handlers) delivery(ctx context.Context, text string) (dispatcher.Delivery, error) {
	id, err := dispatcher.ParseDeliveryID(text)
	if err != nil {
		return dispatcher.Delivery{}, errNoSuchID
	}
	return h.log.Delivery(ctx, scope(ctx), id)
}

// RetryDelivery implements POST /v1/deliveries/{id}/retry.
func (h handlers) RetryDelivery(ctx context.Context, r RetryDeliveryRequestObject) (RetryDeliveryResponseObject, error) {
	id, err := dispatcher.ParseDeliveryID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	if err := h.config.Redeliverer.Retry(ctx, scope(ctx), id); err != nil {
		return nil, err
	}
	d, err := h.log.Delivery(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	return RetryDelivery202JSONResponse(showDelivery(d)), nil
}

func showDelivery(d dispatcher.Delivery) Delivery {
	shown := Delivery{
		ID: d.ID.String(), Object: "delivery", EventID: d.EventID.String(), EndpointID: d.EndpointID.String(),
		TenantID: d.TenantID, EventType: d.EventType, Status: d.Status, Attempts: d.Attempts,
		NextAttemptAt: inUTC(d.NextAttemptAt), LastResponseStatus: d.LastResponseStatus,
		LastErrorKind: orNull(d.LastErrorKind), LastError: orNull(d.LastError), CreatedAt: d.CreatedAt.UTC(),
	}
	if d.Status == dispatcher.Delivered {
		shown.DeliveredAt = inUTC(d.FinishedAt)
	}
	return shown
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}
