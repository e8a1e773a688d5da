package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// The operational events: ordinary events of the tenant, for endpoints that ask for
// them by a pattern below "posthorn"; "*" does not mean them. They are published in
// the transaction that records what they tell of, and only if anybody asks. None is
// published about the delivery of one, so they don't breed.
const (
	eventEndpointDisabled  = subscriptions.OperationalPrefix + "endpoint.disabled"
	eventEndpointRecovered = subscriptions.OperationalPrefix + "endpoint.recovered"
	eventDeliveryDead      = subscriptions.OperationalPrefix + "delivery.dead"
)

// endpointDisabled is the payload of posthorn.endpoint.disabled.
type endpointDisabled struct {
	EndpointID string `json:"endpoint_id"`
	Reason     string `json:"reason"`
}

// endpointRecovered is the payload of posthorn.endpoint.recovered.
type endpointRecovered struct {
	EndpointID   string    `json:"endpoint_id"`
	FailingSince time.Time `json:"failing_since"`
	Failures     int       `json:"failed_attempts"`
}

// deliveryDead is the payload of posthorn.delivery.dead.
type deliveryDead struct {
	DeliveryID         string `json:"delivery_id"`
	DeadLetterID       string `json:"dead_letter_id"`
	EventID            string `json:"event_id"`
	EventType          string `json:"event_type"`
	EndpointID         string `json:"endpoint_id"`
	Attempts           int    `json:"attempts"`
	LastResponseStatus *int   `json:"last_response_status"`
	LastErrorKind      string `json:"last_error_kind"`
	LastError          string `json:"last_error"`
}

// tell publishes an operational event in tx if an endpoint of the tenant asks for it.
// What concerns an endpoint of all tenants concerns no one of them.
func (r *recorder) tell(ctx context.Context, tx pgx.Tx, tenantID, eventType string, payload any) error {
	if tenantID == subscriptions.AllTenants || len(r.directory.Match(nil, tenantID, eventType)) == 0 {
		return nil
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("tell of %s: %w", eventType, err)
	}
	_, err = outbox.Publish(ctx, tx, outbox.Event{TenantID: tenantID, Type: eventType, Payload: body})
	return err
}

// tellRecovered tells of the endpoints whose failures have ended.
func (r *recorder) tellRecovered(ctx context.Context, tx pgx.Tx, before map[subscriptions.EndpointID]health, c *healthChanges) error {
	for _, id := range c.closed {
		h, sub := before[id], r.directory.Get(id)
		if h.opened == 0 || sub == nil {
			continue // it only asked for a pause
		}
		err := r.tell(ctx, tx, sub.TenantID, eventEndpointRecovered, endpointRecovered{
			EndpointID: id.String(), FailingSince: h.failingSince.UTC(), Failures: h.failures})
		if err != nil {
			return err
		}
	}
	return nil
}

// buried is a dead letter that has just been written.
type buried struct {
	ID                 DeadLetterID
	DeliveryID         DeliveryID
	EventID            outbox.EventID
	EndpointID         subscriptions.EndpointID
	TenantID           string
	EventType          string
	Attempts           int
	LastResponseStatus *int
	LastErrorKind      string
	LastError          string
}

// tellDead tells of deliveries that have died.
func (r *recorder) tellDead(ctx context.Context, tx pgx.Tx, dead []buried) error {
	for _, d := range dead {
		if strings.HasPrefix(d.EventType, subscriptions.OperationalPrefix) {
			continue
		}
		err := r.tell(ctx, tx, d.TenantID, eventDeliveryDead, deliveryDead{
			DeliveryID: d.DeliveryID.String(), DeadLetterID: d.ID.String(), EventID: d.EventID.String(), EventType: d.EventType,
			EndpointID: d.EndpointID.String(), Attempts: d.Attempts, LastResponseStatus: d.LastResponseStatus,
			LastErrorKind: d.LastErrorKind, LastError: d.LastError,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
