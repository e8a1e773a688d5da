package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/outbox"
)

// chunkColumns are what a delivery needs to be sent, of deliveries d and their events o.
const (
	chunkColumns = `d.id, d.endpoint_id, d.attempts, d.schedule_start, coalesce(d.ordering_key, ''), coalesce(d.ordering_position, 0),
		d.event_id, d.event_created_at, o.id IS NULL, coalesce(o.tenant_id, ''), d.event_type, coalesce(o.traceparent, ''),
		coalesce(o.occurred_at, d.event_created_at),
		CASE WHEN octet_length(o.payload::text) <= $2 THEN o.payload END`

	chunkEvents = ` LEFT JOIN posthorn.outbox o ON o.id = d.event_id AND o.created_at = d.event_created_at`
)

// chunkScanner reads rows of chunkColumns into a chunk.
type chunkScanner struct {
	chunk  *chunk
	events map[eventKey]*event
}

// eventKey names an event: a producer that brings ids of its own may have used one twice.
type eventKey struct {
	id        outbox.EventID
	createdAt int64
}

func newChunkScanner(c *chunk) *chunkScanner {
	return &chunkScanner{c, map[eventKey]*event{}}
}

// scan reads a row, with what the statement selects beyond the chunk's columns.
func (s *chunkScanner) scan(row pgx.CollectableRow, beyond ...any) (delivery, error) {
	d := delivery{chunk: s.chunk}
	e := &event{}
	err := row.Scan(append([]any{&d.id, &s.chunk.endpointID, &d.attempts, &d.scheduleStart, &d.key, &d.position, &e.id, &e.createdAt,
		&e.gone, &e.tenantID, &e.eventType, &e.traceparent, &e.occurredAt, &e.payload}, beyond...)...)
	k := eventKey{e.id, e.createdAt.UnixMicro()}
	if s.events[k] == nil {
		e.publicID = e.id.String()
		s.events[k] = e
	}
	d.event = s.events[k]
	return d, err
}

// pick reads up to most deliveries that may go now, or nil when there are none.
func (o *owner) pick(ctx context.Context, most int) (*chunk, error) {
	c := &chunk{jobID: o.jobID, endpointID: o.endpointID, lease: o.lease, owner: o}
	scanner := newChunkScanner(c)
	if err := o.pickInOrder(ctx, scanner, most); err != nil {
		return nil, err
	}
	if left := most - len(c.deliveries); left > 0 && o.unorderedIsDue() {
		if err := o.pickUnordered(ctx, scanner, left); err != nil {
			return nil, err
		}
	}
	if len(c.deliveries) == 0 {
		return nil, nil
	}
	return c, nil
}

// unorderedIsDue spares an owner with ordered deliveries, which it must pass over to
// find others, from looking for those at every step.
func (o *owner) unorderedIsDue() bool {
	if o.order.tracking() && time.Since(o.unorderedAt) < time.Second {
		return false
	}
	o.unorderedAt = time.Now()
	return true
}

const loadBacklogSQL = `
	SELECT ` + chunkColumns + ` FROM (
		SELECT * FROM posthorn.deliveries
		WHERE job_id = $1 AND next_attempt_at IS NOT NULL AND next_attempt_at <= now() AND ordering_position IS NULL
		  AND status IN ('pending', 'retrying') AND id <> ALL($4)
		ORDER BY next_attempt_at, id LIMIT $3) d` + chunkEvents + ` ORDER BY d.next_attempt_at, d.id`

func (o *owner) pickUnordered(ctx context.Context, s *chunkScanner, most int) error {
	rows, err := o.pool.Query(ctx, loadBacklogSQL, o.jobID, maxKeptPayload, most, o.handful())
	if err != nil {
		return fmt.Errorf("load the backlog of %s: %w", o.endpointID, err)
	}
	loaded, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (delivery, error) { return s.scan(row) })
	if err != nil {
		return fmt.Errorf("load the backlog of %s: %w", o.endpointID, err)
	}
	s.chunk.deliveries = append(s.chunk.deliveries, loaded...)
	return nil
}

