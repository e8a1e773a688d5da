package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// letGoDelay is when a delivery that could not be tried is looked at again.
const letGoDelay = 15 * time.Second

// setAsideSQL moves deliveries that were let go of into their endpoints' backlogs.
const setAsideSQL = `
	UPDATE posthorn.deliveries d SET job_id = a.to_job, next_attempt_at = a.due
	FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[]) AS a (id, fence, from_job, to_job, due)
	WHERE d.id = a.id AND d.id = ANY($1) AND d.id BETWEEN $6 AND $7
	  AND d.attempts = a.fence AND d.job_id = a.from_job AND d.status IN ('pending', 'retrying')`

// batchBacklogs are the backlogs that a batch adds to. They are joined all at once,
// so that no two recorders wait for each other.
type batchBacklogs struct {
	jobs     map[subscriptions.EndpointID]int64
	doubtful map[subscriptions.EndpointID]bool // whose retries wait there
}

func (r *recorder) joinBacklogs(ctx context.Context, tx pgx.Tx, batch []result) (*batchBacklogs, error) {
	b := &batchBacklogs{doubtful: r.doubtful(batch)}
	var endpoints []subscriptions.EndpointID
	seen := map[subscriptions.EndpointID]bool{}
	for _, res := range batch {
		d := res.delivery
		joins := res.goesAside() && d.chunk.owner == nil || res.retries() && d.position == 0 && b.doubtful[d.chunk.endpointID]
		if joins && !seen[d.chunk.endpointID] {
			seen[d.chunk.endpointID] = true
			endpoints = append(endpoints, d.chunk.endpointID)
		}
	}
	var err error
	b.jobs, err = joinBacklogs(ctx, tx, r.jobs, endpoints)
	return b, err
}

// setAside writes what became of the deliveries that were let go of, but for those
// whose job is another node's by now: they are that node's.
func (r *recorder) setAside(ctx context.Context, tx pgx.Tx, batch []result, backlogs *batchBacklogs) error {
	var moving []*delivery
	due := map[*delivery]time.Time{}
	var joined []subscriptions.EndpointID
	now := r.clock.Now()
	for _, res := range batch {
		d := res.delivery
		switch {
		case res.released == releasedLater:
			due[d] = now.Add(letGoDelay)
		case res.released == releasedAside && d.chunk.owner == nil:
			due[d] = now
		default:
			continue // it stays in the backlog that it was loaded from
		}
		moving = append(moving, d)
		if d.chunk.owner == nil && !slices.Contains(joined, d.chunk.endpointID) {
			joined = append(joined, d.chunk.endpointID)
		}
	}
	if len(moving) == 0 {
		return nil
	}
	if err := writeAside(ctx, tx, moving, due, backlogs.jobs); err != nil {
		return err
	}
	return wakeBacklogs(ctx, tx, r.healths.notHeldBack(r.directory, joined))
}

// markLost finds the deliveries let go of whose jobs are not this node's any more,
// and keeps the other jobs this node's until tx ends.
func (r *recorder) markLost(ctx context.Context, tx pgx.Tx, batch []result) error {
	var jobs []int64
	for _, res := range batch {
		if res.released != "" && res.released != releasedLost {
			jobs = append(jobs, res.delivery.chunk.jobID)
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, lockHeldJobsSQL, slices.Compact(jobs), r.node)
	if err != nil {
		return fmt.Errorf("lock jobs: %w", err)
	}
	ours, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("lock jobs: %w", err)
	}
	for i := range batch {
		res := &batch[i]
		if res.released != "" && !slices.Contains(ours, res.delivery.chunk.jobID) {
			res.released = releasedLost
		}
	}
	return nil
}

func writeAside(ctx context.Context, tx pgx.Tx, moving []*delivery, due map[*delivery]time.Time, backlogs map[subscriptions.EndpointID]int64) error {
	n := len(moving)
	ids, fences := make(uuids, n), make([]int32, n)
	from, to, times := make([]int64, n), make([]int64, n), make([]time.Time, n)
	for i, d := range moving {
		ids[i], fences[i], from[i], times[i] = uuidOf(d.id), int32(d.attempts), d.chunk.jobID, due[d]
		if to[i] = d.chunk.jobID; d.chunk.owner == nil {
			to[i] = backlogs[d.chunk.endpointID]
		}
	}
	least, greatest := bounds(ids)
	if _, err := tx.Exec(ctx, setAsideSQL, ids, fences, from, to, times, least, greatest); err != nil {
		return fmt.Errorf("set %d deliveries aside: %w", n, err)
	}
	return nil
}
