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
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// recorder commits results, many at a time: one transaction holds the attempts,
// the deliveries' new states, the dead letters, the retries' River jobs, what was
// let go of, the endpoints' health and the deletion of finished parcels' jobs. It is
// one goroutine.
type recorder struct {
	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	directory *subscriptions.Directory
	healths   *healths
	breaker   BreakerPolicy
	disabling DisablePolicy
	node      string
	clock     *clock
	lanes     *lanes
	feeder    *feeder
	results   <-chan result
	logger    *slog.Logger
	telemetry *telemetry
	reaching  reaching
	attempts  copyRows // of the batch at hand
}

const (
	maxBatch = 1000
	// A batch smaller than this waits a little for more; commits are what cost.
	smallBatch = 800
	gatherTime = 20 * time.Millisecond
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
	case res.released != "":
		res.released = releasedLost // its job comes back when its lease ends
	case res.attempt != nil && (res.attempt.responseHeaders != "" || res.attempt.responseBody != nil):
		r.logger.Error("an answer can't be stored and is recorded without its headers and body", "delivery", res.delivery.id, "error", err)
		res.attempt.responseHeaders, res.attempt.responseBody = "", nil
	default:
		r.logger.Error("a result can't be recorded", "delivery", res.delivery.id, "error", err)
		res.released, res.attempt = releasedLater, nil
	}
	r.record(ctx, batch)
}

// commit writes the batch in one transaction.
func (r *recorder) commit(ctx context.Context, batch []result) error {
	var counted map[Status]int64
	var changes *healthChanges
	recorded := 0
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		if err = r.markLost(ctx, tx, batch); err != nil {
			return err
		}
		backlogs, err := r.joinBacklogs(ctx, tx, batch)
		if err != nil {
			return err
		}
		if err = r.setAside(ctx, tx, batch, backlogs); err != nil {
			return err
		}
		if recorded, counted, err = r.writeResults(ctx, tx, batch, backlogs); err != nil {
			return err
		}
		if changes, err = r.updateHealth(ctx, tx, batch); err != nil {
			return err
		}
		r.reaching.at(recorderUncommitted)
		return nil
	})
	if err != nil {
		return fmt.Errorf("record %d results: %w", len(batch), err)
	}
	r.reaching.at(recorderCommitted)
	r.telemetry.recorded(counted, recorded)
	r.learn(ctx, changes)
	return nil
}

// writeResults writes the attempts and what they lead to, and deletes the jobs of
// finished chunks. It returns how many results there were, and how many counted.
func (r *recorder) writeResults(ctx context.Context, tx pgx.Tx, batch []result, backlogs *batchBacklogs) (int, map[Status]int64, error) {
	rows, finished := newResultRows(batch), finishedJobs(batch)
	if err := r.insertRetries(ctx, tx, batch, rows, backlogs); err != nil {
		return 0, nil, err
	}
	var dead []buried
	b := &pgx.Batch{}
	if len(rows.ids) > 0 {
		b.Queue(planByKeySQL)
		b.Queue(recordSQL, rows.arguments()...).Query(rows.scanCounted)
	}
	if len(rows.dead.ids) > 0 {
		b.Queue(buryDeadSQL, rows.deadArguments()...).Query(func(rows pgx.Rows) (err error) {
			dead, err = pgx.CollectRows(rows, pgx.RowToStructByPos[buried])
			return err
		})
	}
	if len(finished) > 0 {
		b.Queue(deleteJobsSQL, finished)
	}
	if b.Len() > 0 {
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return 0, nil, err
		}
	}
	r.attempts.reset()
	if rows.addAttempts(&r.attempts) > 0 {
		if err := r.attempts.copyTo(ctx, tx, copyAttemptsSQL); err != nil {
			return 0, nil, err
		}
	}
	return len(rows.ids), rows.counts(), r.tellDead(ctx, tx, dead)
}

// finishedJobs are those of the parcels whose last results are in the batch, unless
// a delivery was let go because another node may have the job.
func finishedJobs(batch []result) []int64 {
	settled := map[*parcel]int{}
	lost := map[*parcel]bool{}
	jobs := map[*parcel]int64{}
	for _, res := range batch {
		c := res.delivery.chunk
		if c.parcel == nil {
			continue // its backlog goes on
		}
		settled[c.parcel]++
		lost[c.parcel] = lost[c.parcel] || c.parcel.lost || res.released == releasedLost
		jobs[c.parcel] = c.jobID
	}
	var finished []int64
	for p, n := range settled {
		if !lost[p] && p.settled+n == p.size {
			finished = append(finished, jobs[p])
		}
	}
	return finished
}

// settle notes in the chunks, lanes and backlogs what has been committed.
func (r *recorder) settle(batch []result) {
	counts := map[*chunk]int{}
	ofOwner := map[*owner][]result{}
	for _, res := range batch {
		c := res.delivery.chunk
		counts[c]++
		if c.parcel != nil {
			c.parcel.settled++
			c.parcel.lost = c.parcel.lost || res.released == releasedLost
		}
		switch {
		case c.owner != nil:
			ofOwner[c.owner] = append(ofOwner[c.owner], res)
		case res.released == releasedAside:
			r.feeder.poke(c.endpointID)
		}
	}
	for c, n := range counts {
		r.lanes.settle(c, n, c.parcel != nil && c.parcel.settled == c.parcel.size)
	}
	for o, results := range ofOwner {
		o.settled(results)
	}
}
