package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const daysLeftSQL = `SELECT day, needed FROM posthorn.days_left ORDER BY day`

// retention names the days past the retention that could not be dropped.
func retention(ctx context.Context, p *patient, c *Check) error {
	rows, err := p.pool.Query(ctx, daysLeftSQL)
	if err != nil {
		return err
	}
	var day time.Time
	var needed, left int64
	_, err = pgx.ForEachRow(rows, []any{&day, &needed}, func() error {
		if left++; left <= shown {
			c.detail("%s: %s waiting or dead, and no fewer", day.Format(time.DateOnly), several(needed, "event"))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case left > 0:
		c.is(Warning, "%s past the retention stays whole, because too much of it is still needed: resume or delete the "+
			"endpoints that hold deliveries (held), and replay or discard dead letters.", several(left, "day"))
	default:
		c.is(OK, "No day is kept for what is left of it.")
	}
	return nil
}
