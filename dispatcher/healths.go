package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// healths is this process's copy of the table endpoint_health, which all nodes
// share. It is safe for concurrent use.
type healths struct {
	clock *clock

	mu         sync.Mutex
	byEndpoint map[subscriptions.EndpointID]health // of endpoints that fail, or lately did
}

func newHealths(c *clock) *healths {
	return &healths{clock: c, byEndpoint: map[subscriptions.EndpointID]health{}}
}

// of gives an endpoint's health; what is known of an older epoch is void.
func (hs *healths) of(sub *subscriptions.Subscription) health {
	hs.mu.Lock()
	h, known := hs.byEndpoint[sub.ID]
	hs.mu.Unlock()
	if !known || h.epoch < sub.HealthEpoch {
		return health{epoch: sub.HealthEpoch, version: h.version}
	}
	return h
}

// troubled reports whether anything bad is known of an endpoint.
func (hs *healths) troubled(id subscriptions.EndpointID) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return !hs.byEndpoint[id].plain()
}

// gate says whether an endpoint may be sent to, and else until when it waits.
func (hs *healths) gate(sub *subscriptions.Subscription) (gate, time.Time) {
	h := hs.of(sub)
	return h.gate(hs.clock.Now()), h.until
}

// sendable reports whether an endpoint takes deliveries as they come: its breaker is
// closed and its last attempts did not all fail.
func (hs *healths) sendable(sub *subscriptions.Subscription) bool {
	h := hs.of(sub)
	return h.gate(hs.clock.Now()) == gateOpen && h.failures < doubtfulFailures
}

// failures is how many attempts of an endpoint have failed since its last success.
func (hs *healths) failures(id subscriptions.EndpointID) int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.byEndpoint[id].failures
}

// notHeldBack are the endpoints whose backlogs may be looked at, as far as this node
// knows: not those whose breaker is open.
func (hs *healths) notHeldBack(d *subscriptions.Directory, endpoints []subscriptions.EndpointID) []subscriptions.EndpointID {
	var all []subscriptions.EndpointID
	for _, id := range endpoints {
		sub := d.Get(id)
		if sub != nil {
			if g, _ := hs.gate(sub); g == gateClosed {
				continue
			}
		}
		all = append(all, id)
	}
	return all
}

// learn takes over what has been committed, unless something younger is known.
func (hs *healths) learn(news map[subscriptions.EndpointID]health) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for id, h := range news {
		if h.version >= hs.byEndpoint[id].version {
			hs.byEndpoint[id] = h
		}
	}
}

// known are the endpoints that the copy holds.
func (hs *healths) known() []subscriptions.EndpointID {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	ids := make([]subscriptions.EndpointID, 0, len(hs.byEndpoint))
	for id := range maps.Keys(hs.byEndpoint) {
		ids = append(ids, id)
	}
	return ids
}

// forget drops what says nothing, so that the copy is as large as the trouble.
func (hs *healths) forget() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	now := hs.clock.Now()
	for id, h := range hs.byEndpoint {
		if h.plain() && now.Sub(later(h.lastFailure, h.lastSuccess)) > time.Minute {
			delete(hs.byEndpoint, id)
		}
	}
}

const healthColumns = `endpoint_id, epoch, version, consecutive_failures, failing_since, breaker, opened, open_until,
	coalesce(reason, ''), last_success_at, last_failure_at`

// The failing ones, and those that this process takes for failing.
const readHealthsSQL = `
	SELECT ` + healthColumns + ` FROM posthorn.endpoint_health WHERE breaker <> 'closed' OR consecutive_failures > 0
	UNION ALL
	SELECT ` + healthColumns + ` FROM posthorn.endpoint_health
	WHERE endpoint_id = ANY($1) AND NOT (breaker <> 'closed' OR consecutive_failures > 0)`

// refresh reads what the other nodes have found.
func (hs *healths) refresh(ctx context.Context, q subscriptions.Querier) error {
	news, err := queryHealths(ctx, q, readHealthsSQL, hs.known())
	if err != nil {
		return fmt.Errorf("read the endpoints' health: %w", err)
	}
	hs.learn(news)
	hs.forget()
	return nil
}

func queryHealths(ctx context.Context, q subscriptions.Querier, sql string, args ...any) (map[subscriptions.EndpointID]health, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	read := map[subscriptions.EndpointID]health{}
	for rows.Next() {
		var id subscriptions.EndpointID
		var h health
		var since, until, success, failure *time.Time
		err := rows.Scan(&id, &h.epoch, &h.version, &h.failures, &since, &h.breaker, &h.opened, &until,
			&h.reason, &success, &failure)
		if err != nil {
			return nil, err
		}
		h.failingSince, h.until, h.lastSuccess, h.lastFailure = orZeroTime(since), orZeroTime(until), orZeroTime(success), orZeroTime(failure)
		read[id] = h
	}
	return read, rows.Err()
}

