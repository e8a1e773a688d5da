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
	// OrderingKey is the producer's, or empty.
	OrderingKey string
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
		SELECT seq FROM posthorn.outbox_pending WHERE NOT ordered OR $2 ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED))
	RETURNING seq, event_id, created_at`

// The same by turns: each tenant's first, then each one's second, and so on, of the
// oldest that are pending and of the newest. Those in order are only taken from the
// oldest of their kind, of which none is left out. Tenants are told apart by a hash,
// which sorts in half the time; two of one hash share their turns.
const claimByTurnsSQL = `
	WITH oldest AS MATERIALIZED (
		SELECT seq, hashtext(tenant_id) AS tenant FROM posthorn.outbox_pending WHERE NOT ordered ORDER BY seq LIMIT 10000
	), looked_at AS (
		SELECT seq, tenant FROM oldest
		UNION ALL
		(SELECT seq, hashtext(tenant_id) FROM posthorn.outbox_pending WHERE ordered AND $2 ORDER BY seq LIMIT 10000)
		UNION ALL
		(SELECT seq, hashtext(tenant_id) FROM posthorn.outbox_pending
			WHERE NOT ordered AND seq > (SELECT max(seq) FROM oldest) ORDER BY seq DESC LIMIT 5000)
	), turns AS (
		SELECT seq FROM (
			SELECT seq, row_number() OVER (PARTITION BY tenant ORDER BY seq) AS turn FROM looked_at
		) t ORDER BY turn, seq LIMIT $1
	)
	DELETE FROM posthorn.outbox_pending
	WHERE seq = ANY(ARRAY(
		SELECT seq FROM posthorn.outbox_pending WHERE seq = ANY(ARRAY(SELECT seq FROM turns)) FOR UPDATE SKIP LOCKED))
	RETURNING seq, event_id, created_at`

// What a claim by turns looks at, of those without an ordering key and of those with one.
const severalTenantsSQL = `
	SELECT coalesce(min(tenant_id) <> max(tenant_id), false) FROM (
		(SELECT tenant_id FROM posthorn.outbox_pending WHERE NOT ordered ORDER BY seq LIMIT 10000)
		UNION ALL
		(SELECT tenant_id FROM posthorn.outbox_pending WHERE ordered ORDER BY seq LIMIT 10000)
		UNION ALL
		(SELECT tenant_id FROM posthorn.outbox_pending WHERE NOT ordered ORDER BY seq DESC LIMIT 5000)
	) looked_at`

// SeveralTenants reports whether a claim by turns would find events of more than one
// tenant. It costs a small part of such a claim.
func SeveralTenants(ctx context.Context, tx pgx.Tx) (several bool, err error) {
	if err := tx.QueryRow(ctx, severalTenantsSQL).Scan(&several); err != nil {
		return false, fmt.Errorf("look for several tenants: %w", err)
	}
	return several, nil
}

// One relay at a time routes what has an ordering key, until its transaction ends:
// so what it writes becomes visible in the order of commits.
const lockOrderedSQL = `SELECT pg_try_advisory_xact_lock(hashtextextended('posthorn.ordered', 0))`

// What is stored uncompressed tells its size without being copied. The bounds on
// created_at are what lets PostgreSQL look into one or two partitions only.
const claimedEventsSQL = `
	SELECT id, created_at, tenant_id, event_type, coalesce(ordering_key, ''), coalesce(traceparent, ''), occurred_at,
	       CASE WHEN pg_column_compression(payload) IS NULL AND pg_column_size(payload) <= $4 OR octet_length(payload::text) <= $4 THEN payload END
	FROM posthorn.outbox
	WHERE id = ANY($1) AND created_at BETWEEN $2 AND $3`

// ClaimOptions say what a claim takes.
type ClaimOptions struct {
	// Limit is how many events at most.
	Limit int
	// MaxPayload is the largest payload, in bytes, that is loaded with its event, so
	// that the claim's size in memory is bounded.
	MaxPayload int
	// ByTurns has the tenants take turns instead of the oldest events come first: for
	// when more is pending than one claim takes. It costs more.
	ByTurns bool
}

// Claim takes committed events out of the pending table, oldest first, in tx: they
// are routed when tx commits and pending again when it does not. Events with an
// ordering key are claimed by one transaction at a time, of any process, until it
// ends; a claim that comes meanwhile leaves them out.
//
// Missing are pending ids without an event: somebody has dropped a partition under
// them. They are claimed too, so that they hold nobody up; the caller is to say so.
func Claim(ctx context.Context, tx pgx.Tx, o ClaimOptions) (events []Claimed, missing []EventID, err error) {
	var ordered bool
	if err := tx.QueryRow(ctx, lockOrderedSQL).Scan(&ordered); err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	sql := claimSQL
	if o.ByTurns {
		sql = claimByTurnsSQL
	}
	rows, err := tx.Query(ctx, sql, o.Limit, ordered)
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
	return fillClaimed(ctx, tx, claimed, o.MaxPayload)
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
		if err := rows.Scan(&c.ID, &c.CreatedAt, &c.TenantID, &c.Type, &c.OrderingKey, &c.Traceparent, &c.OccurredAt, &c.Payload); err != nil {
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
	INSERT INTO posthorn.outbox_pending (seq, event_id, created_at, tenant_id, ordered) OVERRIDING SYSTEM VALUE
	SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bool[])`

// Unclaim puts claimed events back at their places, in the same tx: a relay
// whose claim became more deliveries than it wants in one transaction leaves
// the rest to the next.
func Unclaim(ctx context.Context, tx pgx.Tx, events []Claimed) error {
	n := len(events)
	seqs, ids, times := make([]int64, n), make([]EventID, n), make([]time.Time, n)
	tenants, ordered := make([]string, n), make([]bool, n)
	for i, e := range events {
		seqs[i], ids[i], times[i] = e.Seq, e.ID, e.CreatedAt
		tenants[i], ordered[i] = e.TenantID, e.OrderingKey != ""
	}
	if _, err := tx.Exec(ctx, unclaimSQL, seqs, ids, times, tenants, ordered); err != nil {
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