// handful are the deliveries in hand.
func (o *owner) handful() uuids {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := make(uuids, 0, len(o.inHand))
	for id := range o.inHand {
		ids = append(ids, uuidOf(id))
	}
	return ids
}

const (
	// Held ones too: what is behind them must wait.
	arrivalsSQL = `SELECT ordering_key, ordering_position FROM posthorn.deliveries
		WHERE endpoint_id = $1 AND ordering_position > $2 ORDER BY ordering_position LIMIT $3`

	loadKeysSQL = `
		SELECT ` + chunkColumns + `, coalesce(d.job_id, 0),
			coalesce(extract(epoch FROM d.next_attempt_at - now())::float8, 0)
		FROM unnest($3::text[]) AS k (key)
		CROSS JOIN LATERAL (
			SELECT * FROM posthorn.deliveries
			WHERE endpoint_id = $1 AND ordering_key = k.key AND ordering_position IS NOT NULL
			ORDER BY ordering_position LIMIT $4) d` + chunkEvents + ` ORDER BY d.ordering_position`
)

const (
	maxArrivals   = 1000 // read at once
	maxOfKey      = 8    // deliveries of one key in hand
	heldKeyPause  = 500 * time.Millisecond
	maxKeysAtOnce = 200
)

// pickInOrder adds the first deliveries of keys of which none is in hand.
func (o *owner) pickInOrder(ctx context.Context, s *chunkScanner, most int) error {
	if err := o.readArrivals(ctx); err != nil {
		return err
	}
	keys := o.order.ready(min(most, maxKeysAtOnce), time.Now())
	if len(keys) == 0 {
		return nil
	}
	ofEach := max(1, min(maxOfKey, most/len(keys)))
	rows, err := o.pool.Query(ctx, loadKeysSQL, o.endpointID, maxKeptPayload, keys, ofEach)
	if err != nil {
		return fmt.Errorf("load %d ordering keys of %s: %w", len(keys), o.endpointID, err)
	}
	defer rows.Close()
	seen, stopped := map[string]bool{}, map[string]bool{}
	for rows.Next() {
		var jobID int64
		var wait float64
		d, err := s.scan(rows, &jobID, &wait)
		if err != nil {
			return fmt.Errorf("load %d ordering keys of %s: %w", len(keys), o.endpointID, err)
		}
		first := !seen[d.key]
		seen[d.key] = true
		switch {
		case stopped[d.key]:
		case jobID == o.jobID && wait <= 0:
			s.chunk.deliveries = append(s.chunk.deliveries, d)
		default:
			stopped[d.key] = true
			if first {
				now := time.Now()
				o.order.waits(d.key, now.Add(keyPause(jobID == o.jobID, wait)), now)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("load %d ordering keys of %s: %w", len(keys), o.endpointID, err)
	}
	for _, key := range keys {
		if !seen[key] {
			o.order.empty(key)
		}
	}
	return nil
}

// keyPause is how long a key waits whose first delivery may not go: until its next
// attempt, or, where it is held or somebody else's, until it is looked at again.
func keyPause(ours bool, wait float64) time.Duration {
	if !ours {
		return heldKeyPause
	}
	return min(time.Duration(min(wait, 86400)*float64(time.Second)), 24*time.Hour)
}

// readArrivals learns of what the relays have added since the last look. Positions
// become visible in their order, so none comes later behind the last one seen.
func (o *owner) readArrivals(ctx context.Context) error {
	for {
		rows, err := o.pool.Query(ctx, arrivalsSQL, o.endpointID, o.order.arrived, maxArrivals)
		if err != nil {
			return fmt.Errorf("read arrivals of %s: %w", o.endpointID, err)
		}
		var key string
		var position int64
		n := 0
		_, err = pgx.ForEachRow(rows, []any{&key, &position}, func() error {
			o.order.arrive(key, position)
			n++
			return nil
		})
		if err != nil {
			return fmt.Errorf("read arrivals of %s: %w", o.endpointID, err)
		}
		if n < maxArrivals {
			return nil
		}
	}
}
