package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// maxDecisions bounds the endpoints shown with an event.
const maxDecisions = 1000

// decide fills in what was decided about an event: of each endpoint that the
// caller may see and that was considered, and why.
func (h handlers) decide(ctx context.Context, e outbox.Stored, shown *EventDetail) error {
	shown.Endpoints = []Decision{}
	routing, err := h.log.Routing(ctx, e.Place())
	if errors.Is(err, dispatcher.ErrNotFound) {
		return nil // not routed yet
	} else if err != nil {
		return err
	}
	at := routing.RoutedAt.UTC()
	shown.RoutedAt = &at
	considered, err := h.config.Endpoints.ConsideredAt(ctx, endpointScope(ctx), e.TenantID, routing.Revision, maxDecisions+1)
	if err != nil {
		return err
	}
	deliveries, err := h.log.ByEvent(ctx, scope(ctx), e.ID, maxDecisions+1)
	if err != nil {
		return err
	}
	holders, err := h.holders(ctx, deliveries)
	if err != nil {
		return err
	}
	all := decisions(e.EventType, considered, deliveries, holders)
	shown.HasMoreEndpoints = len(all) > maxDecisions
	shown.Endpoints = all[:min(len(all), maxDecisions)]
	return nil
}

// holders are the endpoints, as they are now, that hold one of the deliveries.
func (h handlers) holders(ctx context.Context, deliveries []dispatcher.Delivery) (map[subscriptions.EndpointID]subscriptions.Endpoint, error) {
	var ids []subscriptions.EndpointID
	for _, d := range deliveries {
		if d.Status == dispatcher.Held {
			ids = append(ids, d.EndpointID)
		}
	}
	if ids == nil {
		return nil, nil
	}
	return h.config.Endpoints.ByID(ctx, endpointScope(ctx), ids)
}

// decisions joins the endpoints that were considered with what the event became
// for them, those that it goes to first.
func decisions(eventType string, considered []subscriptions.Considered, deliveries []dispatcher.Delivery,
	holders map[subscriptions.EndpointID]subscriptions.Endpoint,
) []Decision {
	patterns := make(map[subscriptions.EndpointID][]subscriptions.Pattern, len(considered))
	for _, c := range considered {
		patterns[c.EndpointID] = c.EventTypes
	}
	all := make([]Decision, 0, max(len(considered), len(deliveries)))
	for _, d := range deliveries {
		id := d.ID.String()
		all = append(all, Decision{
			EndpointID: d.EndpointID.String(), Decision: string(d.Status), DeliveryID: &id,
			Reason: matchReason(eventType, patterns[d.EndpointID]) + statusReason(d, holders[d.EndpointID]),
		})
		delete(patterns, d.EndpointID)
	}
	for _, c := range considered {
		if _, left := patterns[c.EndpointID]; left {
			all = append(all, undelivered(eventType, c))
		}
	}
	return all
}

// undelivered is the decision on an endpoint that no delivery is known for.
func undelivered(eventType string, c subscriptions.Considered) Decision {
	d := Decision{EndpointID: c.EndpointID.String(), Decision: "no_match",
		Reason: fmt.Sprintf("None of its patterns (%s) matches %s.", join(c.EventTypes), eventType)}
	if reason := matchReason(eventType, c.EventTypes); reason != "" {
		d.Decision, d.Reason = "unknown", reason+"Its delivery is no longer in the log."
	}
	return d
}

func matchReason(eventType string, patterns []subscriptions.Pattern) string {
	i := slices.IndexFunc(patterns, func(p subscriptions.Pattern) bool { return p.Matches(eventType) })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("Its pattern %s matches. ", patterns[i])
}

// statusReason says what the delivery's status means; of a held one the endpoint
// says why, the zero one when it can't be read.
func statusReason(d dispatcher.Delivery, holder subscriptions.Endpoint) string {
	attempts := count(d.Attempts, "attempt")
	switch d.Status {
	case dispatcher.Pending:
		return "The first attempt is to come or under way."
	case dispatcher.Retrying:
		return fmt.Sprintf("Another attempt is to come after %s: %s.", attempts, orElse(d.LastError, "a retry was asked for"))
	case dispatcher.Held:
		return heldReason(holder)
	case dispatcher.Delivered:
		return fmt.Sprintf("Delivered after %s.", attempts)
	case dispatcher.Dead:
		return fmt.Sprintf("Given up after %s: %s.", attempts, orElse(d.LastError, "none succeeded"))
	case dispatcher.Cancelled:
		return "Cancelled: somebody did, or the endpoint was deleted."
	}
	return ""
}

func heldReason(e subscriptions.Endpoint) string {
	const until = "the delivery is held until the endpoint is resumed."
	switch e.Status {
	case subscriptions.Paused:
		return "The endpoint is paused; " + until
	case subscriptions.Disabled:
		return fmt.Sprintf("The endpoint is disabled (%s); %s", orElse(e.DisabledReason, "no reason is known"), until)
	case subscriptions.Enabled:
		return "The endpoint has been resumed; the delivery, which was held, will be sent."
	}
	return "The endpoint is paused or disabled; " + until
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return strings.TrimSuffix(text, ".")
}

func join(patterns []subscriptions.Pattern) string {
	texts := make([]string, len(patterns))
	for i, p := range patterns {
		texts[i] = string(p)
	}
	return strings.Join(texts, ", ")
}
