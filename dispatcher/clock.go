package dispatcher

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// clock is the database's clock as this process can know it without asking:
// ids, leases and due times are the database's, whatever the machines' clocks say.
type clock struct {
	offset atomic.Int64 // nanoseconds that the database is ahead
}

// Now is the present time by the database's clock.
func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// sync asks the database for its time; half the round trip is the error.
func (c *clock) sync(ctx context.Context, q subscriptions.Querier) error {
	before := time.Now()
	var there time.Time
	if err := q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	middle := before.Add(time.Since(before) / 2)
	c.offset.Store(int64(there.Sub(middle)))
	return nil
}
