package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

const breakersSQL = `
	SELECT h.endpoint_id, count(*) OVER (), h.consecutive_failures, coalesce(h.reason, h.breaker),
		greatest(extract(epoch FROM h.open_until - now()), 0)::float8
	FROM posthorn.endpoint_health h JOIN posthorn.endpoints e ON e.id = h.endpoint_id
	WHERE h.breaker <> 'closed' AND e.deleted_at IS NULL AND e.status = 'enabled' AND h.epoch = e.health_epoch
	ORDER BY h.failing_since NULLS LAST, h.endpoint_id LIMIT $1`

func breakers(ctx context.Context, p *patient, c *Check) error {
	rows, err := p.pool.Query(ctx, breakersSQL, shown)
	if err != nil {
		return err
	}
	var endpoint subscriptions.EndpointID
	var all, failures int64
	var reason string
	var probe float64
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &all, &failures, &reason, &probe}, func() error {
		c.detail("%s: %s, %s in a row, next probe in %s", endpoint, reason, several(failures, "failure"),
			show(time.Duration(probe*float64(time.Second))))
		return nil
	})
	switch {
	case err != nil:
		return err
	case all > 0:
		c.is(Warning, "%s held back because of failures or their own Retry-After; probes go on, and what waits "+
			"is sent when one succeeds. Tell their owners.", several(all, "endpoint"))
	default:
		c.is(OK, "No endpoint is held back.")
	}
	return nil
}

// An endpoint that is enabled again, or deleted, lets go of what it held in moments;
// strayAfter is when that was to have happened.
const strayAfter = 5 * time.Minute

const heldSQL = `
	SELECT d.endpoint_id, d.n,
		CASE WHEN e.deleted_at IS NULL AND e.status IN ('paused', 'disabled') THEN e.status
			WHEN e.updated_at > now() - $1::interval THEN 'passing' ELSE 'stray' END
	FROM (SELECT endpoint_id, count(*) AS n FROM posthorn.deliveries WHERE aside = 'held' GROUP BY endpoint_id) d
	LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id
	ORDER BY d.n DESC, d.endpoint_id`

func held(ctx context.Context, p *patient, c *Check) error {
	rows, err := p.pool.Query(ctx, heldSQL, strayAfter)
	if err != nil {
		return err
	}
	var endpoint subscriptions.EndpointID
	var n int64
	var by string
	holding := map[string]int64{}
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &n, &by}, func() error {
		holding[by] += n
		if len(c.Details) < shown && by != "passing" {
			what := map[string]string{"paused": "paused", "disabled": "disabled by Posthorn", "stray": "neither paused nor disabled any longer"}[by]
			c.detail("%s: %d, %s", endpoint, n, what)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case holding["stray"] > 0:
		c.is(Warning, "%s held for endpoints that are enabled or deleted: pause and resume the endpoint, "+
			"or cancel them.", several(holding["stray"], "delivery"))
	case holding["disabled"] > 0:
		c.is(Warning, "%s held because Posthorn disabled the endpoint: have it repaired, then "+
			"POST /v1/endpoints/{id}/resume, which sends them.", several(holding["disabled"], "delivery"))
	default:
		c.is(OK, "%s held for paused endpoints; resuming sends them.", several(holding["paused"], "delivery"))
	}
	return nil
}

const deadLettersSQL = `
	SELECT count(*), count(*) FILTER (WHERE dead_at > now() - interval '1 day')
	FROM posthorn.dead_letters WHERE resolved_at IS NULL`

func deadLetters(ctx context.Context, p *patient, c *Check) error {
	var open, today int64
	if err := p.pool.QueryRow(ctx, deadLettersSQL).Scan(&open, &today); err != nil {
		return err
	}
	c.is(OK, "No dead letter is open.")
	if open > 0 {
		c.is(OK, "%s open, %d of the last day: GET /v1/dead-letters lists them; replay or discard them.",
			several(open, "dead letter"), today)
	}
	return nil
}
