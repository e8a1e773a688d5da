package dispatcher

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// planLedgerSQL keeps PostgreSQL from reading a day's partition for some minutes of
// it, which it would where statistics are missing, and from compiling for that.
const planLedgerSQL = `SELECT set_config('enable_seqscan', 'off', true),
	set_config('jit', 'off', true), set_config('work_mem', '64MB', true)`

// The slack in which the clocks of a delivery, of its event and of its routing may
// differ: it spans a relay's whole transaction and clocks that are not quite alike.
const (
	slack     = time.Minute
	slackText = `interval '1 minute'`
)

// account gives each event created from $1 up to $2 with what became of it. Its
// deliveries have ids from $3 up to $4, as bounds gives them; those of an event
// that was routed later are looked up by the event.
const account = `
	account AS (
		SELECT event_id, created_at, max(event) AS event, max(pending) AS pending, max(routed) AS routed,
			sum(matched) AS expected, sum(made) AS made, sum(endpoints) AS endpoints
		FROM (
			SELECT id AS event_id, created_at, 1 AS event, 0 AS pending, 0 AS routed, 0 AS matched, 0 AS made, 0 AS endpoints
			FROM posthorn.outbox WHERE created_at >= $1 AND created_at < $2
			UNION ALL
			SELECT event_id, created_at, 0, 1, 0, 0, 0, 0
			FROM posthorn.outbox_pending WHERE created_at >= $1 AND created_at < $2
			UNION ALL
			SELECT event_id, created_at, 0, 0, 1, matched, 0, 0
			FROM posthorn.routings WHERE created_at >= $1 AND created_at < $2
			UNION ALL
			SELECT event_id, event_created_at, 0, 0, 0, 0, count(*), count(DISTINCT endpoint_id)
			FROM posthorn.deliveries
			WHERE id >= $3 AND id < $4 AND event_created_at >= $1 AND event_created_at < $2
			GROUP BY event_id, event_created_at
			UNION ALL
			SELECT r.event_id, r.created_at, 0, 0, 0, 0, late.made, late.endpoints
			FROM posthorn.routings r CROSS JOIN LATERAL (
				SELECT count(*) AS made, count(DISTINCT endpoint_id) AS endpoints FROM posthorn.deliveries d
				WHERE d.event_id = r.event_id AND d.event_created_at = r.created_at
				  AND d.id >= greatest($4, posthorn.uuid_at(r.routed_at - ` + slackText + `))
				  AND d.id < posthorn.uuid_at(r.routed_at + ` + slackText + `)) late
			WHERE r.created_at >= $1 AND r.created_at < $2 AND r.routed_at >= $2
		) entry GROUP BY event_id, created_at
	)`

// unaccounted is how much of an event must not be: a delivery or a routing of
// nothing, an event neither pending nor routed, or both; endpoints matched without
// a delivery, deliveries without a match, and an endpoint's second one. Events of
// days that were trimmed may be gone, and a delivery of a later day still there.
const unaccounted = `
	CASE WHEN event = 0 AND routed = 0 THEN
			CASE WHEN created_at >= (SELECT trimmed_to FROM posthorn.ledger_state) THEN made ELSE 0 END
		WHEN event = 0 OR pending = routed THEN 1 ELSE 0 END
	+ CASE WHEN routed = 1 THEN abs(expected - endpoints) + made - endpoints
		WHEN event = 1 AND pending = 1 THEN made ELSE 0 END`

// entries are the columns of a minute's, or any time's, account.
const entries = `
	count(*) FILTER (WHERE event = 1) AS events,
	count(*) FILTER (WHERE event = 1 AND pending = 1) AS pending,
	count(*) FILTER (WHERE routed = 1) AS routed,
	count(*) FILTER (WHERE routed = 1 AND expected = 0) AS no_match,
	coalesce(sum(expected), 0)::bigint AS expected,
	coalesce(sum(made), 0)::bigint AS made,
	coalesce(sum(` + unaccounted + `), 0)::bigint AS unaccounted`

// span is a time in which events were created.
type span struct{ from, to time.Time }

// arguments are account's $1 to $4.
func (s span) arguments() []any {
	return []any{s.from, s.to, floor(s.from.Add(-slack)), floor(s.to.Add(slack))}
}

const accountSQL = `WITH ` + account + `
	SELECT events, pending, routed, no_match, expected, unaccounted FROM (SELECT ` + entries + ` FROM account) a`

// addSpan counts the span's events one by one.
func (l *Ledger) addSpan(ctx context.Context, tx pgx.Tx, s span) error {
	return l.add(tx.QueryRow(ctx, accountSQL, s.arguments()...))
}

// add adds a row of events, pending, routed, no_match, expected and unaccounted.
func (l *Ledger) add(row pgx.Row) error {
	var a Ledger
	if err := row.Scan(&a.Events, &a.Unrouted, &a.Routed, &a.NoMatch, &a.Expected, &a.Unaccounted); err != nil {
		return err
	}
	l.Events += a.Events
	l.Unrouted += a.Unrouted
	l.Routed += a.Routed
	l.NoMatch += a.NoMatch
	l.Expected += a.Expected
	l.Unaccounted += a.Unaccounted
	return nil
}
