package dispatcher

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Minutes up to $1 whose rows do not hold any longer: one of their events was routed
// since, or the pending ones are not those that were counted.
const staleMinutesSQL = `
	SELECT minute FROM posthorn.ledger_recounts WHERE minute < $1
	UNION
	SELECT minute
	FROM (SELECT date_trunc('minute', created_at, 'UTC') AS minute, count(*) AS pending
		FROM posthorn.outbox_pending WHERE created_at < $1 GROUP BY 1) waiting
	FULL JOIN (SELECT minute, pending FROM posthorn.ledger_minutes WHERE pending > 0) counted USING (minute)
	WHERE waiting.pending IS DISTINCT FROM counted.pending
	ORDER BY minute LIMIT $2`

const settledMinutesSQL = `
	SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(pending), 0)::bigint, coalesce(sum(routed), 0)::bigint,
		coalesce(sum(no_match), 0)::bigint, coalesce(sum(expected), 0)::bigint, coalesce(sum(unaccounted), 0)::bigint
	FROM posthorn.ledger_minutes m
	WHERE NOT EXISTS (SELECT FROM unnest($1::timestamptz[]) AS s (minute) WHERE s.minute = m.minute)`

// addEvents adds up the minutes that were accounted for, and counts the events of
// the others and of those that are too young one by one.
func (l *Ledger) addEvents(ctx context.Context, tx pgx.Tx, at moment) error {
	minutes, err := staleMinutes(ctx, tx, at.auditedTo, nil)
	if err != nil {
		return err
	}
	if err := l.add(tx.QueryRow(ctx, settledMinutesSQL, minutes)); err != nil {
		return err
	}
	for _, s := range append(spans(minutes), span{at.auditedTo, at.now.Add(ahead)}) {
		if err := l.addSpan(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}

// staleMinutes gives the first of them before a time; with a nil limit all.
func staleMinutes(ctx context.Context, tx pgx.Tx, before time.Time, limit *int) ([]time.Time, error) {
	rows, err := tx.Query(ctx, staleMinutesSQL, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[time.Time])
}

// spans joins minutes, which are in order, that follow each other.
func spans(minutes []time.Time) (joined []span) {
	for _, m := range minutes {
		end := m.Add(time.Minute)
		if last := len(joined) - 1; last >= 0 && joined[last].to.Equal(m) {
			joined[last].to = end
			continue
		}
		joined = append(joined, span{m, end})
	}
	return joined
}