func orZeroTime(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// One node gets the probe; should it die, its time runs out and another may.
const claimProbeSQL = `
	UPDATE posthorn.endpoint_health SET breaker = 'half_open', open_until = now() + $2::interval, version = version + 1
	WHERE endpoint_id = $1 AND breaker <> 'closed' AND open_until <= now()
	RETURNING ` + healthColumns

// claimProbe claims the one delivery that may be sent to see whether an endpoint
// works again. It reports false when another node has it, or the breaker is closed.
func (hs *healths) claimProbe(ctx context.Context, q subscriptions.Querier, id subscriptions.EndpointID, probeTime time.Duration) (bool, error) {
	claimed, err := queryHealths(ctx, q, claimProbeSQL, id, probeTime)
	if err != nil {
		return false, fmt.Errorf("claim the probe of %s: %w", id, err)
	}
	if len(claimed) == 0 {
		// Somebody knows more: so should we.
		known, err := queryHealths(ctx, q, readHealthsSQL, []subscriptions.EndpointID{id})
		if err != nil {
			return false, fmt.Errorf("read the health of %s: %w", id, err)
		}
		hs.learn(known)
		return false, nil
	}
	hs.learn(claimed)
	return true, nil
}

// The rows first, so that there is something to lock; then the locks, in one order
// for all nodes.
const (
	enterHealthsSQL = `INSERT INTO posthorn.endpoint_health (endpoint_id, epoch, version)
		SELECT id, 0, 0 FROM unnest($1::uuid[]) AS e (id) ORDER BY id ON CONFLICT DO NOTHING`

	lockHealthsSQL = `SELECT ` + healthColumns + ` FROM posthorn.endpoint_health
		WHERE endpoint_id = ANY($1) ORDER BY endpoint_id FOR UPDATE`

	writeHealthsSQL = `
		UPDATE posthorn.endpoint_health e SET epoch = h.epoch, version = h.version, consecutive_failures = h.failures,
			failing_since = h.failing_since, breaker = h.breaker, opened = h.opened, open_until = h.open_until,
			reason = nullif(h.reason, ''), last_success_at = h.last_success_at, last_failure_at = h.last_failure_at
		FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::int[], $5::timestamptz[], $6::text[], $7::int[],
			$8::timestamptz[], $9::text[], $10::timestamptz[], $11::timestamptz[])
		AS h (endpoint_id, epoch, version, failures, failing_since, breaker, opened, open_until, reason, last_success_at, last_failure_at)
		WHERE e.endpoint_id = h.endpoint_id`
)

// lockHealths locks the rows of the endpoints, new ones included, until tx ends.
func lockHealths(ctx context.Context, tx pgx.Tx, ids uuids) (map[subscriptions.EndpointID]health, error) {
	if _, err := tx.Exec(ctx, enterHealthsSQL, ids); err != nil {
		return nil, fmt.Errorf("lock the endpoints' health: %w", err)
	}
	locked, err := queryHealths(ctx, tx, lockHealthsSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("lock the endpoints' health: %w", err)
	}
	return locked, nil
}

// writeHealths writes rows that lockHealths has locked.
func writeHealths(ctx context.Context, tx pgx.Tx, all map[subscriptions.EndpointID]health) error {
	n := len(all)
	ids, epochs, versions, failures := make(uuids, 0, n), make([]int32, 0, n), make([]int64, 0, n), make([]int32, 0, n)
	since, until, success, failure := make([]*time.Time, 0, n), make([]*time.Time, 0, n), make([]*time.Time, 0, n), make([]*time.Time, 0, n)
	breakers, opened, reasons := make([]string, 0, n), make([]int32, 0, n), make([]string, 0, n)
	for id, h := range all {
		if h.breaker == "" {
			h.breaker = BreakerClosed
		}
		ids, epochs, versions = append(ids, uuidOf(id)), append(epochs, int32(h.epoch)), append(versions, h.version)
		failures, opened = append(failures, int32(h.failures)), append(opened, int32(h.opened))
		breakers, reasons = append(breakers, string(h.breaker)), append(reasons, h.reason)
		since, until = append(since, orNil(h.failingSince)), append(until, orNil(h.until))
		success, failure = append(success, orNil(h.lastSuccess)), append(failure, orNil(h.lastFailure))
	}
	_, err := tx.Exec(ctx, writeHealthsSQL, ids, epochs, versions, failures, since, breakers, opened, until, reasons, success, failure)
	if err != nil {
		return fmt.Errorf("write the health of %d endpoints: %w", n, err)
	}
	return nil
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
