package dispatcher

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// retryWindow is how far apart the due times in one retry job may lie.
const retryWindow = 500 * time.Millisecond

// insertRetries inserts the River jobs of the deliveries that are to be attempted
// again: one for those of an endpoint that are due at about the same time, which
// is when the last of them is. Those in order, and those of an endpoint that only
// fails, wait in their backlog.
func (r *recorder) insertRetries(ctx context.Context, tx pgx.Tx, batch []result, rows *resultRows, backlogs *batchBacklogs) error {
	now := r.clock.Now()
	for _, res := range batch {
		if d := res.delivery; res.retries() && d.position != 0 {
			rows.retryAt(d.id, now.Add(res.outcome.delay), d.chunk.jobID)
		}
	}
	if err := r.retryInBacklogs(ctx, tx, batch, backlogs, rows); err != nil {
		return err
	}
	groups := retryGroups(batch, backlogs.doubtful)
	jobs := make([]river.InsertManyParams, len(groups))
	for i, g := range groups {
		jobs[i] = deliverJob(g.endpointID, now.Add(g.delay))
	}
	ids, err := insertJobs(ctx, r.jobs, tx, jobs)
	if err != nil {
		return err
	}
	var dueSoon []int64
	for i, g := range groups {
		if g.delay < soon {
			dueSoon = append(dueSoon, ids[i])
		}
		for _, at := range g.results {
			rows.retryAt(batch[at].delivery.id, now.Add(g.delay), ids[i])
		}
	}
	if len(dueSoon) > 0 {
		_, err = tx.Exec(ctx, armJobsSQL, dueSoon)
	}
	return err
}

// doubtful are the endpoints whose last attempts all failed: their retries would only
// be moved to their backlogs when they are due.
func (r *recorder) doubtful(batch []result) map[subscriptions.EndpointID]bool {
	failures := map[subscriptions.EndpointID]int{}
	for _, res := range batch {
		id := res.delivery.chunk.endpointID
		switch {
		case res.attempt == nil:
		case res.attempt.verdict.Delivered:
			failures[id] = 0
		default:
			failures[id]++
		}
	}
	doubtful := map[subscriptions.EndpointID]bool{}
	for id, n := range failures {
		if n > 0 && n+r.healths.failures(id) >= doubtfulFailures {
			doubtful[id] = true
		}
	}
	return doubtful
}

// retryInBacklogs gives the retries of doubtful endpoints to their backlogs.
func (r *recorder) retryInBacklogs(ctx context.Context, tx pgx.Tx, batch []result, backlogs *batchBacklogs, rows *resultRows) error {
	now := r.clock.Now()
	first := map[subscriptions.EndpointID]time.Time{} // when each one's first retry is due
	for _, res := range batch {
		id := res.delivery.chunk.endpointID
		if !res.retries() || res.delivery.position != 0 || !backlogs.doubtful[id] {
			continue
		}
		due := now.Add(res.outcome.delay)
		rows.retryAt(res.delivery.id, due, backlogs.jobs[id])
		if seen := first[id]; seen.IsZero() || due.Before(seen) {
			first[id] = due
		}
	}
	wake := r.healths.notHeldBack(r.directory, slices.Collect(maps.Keys(first)))
	at := make([]time.Time, len(wake))
	for i, id := range wake {
		at[i] = first[id]
	}
	return wakeBacklogsAt(ctx, tx, wake, at)
}

// retryGroup is the deliveries of one retry job, by their places in the batch.
type retryGroup struct {
	endpointID subscriptions.EndpointID
	delay      time.Duration
	results    []int
}

func retryGroups(batch []result, inBacklogs map[subscriptions.EndpointID]bool) []retryGroup {
	var retrying []int
	for i, res := range batch {
		if res.retries() && res.delivery.position == 0 && !inBacklogs[res.delivery.chunk.endpointID] {
			retrying = append(retrying, i)
		}
	}
	slices.SortFunc(retrying, func(a, b int) int {
		x, y := batch[a], batch[b]
		if c := x.delivery.chunk.endpointID.Compare(y.delivery.chunk.endpointID); c != 0 {
			return c
		}
		return int(x.outcome.delay - y.outcome.delay)
	})
	var groups []retryGroup
	for _, i := range retrying {
		res := batch[i]
		if g := len(groups) - 1; g >= 0 && groups[g].endpointID == res.delivery.chunk.endpointID &&
			res.outcome.delay-batch[groups[g].results[0]].outcome.delay <= retryWindow && len(groups[g].results) < chunkSize {
			groups[g].results = append(groups[g].results, i)
			groups[g].delay = res.outcome.delay // sorted: the last is the longest
			continue
		}
		groups = append(groups, retryGroup{res.delivery.chunk.endpointID, res.outcome.delay, []int{i}})
	}
	return groups
}
