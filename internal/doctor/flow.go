package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/subscriptions"
)

// How long a committed event may wait to be routed; it is milliseconds as a rule.
const (
	slowRouting = 30 * time.Second
	noRouting   = 5 * time.Minute
)

func routing(ctx context.Context, p *patient, c *Check) error {
	b, err := dispatcher.ReadBacklog(ctx, p.pool)
	if err != nil {
		return err
	}
	c.is(OK, "%s to be routed.", several(b.Events, "event"))
	if b.Oldest > slowRouting {
		state := Warning
		if b.Oldest > noRouting {
			state = Failure
		}
		c.is(state, "%s to be routed, the oldest for %s: no dispatcher runs, or all have as much in hand as they "+
			"take on. Start one more, and see which endpoint is slow under backlog and breakers.",
			several(b.Events, "event"), show(b.Oldest))
	}
	return nil
}

const (
	slowJob = 2 * time.Minute
	noJob   = 15 * time.Minute
)

const jobsSQL = `
	SELECT count(*), coalesce(extract(epoch FROM now() - min(scheduled_at)), 0)::float8
	FROM river.river_job WHERE state = 'available' AND scheduled_at < now() - $1::interval`

func jobs(ctx context.Context, p *patient, c *Check) error {
	var stuck int64
	var oldest float64
	if err := p.pool.QueryRow(ctx, jobsSQL, slowJob).Scan(&stuck, &oldest); err != nil {
		return err
	}
	c.is(OK, "No job that is due waits for a worker.")
	if stuck > 0 {
		age := time.Duration(oldest * float64(time.Second))
		state := Warning
		if age > noJob {
			state = Failure
		}
		c.is(state, "%s due for up to %s and not fetched: no dispatcher runs, its workers are all busy, or its "+
			"River client has stopped; look at its log and start another.", several(stuck, "job"), show(age))
	}
	return nil
}

const backlogSQL = `
	SELECT endpoint_id, count(*), sum(count(*)) OVER ()::bigint, extract(epoch FROM now() - min(event_created_at))::float8
	FROM posthorn.deliveries WHERE next_attempt_at IS NOT NULL
	GROUP BY endpoint_id ORDER BY count(*) DESC, endpoint_id LIMIT $1`

const (
	// shown is how many endpoints are named.
	shown = 5
	// longBacklog is how many deliveries may wait for one endpoint.
	longBacklog = 10_000
)

func backlog(ctx context.Context, p *patient, c *Check) error {
	rows, err := p.pool.Query(ctx, backlogSQL, shown)
	if err != nil {
		return err
	}
	var endpoint subscriptions.EndpointID
	var waiting, most, all int64
	var oldest float64
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &waiting, &all, &oldest}, func() error {
		most = max(most, waiting)
		c.detail("%s: %d, the oldest event of %s ago", endpoint, waiting, show(time.Duration(oldest*float64(time.Second))))
		return nil
	})
	switch {
	case err != nil:
		return err
	case most > longBacklog:
		c.is(Warning, "%s waiting for an attempt, most of them at the endpoints below: tell their owners, or "+
			"raise max_in_flight where the receiver can take more.", several(all, "delivery"))
	default:
		c.is(OK, "%s waiting for an attempt.", several(all, "delivery"))
	}
	return nil
}
