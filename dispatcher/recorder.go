package dispatcher

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	  subscriptions/match.go    decides which endpoints want it
//	  dispatcher/sender.go      signs it and POSTs it
//	> dispatcher/recorder.go    commits what came of it

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// recorder commits results, many at a time: one transaction holds the attempts,
// the deliveries' new states, the dead letters, the retries' River jobs and the
// deletion of finished chunks' jobs. It is one goroutine.
type recorder struct {
	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	node      string
	clock     *clock
	lanes     *lanes
	results   <-chan result
	logger    *slog.Logger
	telemetry *telemetry
	reaching  reaching
}

const (
	maxBatch = 1000
	// A batch smaller than this waits a little for more; commits are what cost.
	smallBatch = 400
	gatherTime = 20 * time.Millisecond
	// letGoDelay is when work that could not be done is looked at again.
	letGoDelay = 15 * time.Second
	// retryWindow is how far apart the due times in one retry job may lie.
	retryWindow = 500 * time.Millisecond
)

// run records until results is closed. While the database can't be reached it
// keeps trying, and the senders wait; ctx ends that.
func (r *recorder) run(ctx context.Context) {
	batch := make([]result, 0, maxBatch)
	for first := range r.results {
		batch = r.gather(append(batch[:0], first))
		r.record(ctx, batch)
		clear(batch)
	}
}

// gather adds what is there to the batch, and what comes in a moment.
func (r *recorder) gather(batch []result) []result {
	var patience <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case res, ok := <-r.results:
			if !ok {
				return batch
			}
			batch = append(batch, res)
			continue
		default:
		}
		if len(batch) >= smallBatch {
			return batch
		}
		if patience == nil {
			patience = time.After(gatherTime)
		}
		select {
		case res, ok := <-r.results:
			if !ok {
				return batch
			}
			batch = append(batch, res)
		case <-patience:
			return batch
		}
	}
	return batch
}

// record commits the batch, however long that takes, and settles it.
func (r *recorder) record(ctx context.Context, batch []result) {
	r.reaching.at(recorderBefore)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := r.commit(ctx, batch)
		if err == nil {
			r.settle(batch)
			return
		}
		if refused(err) {
			r.recordOneByOne(ctx, batch, err)
			return
		}
		r.logger.Error("results wait to be recorded", "results", len(batch), "error", err)
		select {
		case <-ctx.Done():
			return // their jobs are given back or expire
		case <-time.After(pause):
		}
	}
}

// refused reports whether the database will never take these values: class 22 is
// bad data, 23 a broken constraint.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23")
}

// recordOneByOne keeps one result that the database refuses from holding up the
// others. The refused one loses what the receiver sent, and if that does not
// help it is left to its job.
func (r *recorder) recordOneByOne(ctx context.Context, batch []result, err error) {
	if len(batch) > 1 {
		for i := range batch {
			r.record(ctx, batch[i:i+1])
		}
		return
	}
	res := &batch[0]
	switch {
	case res.letGo:
		r.settle(batch)
		return
	case res.attempt != nil && (res.attempt.responseHeaders != "" || res.attempt.responseBody != nil):
		r.logger.Error("an answer can't be stored and is recorded without its headers and body", "delivery", res.delivery.id, "error", err)
		res.attempt.responseHeaders, res.attempt.responseBody = "", nil
	default:
		r.logger.Error("a result can't be recorded", "delivery", res.delivery.id, "error", err)
		res.letGo = true
	}
	r.record(ctx, batch)
}

// commit writes the batch in one transaction.
func (r *recorder) commit(ctx context.Context, batch []result) error {
	rows := newResultRows(batch)
	finished, leftover := closing(batch)
	counted := map[Status]int64{}
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if err := r.insertRetries(ctx, tx, batch, rows); err != nil {
			return err
		}
		b := &pgx.Batch{}
		if len(rows.ids) > 0 {
			b.Queue(planByKeySQL)
			b.Queue(recordSQL, rows.arguments()...).Query(func(rows pgx.Rows) error { return scanCounts(rows, counted) })
		}
		if len(rows.dead.ids) > 0 {
			b.Queue(buryDeadSQL, rows.deadArguments()...)
		}
		if len(finished) > 0 {
			b.Queue(deleteJobsSQL, finished)
		}
		if len(leftover) > 0 {
			b.Queue(delayJobsSQL, leftover, letGoDelay, r.node)
		}
		if b.Len() > 0 {
			if err := tx.SendBatch(ctx, b).Close(); err != nil {
				return err
			}
		}
		r.reaching.at(recorderUncommitted)
		return nil
	})
	if err != nil {
		return fmt.Errorf("record %d results: %w", len(batch), err)
	}
	r.reaching.at(recorderCommitted)
	r.telemetry.recorded(counted, len(rows.ids))
	return nil
}

// scanCounts reads how many results counted, by the deliveries' new states.
func scanCounts(rows pgx.Rows, counted map[Status]int64) error {
	var status Status
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		counted[status] = n
		return nil
	})
	return err
}

// closing finds the chunks whose last results are in the batch: the jobs of
// those that are finished, and of those that a delivery was let go of.
func closing(batch []result) (finished, leftover []int64) {
	settled := map[*chunk]int{}
	let := map[*chunk]bool{}
	for _, res := range batch {
		c := res.delivery.chunk
		settled[c]++
		let[c] = let[c] || res.letGo || c.leftover
	}
	for c, n := range settled {
		switch {
		case c.settled+n < len(c.deliveries):
		case let[c]:
			leftover = append(leftover, c.jobID)
		default:
			finished = append(finished, c.jobID)
		}
	}
	return finished, leftover
}

// settle notes in the chunks and lanes what has been committed.
func (r *recorder) settle(batch []result) {
	counts := map[*chunk]int{}
	for _, res := range batch {
		c := res.delivery.chunk
		counts[c]++
		c.leftover = c.leftover || res.letGo
	}
	for c, n := range counts {
		c.settled += n
		r.lanes.settle(c, n, c.settled == len(c.deliveries))
	}
}

// insertRetries inserts the River jobs of the deliveries that are to be attempted
// again: one for those of an endpoint that are due at about the same time, which
// is when the last of them is.
func (r *recorder) insertRetries(ctx context.Context, tx pgx.Tx, batch []result, rows *resultRows) error {
	groups := retryGroups(batch)
	now := r.clock.Now()
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

// retryGroup is the deliveries of one retry job, by their places in the batch.
type retryGroup struct {
	endpointID subscriptions.EndpointID
	delay      time.Duration
	results    []int
}

func retryGroups(batch []result) []retryGroup {
	var retrying []int
	for i, res := range batch {
		if !res.letGo && res.outcome.status == Retrying {
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
