package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/outbox"
)

// publishers is how many connections commit events side by side.
const publishers = 8

// paced is how far behind their due times the events were begun: in an open loop a
// publisher that waits for a slow commit makes the next events late, and a latency
// that did not say so would flatter.
type paced struct {
	events int
	late   []float64 // milliseconds
	during time.Duration
}

// publishSteadily commits so many events in a second, and one at least, tenant by
// tenant in turn, each in a transaction of its own. The due times are fixed before it
// begins.
func (l *lab) publishSteadily(ctx context.Context, tenants []string, perSecond float64, during time.Duration) (paced, error) {
	n := max(1, int64(perSecond*during.Seconds()))
	begin := time.Now()
	var next atomic.Int64
	var mu sync.Mutex
	p := paced{events: int(n)}
	group, ctx := errgroup.WithContext(ctx)
	for range publishers {
		group.Go(func() error {
			var late []float64
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				due := begin.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
				if err := waitUntil(ctx, due); err != nil {
					return err
				}
				late = append(late, milliseconds(time.Since(due)))
				if err := l.publishTo(ctx, tenants[int(i)%len(tenants)]); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			p.late = append(p.late, late...)
			return nil
		})
	}
	err := group.Wait()
	p.during = time.Since(begin)
	return p, err
}

func waitUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// publishTo commits an event that says when its commit was asked for.
func (l *lab) publishTo(ctx context.Context, tenant string) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		_, err := outbox.Publish(ctx, tx, outbox.Event{TenantID: tenant, Type: "bench.timed", Payload: timedPayload()})
		return err
	})
}

// timedPatience bounds the wait for what has been published to be received.
const timedPatience = 2 * time.Minute

// awaitTimed waits until n timed requests have been received.
func (s *suite) awaitTimed(ctx context.Context, n int) (tally, error) {
	ctx, cancel := context.WithTimeout(ctx, timedPatience)
	defer cancel()
	return s.receiver.await(ctx, int64(n), countTimed, func(count int64) { s.say("%d of %d received", count, n) })
}
