package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// keeper renews the leases of the chunks in this process's hands, keeps the
// clock, and forgets idle lanes.
type keeper struct {
	*Dispatcher
}

// idleLane is how long an endpoint's lane is kept without work.
const idleLane = 10 * time.Minute

func (k keeper) run(ctx context.Context) {
	ticker := time.NewTicker(k.config.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := k.keep(ctx); err != nil && ctx.Err() == nil {
			k.config.Logger.Error("leases could not be renewed", "error", err)
		}
	}
}

func (k keeper) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	k.lanes.forgetIdle(time.Now().Add(-idleLane))
	if err := k.renew(ctx); err != nil {
		return err
	}
	if err := k.clock.sync(ctx, k.config.Pool); err != nil {
		return err
	}
	// What the relay does at every batch; a node without events to route must
	// see changed endpoints too.
	_, err := k.config.Directory.Refresh(ctx, k.config.Pool)
	return err
}

// renew extends the leases. A chunk whose job is another node's by now is lost:
// what is not sent yet is left to that node.
func (k keeper) renew(ctx context.Context) error {
	held := k.lanes.heldJobs()
	if len(held) == 0 {
		return nil
	}
	rows, err := k.config.Pool.Query(ctx, renewLeasesSQL, held, k.config.Lease, k.config.NodeName)
	if err != nil {
		return fmt.Errorf("renew %d leases: %w", len(held), err)
	}
	renewed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("renew %d leases: %w", len(held), err)
	}
	ours := make(map[int64]bool, len(renewed))
	for _, id := range renewed {
		ours[id] = true
	}
	for _, id := range held {
		if c := k.lanes.holds(id); c != nil && !ours[id] {
			c.lost.Store(true)
		}
	}
	return nil
}
