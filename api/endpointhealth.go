package api

import (
	"context"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/subscriptions"
)

// showWithHealth shows endpoints with what is known of their receivers, by one query.
func (h handlers) showWithHealth(ctx context.Context, list ...subscriptions.Endpoint) ([]Endpoint, error) {
	ids := make([]subscriptions.EndpointID, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	health, err := h.log.Health(ctx, ids)
	if err != nil {
		return nil, err
	}
	shown := make([]Endpoint, len(list))
	for i, e := range list {
		shown[i] = showEndpoint(e, health[e.ID])
	}
	return shown, nil
}

// showWithWaiting shows one endpoint, and how much waits for it.
func (h handlers) showWithWaiting(ctx context.Context, e subscriptions.Endpoint) (Endpoint, error) {
	shown, err := h.showWithHealth(ctx, e)
	if err != nil {
		return Endpoint{}, err
	}
	waiting, err := h.log.Waiting(ctx, e.ID)
	if err != nil {
		return Endpoint{}, err
	}
	one := shown[0]
	one.Health.Backlog, one.Health.Held = &waiting.Backlog, &waiting.Held
	return one, nil
}

func showHealth(h dispatcher.EndpointHealth) EndpointHealth {
	return EndpointHealth{
		Breaker: h.Breaker, Reason: orNull(h.Reason), ConsecutiveFailures: h.ConsecutiveFailures,
		FailingSince: inUTC(h.FailingSince), OpenUntil: inUTC(h.OpenUntil),
		LastSuccessAt: inUTC(h.LastSuccessAt), LastFailureAt: inUTC(h.LastFailureAt),
	}
}
