package subscriptions

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const setStatusSQL = `
	UPDATE posthorn.endpoints SET status = $2, disabled_reason = nullif($3, ''),
		health_epoch = health_epoch + ($2 = 'enabled')::int,
		version = version + 1, revision = $4, updated_at = now()
	WHERE id = $1 RETURNING ` + endpointColumns

// Pause has an endpoint's deliveries held until it is resumed. One that is paused
// or disabled already stays as it is. It returns an error for which
// errors.Is(err, ErrNotFound) is true when there is no such endpoint.
func (s *Store) Pause(ctx context.Context, scope Scope, id EndpointID) (Endpoint, error) {
	e, err := s.setStatus(ctx, scope, id, Paused)
	if err != nil {
		return Endpoint{}, fmt.Errorf("pause endpoint %s: %w", id, err)
	}
	return e, nil
}

// Resume enables a paused or disabled endpoint; what was held for it is sent, and
// what was known of its health is forgotten. An enabled one stays as it is. Its
// errors are those of Pause.
func (s *Store) Resume(ctx context.Context, scope Scope, id EndpointID) (Endpoint, error) {
	e, err := s.setStatus(ctx, scope, id, Enabled)
	if err != nil {
		return Endpoint{}, fmt.Errorf("resume endpoint %s: %w", id, err)
	}
	return e, nil
}

// errUnchanged takes back the revision that a change took for nothing.
var errUnchanged = errors.New("nothing to change")

func (s *Store) setStatus(ctx context.Context, scope Scope, id EndpointID, status Status) (Endpoint, error) {
	var e Endpoint
	err := s.change(ctx, func(tx pgx.Tx, revision int64) (err error) {
		if e, err = queryEndpoint(ctx, tx, lockEndpointSQL, id, scope.TenantID); err != nil {
			return err
		}
		if (e.Status == Enabled) == (status == Enabled) {
			return errUnchanged // a pause does not overwrite why Posthorn disabled it
		}
		e, err = writeStatus(ctx, tx, id, status, "", revision)
		return err
	})
	if errors.Is(err, errUnchanged) {
		return e, nil
	}
	return e, err
}

func writeStatus(ctx context.Context, tx pgx.Tx, id EndpointID, status Status, reason string, revision int64) (Endpoint, error) {
	e, err := queryEndpoint(ctx, tx, setStatusSQL, id, status, reason, revision)
	if err != nil {
		return Endpoint{}, err
	}
	_, err = tx.Exec(ctx, insertVersionSQL, id)
	return e, err
}

const anyEndpointSQL = `SELECT ` + endpointColumns + ` FROM posthorn.endpoints WHERE id = $1 AND deleted_at IS NULL`

const lockAnyEndpointSQL = anyEndpointSQL + ` FOR UPDATE`

// DisableTx disables an enabled endpoint in tx, with the reason for the subscriber
// to read. It is for the dispatcher, whose record of the answers that led to it
// commits with it. It reports whether it did, which takes an endpoint that is
// enabled and at the given health epoch; one that has been paused, disabled,
// resumed, moved or deleted in between stays as it is.
//
// Every other change of a subscription waits for tx from then on: it should be
// among the last that tx does. tx must be READ COMMITTED.
func DisableTx(ctx context.Context, tx pgx.Tx, id EndpointID, epoch int, reason string) (Endpoint, bool, error) {
	e, done, err := disable(ctx, tx, id, epoch, reason)
	if errors.Is(err, ErrNotFound) {
		return Endpoint{}, false, nil
	} else if err != nil {
		return Endpoint{}, false, fmt.Errorf("disable endpoint %s: %w", id, err)
	}
	return e, done, nil
}

func disable(ctx context.Context, tx pgx.Tx, id EndpointID, epoch int, reason string) (Endpoint, bool, error) {
	changed := func(e Endpoint) bool { return e.Status != Enabled || e.HealthEpoch != epoch }
	// Many answers may lead to it; all but the first leave the writers' queue alone.
	e, err := queryEndpoint(ctx, tx, anyEndpointSQL, id)
	if err != nil || changed(e) {
		return e, false, err
	}
	var revision int64
	if err := tx.QueryRow(ctx, nextRevisionSQL).Scan(&revision); err != nil {
		return Endpoint{}, false, err
	}
	// A revision without a change does no harm: directories look and find nothing.
	if e, err = queryEndpoint(ctx, tx, lockAnyEndpointSQL, id); err != nil || changed(e) {
		return e, false, err
	}
	e, err = writeStatus(ctx, tx, id, Disabled, reason, revision)
	return e, err == nil, err
}
