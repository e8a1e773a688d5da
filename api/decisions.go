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
	all := decisions(e.EventType, considered, deliveries)
	shown.HasMoreEndpoints = len(all) > maxDecisions
	shown.Endpoints = all[:min(len(all), maxDecisions)]
	return nil
}

// decisions joins the endpoints that were considered with what the event became
// for them, those that it goes to first.
func decisions(eventType string, considered []subscriptions.Considered, deliveries []dispatcher.Delivery) []Decision {
	patterns := make(map[subscriptions.EndpointID][]subscriptions.Pattern, len(considered))
	for _, c := range considered {
		patterns[c.EndpointID] = c.EventTypes
	}
	all := make([]Decision, 0, max(len(considered), len(deliveries)))
	for _, d := range deliveries {
		id := d.ID.String()
		all = append(all, Decision{
			EndpointID: d.EndpointID.String(), Decision: string(d.Status), DeliveryID: &id,
			Reason: matchReason(eventType, patterns[d.EndpointID]) + statusReason(d),
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

func statusReason(d dispatcher.Delivery) string {
	attempts := count(d.Attempts, "attempt")
	switch d.Status {
	case dispatcher.Pending:
		return "The first attempt is to come or under way."
	case dispatcher.Retrying:
		return fmt.Sprintf("Another attempt is to come after %s: %s.", attempts, orElse(d.LastError, "a retry was asked for"))
	case dispatcher.Held:
		return "The endpoint is paused or disabled; the delivery waits for it to be resumed."
	case dispatcher.Delivered:
		return fmt.Sprintf("Delivered after %s.", attempts)
	case dispatcher.Dead:
		return fmt.Sprintf("Given up after %s: %s.", attempts, orElse(d.LastError, "none succeeded"))
	case dispatcher.Cancelled:
		return "Cancelled: somebody did, or the endpoint was deleted."
	}
	return ""
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
