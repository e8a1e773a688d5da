package outbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Claimed is a committed event in the hands of a relay.
type Claimed struct {
	// Seq is the place in the pending table, in the order of insertion.
	Seq int64
	// ID names the event.
	ID EventID
	// CreatedAt is the start of the producer's transaction, by the database's clock.
	CreatedAt time.Time
	// TenantID is the event's tenant.
	TenantID string
	// Type is the event's type.
	Type string
	// Payload is the event's JSON, nil when it is larger than the claim asked for:
	// whoever sends it loads it then.
	Payload []byte
	// Traceparent is the W3C trace context, or empty.
	Traceparent string
	// OccurredAt is when the producer says that it happened.
	OccurredAt time.Time
}

// The claim takes the rows away at once: should the transaction fail, they are
// back. SKIP LOCKED lets several relays claim side by side.
const claimSQL = `
	DELETE FROM posthorn.outbox_pending
	WHERE seq = ANY(ARRAY(
		SELECT seq FROM posthorn.outbox_pending ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED))
	RETURNING seq, event_id, created_at`

// What is stored uncompressed tells its size without being copied. The bounds on created_at are what lets PostgreSQL look into one or two
// partitions only.
const claimedEventsSQL = `
	SELECT id, created_at, tenant_id, event_type, coalesce(traceparent, ''), occurred_at,
	       CASE WHEN pg_column_compression(payload) IS NULL AND pg_column_size(payload) <= $4 OR octet_length(payload::text) <= $4 THEN payload END
	FROM posthorn.outbox
	WHERE id = ANY($1) AND created_at BETWEEN $2 AND $3`

// Claim takes up to limit committed events out of the pending table, oldest
// first, in tx: they are routed when tx commits and pending again when it does
// not. It loads the payloads of up to maxPayload bytes, so that the claim's size
// in memory is bounded.
//
// Missing are pending ids without an event: somebody has dropped a partition under
// them. They are claimed too, so that they hold nobody up; the caller is to say so.
func Claim(ctx context.Context, tx pgx.Tx, limit, maxPayload int) (events []Claimed, missing []EventID, err error) {
	rows, err := tx.Query(ctx, claimSQL, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	claimed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Claimed, err error) {
		return c, row.Scan(&c.Seq, &c.ID, &c.CreatedAt)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	if len(claimed) == 0 {
		return nil, nil, nil
	}
	slices.SortFunc(claimed, func(a, b Claimed) int { return cmp.Compare(a.Seq, b.Seq) })
	return fillClaimed(ctx, tx, claimed, maxPayload)
}

// fillClaimed reads the claimed events themselves, in their order.
func fillClaimed(ctx context.Context, tx pgx.Tx, claimed []Claimed, maxPayload int) (events []Claimed, missing []EventID, err error) {
	ids := make([]EventID, len(claimed))
	// A producer that brings ids of its own may have used one twice.
	type key struct {
		id        EventID
		createdAt int64
	}
	place := make(map[key]int, len(claimed))
	from, to := claimed[0].CreatedAt, claimed[0].CreatedAt
	for i, c := range claimed {
		ids[i], place[key{c.ID, c.CreatedAt.UnixMicro()}] = c.ID, i
		from, to = earlier(from, c.CreatedAt), later(to, c.CreatedAt)
	}
	rows, err := tx.Query(ctx, claimedEventsSQL, ids, from, to, maxPayload)
	if err != nil {
		return nil, nil, fmt.Errorf("read claimed events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c Claimed
		if err := rows.Scan(&c.ID, &c.CreatedAt, &c.TenantID, &c.Type, &c.Traceparent, &c.OccurredAt, &c.Payload); err != nil {
			return nil, nil, fmt.Errorf("read claimed events: %w", err)
		}
		if i, ok := place[key{c.ID, c.CreatedAt.UnixMicro()}]; ok { // else another event of the same id, claimed elsewhere
			c.Seq = claimed[i].Seq
			claimed[i] = c
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read claimed events: %w", err)
	}
	for _, c := range claimed {
		if c.Type == "" {
			missing = append(missing, c.ID)
		} else {
			events = append(events, c)
		}
	}
	return events, missing, nil
}

const unclaimSQL = `
	INSERT INTO posthorn.outbox_pending (seq, event_id, created_at) OVERRIDING SYSTEM VALUE
	SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[])`

// Unclaim puts claimed events back at their places, in the same tx: a relay
// whose claim became more deliveries than it wants in one transaction leaves
// the rest to the next.
func Unclaim(ctx context.Context, tx pgx.Tx, events []Claimed) error {
	seqs, ids, times := make([]int64, len(events)), make([]EventID, len(events)), make([]time.Time, len(events))
	for i, e := range events {
		seqs[i], ids[i], times[i] = e.Seq, e.ID, e.CreatedAt
	}
	if _, err := tx.Exec(ctx, unclaimSQL, seqs, ids, times); err != nil {
		return fmt.Errorf("unclaim: %w", err)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
