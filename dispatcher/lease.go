package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// keeper renews the leases of what is in this process's hands, and keeps its copies
// of the clock, the subscriptions and the endpoints' health.
type keeper struct {
	*Dispatcher
}

const (
	// idleLane is how long an endpoint's lane is kept without work.
	idleLane = 10 * time.Minute
	// watchEvery is how often lanes are looked at for requests that hang.
	watchEvery = 100 * time.Millisecond
	// lookEvery is how soon a node knows what others have found: a changed endpoint,
	// an opened breaker.
	lookEvery = 500 * time.Millisecond
)

// run does all of it until ctx is done: looks must not keep renewals waiting.
func (k *keeper) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { k.every(ctx, lookEvery, "what other nodes have found can't be read", k.look) })
	all.Go(func() { k.every(ctx, k.config.Lease/3, "leases can't be renewed", k.renew) })
	all.Go(func() {
		k.every(ctx, watchEvery, "", func(context.Context) error {
			k.lanes.watch(time.Now().Add(-idleLane))
			return nil
		})
	})
	all.Wait()
}

// every does something at an interval, and says when it begins to fail.
func (k *keeper) every(ctx context.Context, interval time.Duration, failure string, do func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := do(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			k.config.Logger.Error(failure+"; it is tried again", "error", err)
		}
		failing = err != nil
	}
}

// keeperTimeout is short enough that a hanging connection costs no lease.
const keeperTimeout = 5 * time.Second

// look learns what the other nodes have found. The relay does some of it at every
// batch; a node without events to route must see changed endpoints too.
func (k *keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	if _, err := k.config.Directory.Refresh(ctx, k.config.Pool); err != nil {
		return err
	}
	return k.healths.refresh(ctx, k.config.Pool)
}

// renew extends the leases. One whose job is another node's by now is lost: what is
// not sent yet is left to that node.
func (k *keeper) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	if err := k.clock.sync(ctx, k.config.Pool); err != nil {
		return err
	}
	leases := k.lanes.leases()
	maps.Copy(leases, k.feeder.leases())
	if len(leases) == 0 {
		return nil
	}
	asked := time.Now()
	rows, err := k.config.Pool.Query(ctx, renewLeasesSQL, slices.Collect(maps.Keys(leases)), k.config.Lease, k.config.NodeName)
	if err != nil {
		return fmt.Errorf("renew %d leases: %w", len(leases), err)
	}
	renewed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("renew %d leases: %w", len(leases), err)
	}
	for _, id := range renewed {
		leases[id].extend(asked, k.config.Lease)
		delete(leases, id)
	}
	return k.findLost(ctx, leases)
}

// findLost marks those of the leases that could not be renewed whose jobs are another
// node's by now.
func (k *keeper) findLost(ctx context.Context, leases map[int64]*lease) error {
	if len(leases) == 0 {
		return nil
	}
	rows, err := k.config.Pool.Query(ctx, stillHeldSQL, slices.Collect(maps.Keys(leases)), k.config.NodeName)
	if err != nil {
		return fmt.Errorf("look for %d leases: %w", len(leases), err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for %d leases: %w", len(leases), err)
	}
	for _, id := range held {
		delete(leases, id)
	}
	for _, lost := range leases {
		lost.lose()
	}
	return nil
}
