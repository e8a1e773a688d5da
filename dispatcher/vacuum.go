package dispatcher

import (
	"context"
	"time"
)

// vacuumEvery is how many claimed events leave so many dead entries at the head of
// the pending table's index that looking past them begins to cost. Autovacuum
// would come by once a minute.
const vacuumEvery = 10_000

// vacuumTimeout is for a connection that hangs: the next vacuum must not wait for it.
const vacuumTimeout = 5 * time.Minute

// TRUNCATE would want the table for itself.
const vacuumSQL = `VACUUM (TRUNCATE false, SKIP_LOCKED) posthorn.outbox_pending`

// vacuum cleans the pending table now and then, beside the relay.
func (r *relay) vacuum(ctx context.Context, events int) {
	if r.claimed += events; r.claimed < vacuumEvery || !r.vacuuming.CompareAndSwap(false, true) {
		return
	}
	r.claimed = 0
	go func() {
		defer r.vacuuming.Store(false)
		ctx, cancel := context.WithTimeout(ctx, vacuumTimeout)
		defer cancel()
		if _, err := r.pool.Exec(ctx, vacuumSQL); err != nil && ctx.Err() == nil {
			r.logger.Warn("the pending table could not be vacuumed", "error", err)
		}
	}()
}
