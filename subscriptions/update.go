package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Update says what to change of an endpoint; nil leaves a field as it is.
type Update struct {
	// URL, EventTypes, Description, PayloadFormat and Metadata are as in Draft.
	URL           *string
	EventTypes    []string
	Description   *string
	PayloadFormat *PayloadFormat
	Metadata      json.RawMessage
	// MaxInFlight, RateLimitPerSecond and Ordering too; a rate of 0 lifts the limit.
	MaxInFlight        *int
	RateLimitPerSecond *float64
	Ordering           *Ordering

	// IfVersion, unless zero, makes the update conditional: it must be the
	// endpoint's Version.
	IfVersion int
}

// ErrVersionMismatch is the error for a conditional update of an endpoint that
// has changed in between.
var ErrVersionMismatch = errors.New("the endpoint has been changed in between")

const lockEndpointSQL = getEndpointSQL + ` FOR UPDATE`

const updateEndpointSQL = `
	UPDATE posthorn.endpoints SET url = $2, event_types = $3, description = $4, payload_format = $5,
		metadata = $6::text::json, max_in_flight = $7, rate_limit_per_second = nullif($8::float8, 0), ordering = $9,
		health_epoch = health_epoch + (url <> $2)::int, version = version + 1, revision = $10, updated_at = now()
	WHERE id = $1 RETURNING ` + endpointColumns

// Update changes an endpoint. Its errors are those of Create and Get, and
// ErrVersionMismatch.
func (s *Store) Update(ctx context.Context, scope Scope, id EndpointID, u Update) (Endpoint, error) {
	var e Endpoint
	err := s.change(ctx, func(tx pgx.Tx, revision int64) error {
		old, err := queryEndpoint(ctx, tx, lockEndpointSQL, id, scope.TenantID)
		if err != nil {
			return err
		}
		if u.IfVersion != 0 && u.IfVersion != old.Version {
			return ErrVersionMismatch
		}
		d := u.applyTo(old)
		if err := s.check(d); err != nil {
			return err
		}
		e, err = queryEndpoint(ctx, tx, updateEndpointSQL, id, d.URL, d.EventTypes, d.Description,
			d.PayloadFormat, string(d.Metadata), d.MaxInFlight, d.RateLimitPerSecond, d.Ordering, revision)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertVersionSQL, id)
		return err
	})
	if err != nil {
		return Endpoint{}, fmt.Errorf("update endpoint %s: %w", id, err)
	}
	return e, nil
}

// applyTo gives the endpoint as it is to be.
func (u Update) applyTo(e Endpoint) Draft {
	d := Draft{TenantID: e.TenantID, URL: e.URL, Description: e.Description,
		PayloadFormat: e.PayloadFormat, Metadata: e.Metadata,
		MaxInFlight: e.MaxInFlight, RateLimitPerSecond: e.RateLimitPerSecond, Ordering: e.Ordering}
	for _, p := range e.EventTypes {
		d.EventTypes = append(d.EventTypes, string(p))
	}
	if u.URL != nil {
		d.URL = *u.URL
	}
	if u.EventTypes != nil {
		d.EventTypes = u.EventTypes
	}
	if u.Description != nil {
		d.Description = *u.Description
	}
	if u.PayloadFormat != nil {
		d.PayloadFormat = *u.PayloadFormat
	}
	if u.Metadata != nil {
		d.Metadata = u.Metadata
	}
	if u.MaxInFlight != nil {
		d.MaxInFlight = *u.MaxInFlight
	}
	if u.RateLimitPerSecond != nil {
		d.RateLimitPerSecond = *u.RateLimitPerSecond
	}
	if u.Ordering != nil {
		d.Ordering = *u.Ordering
	}
	return d
}
