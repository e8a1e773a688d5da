package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// healthChanges is what a batch of results means for the endpoints' health.
type healthChanges struct {
	after    map[subscriptions.EndpointID]health
	opened   []subscriptions.EndpointID // not sent to from now on
	closed   []subscriptions.EndpointID // sent to again
	disabled []subscriptions.EndpointID
}

// observations are the batch's attempts by endpoint, in their order, of those whose
// health they may change: a success of an endpoint that only succeeds says nothing.
func (r *recorder) observations(batch []result) map[subscriptions.EndpointID][]observation {
	matters := map[subscriptions.EndpointID]bool{}
	for _, res := range batch {
		if res.attempt == nil {
			continue
		}
		id := res.delivery.chunk.endpointID
		if _, known := matters[id]; !known {
			matters[id] = r.healths.troubled(id)
		}
		if !res.attempt.verdict.Delivered {
			matters[id] = true
		}
	}
	now := r.clock.Now()
	all := map[subscriptions.EndpointID][]observation{}
	for _, res := range batch {
		id, a := res.delivery.chunk.endpointID, res.attempt
		if a == nil || !matters[id] {
			continue
		}
		all[id] = append(all[id], observation{began: now.Add(-a.duration), at: now, epoch: a.healthEpoch,
			delivered: a.verdict.Delivered, retryAfter: a.verdict.RetryAfter, probe: res.delivery.probe})
	}
	return all
}

// updateHealth applies the batch's attempts to the endpoints' health, in tx: breakers
// open and close, and endpoints that are gone, or only fail, are disabled.
func (r *recorder) updateHealth(ctx context.Context, tx pgx.Tx, batch []result) (*healthChanges, error) {
	observed := r.observations(batch)
	if len(observed) == 0 {
		return nil, nil
	}
	ids := make([]subscriptions.EndpointID, 0, len(observed))
	for id := range observed {
		ids = append(ids, id)
	}
	before, err := lockHealths(ctx, tx, uuidsOf(ids))
	if err != nil {
		return nil, err
	}
	c := &healthChanges{after: map[subscriptions.EndpointID]health{}}
	for id, h := range before {
		next := h
		for _, o := range observed[id] {
			next = next.after(o, r.breaker)
		}
		next.version++
		c.after[id] = next
		switch {
		case h.closed() && !next.closed():
			c.opened = append(c.opened, id)
		case !h.closed() && next.closed():
			c.closed = append(c.closed, id)
		}
	}
	if err := writeHealths(ctx, tx, c.after); err != nil {
		return nil, err
	}
	if err := wakeBacklogs(ctx, tx, c.closed); err != nil {
		return nil, err
	}
	if err := r.disable(ctx, tx, batch, c); err != nil {
		return nil, err
	}
	return c, r.tellRecovered(ctx, tx, before, c)
}

// disable disables the endpoints that the receiver says are gone, and those that
// have only failed for too long.
func (r *recorder) disable(ctx context.Context, tx pgx.Tx, batch []result, c *healthChanges) error {
	reasons := map[subscriptions.EndpointID]string{}
	epochs := map[subscriptions.EndpointID]int{}
	for id, h := range c.after {
		if r.disabling.due(h) {
			reasons[id] = fmt.Sprintf("every attempt since %s failed, %d in a row; the last: %s",
				h.failingSince.UTC().Format(time.RFC3339), h.failures, lastMessage(batch, id))
			epochs[id] = h.epoch
		}
	}
	for _, res := range batch {
		if res.attempt != nil && res.attempt.verdict.Gone {
			reasons[res.delivery.chunk.endpointID] = res.attempt.verdict.Message
			epochs[res.delivery.chunk.endpointID] = res.attempt.healthEpoch
		}
	}
	for id, reason := range reasons {
		e, disabled, err := subscriptions.DisableTx(ctx, tx, id, epochs[id], storable(reason))
		if err != nil {
			return err
		}
		if disabled {
			c.disabled = append(c.disabled, id)
			if err := r.tell(ctx, tx, e.TenantID, eventEndpointDisabled, endpointDisabled{EndpointID: id.String(), Reason: e.DisabledReason}); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastMessage is what the endpoint's last failure in the batch says.
func lastMessage(batch []result, id subscriptions.EndpointID) string {
	for _, res := range slices.Backward(batch) {
		if res.delivery.chunk.endpointID == id && res.attempt != nil && !res.attempt.verdict.Delivered {
			return res.attempt.verdict.Message
		}
	}
	return ""
}

// learn makes committed changes of health known in this process.
func (r *recorder) learn(ctx context.Context, c *healthChanges) {
	if c == nil {
		return
	}
	r.healths.learn(c.after)
	if len(c.disabled) > 0 {
		// At once, so that nothing more is sent; should it fail, others refresh soon.
		if _, err := r.directory.Refresh(ctx, r.pool); err != nil {
			r.logger.Warn("disabled endpoints are not seen yet", "error", err)
		}
	}
	for _, id := range slices.Concat(c.opened, c.disabled) {
		r.lanes.flush(id)
	}
	for _, id := range c.opened {
		h := c.after[id]
		r.logger.Warn("an endpoint is not sent to for now", "endpoint", id, "reason", h.reason,
			"failures", h.failures, "until", h.until)
		r.telemetry.breaker(BreakerOpen)
	}
	for _, id := range c.closed {
		r.logger.Info("an endpoint is sent to again", "endpoint", id)
		r.telemetry.breaker(BreakerClosed)
	}
	for _, id := range c.disabled {
		r.logger.Warn("an endpoint was disabled", "endpoint", id)
	}
	r.feeder.poke(slices.Concat(c.opened, c.closed, c.disabled)...)
}
