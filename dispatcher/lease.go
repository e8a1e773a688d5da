package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// keeper renews the leases of what is in this process's hands, and keeps its copies
// of the clock, the subscriptions and the endpoints' health.
type keeper struct {
	*Dispatcher
	failing bool // the last look failed, and the log says so
}

const (
	// idleLane is how long an endpoint's lane is kept without work.
	idleLane = 10 * time.Minute
	// lookEvery is how soon a node knows what others have found: a changed endpoint,
	// an opened breaker.
	lookEvery = 500 * time.Millisecond
)

func (k *keeper) run(ctx context.Context) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	renewals := time.NewTicker(k.config.Lease / 3)
	defer renewals.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-looks.C:
			err = k.look(ctx)
		case <-renewals.C:
			err = k.renew(ctx)
		}
		if err != nil && !k.failing && ctx.Err() == nil {
			k.config.Logger.Error("the keeper will try again", "error", err)
		}
		k.failing = err != nil
	}
}

// keeperTimeout is short enough that a hanging connection costs no lease.
const keeperTimeout = 5 * time.Second

// look learns what the other nodes have found. The relay does some of it at every
// batch; a node without events to route must see changed endpoints too.
func (k *keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	k.lanes.watch(time.Now().Add(-idleLane))
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
	for _, lost := range leases {
		lost.lose()
	}
	return nil
}
