package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// alignArgs is the River job that brings the deliveries of an endpoint into line
// with its status after a change: a paused or disabled one's are held, a deleted
// one's cancelled, and what was held for an enabled one is sent, at a bounded rate.
// It runs until that is done; there is one at a time for an endpoint.
type alignArgs struct {
	// Endpoint is the endpoint's id.
	Endpoint string `json:"endpoint" river:"unique"`
}

// Kind names the job for River.
func (alignArgs) Kind() string { return "align" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (alignArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueMaintain, MaxAttempts: maxJobAttempts,
		UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinishedJob}}
}

// aligner is the worker of those jobs.
type aligner struct {
	river.WorkerDefaults[alignArgs]

	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	directory *subscriptions.Directory
	feeder    *feeder
	telemetry *telemetry
	perSecond int // held deliveries of one endpoint that are given free
}

// NextRetry is soon: an error here is the database's.
func (a *aligner) NextRetry(*river.Job[alignArgs]) time.Time { return time.Now().Add(2 * time.Second) }

// Work implements river.Worker.
func (a *aligner) Work(ctx context.Context, job *river.Job[alignArgs]) error {
	endpoint, err := subscriptions.ParseEndpointID(job.Args.Endpoint)
	if err != nil {
		return err
	}
	if _, err := a.directory.Refresh(ctx, a.pool); err != nil {
		return err
	}
	defer a.feeder.poke(endpoint)
	switch sub := a.directory.Get(endpoint); {
	case sub == nil:
		return a.cancel(ctx, endpoint)
	case sub.Status != subscriptions.Enabled:
		return a.hold(ctx, endpoint)
	default:
		return a.drain(ctx, endpoint)
	}
}

// A retry that waits for its time belongs to a job that nobody has fetched yet;
// what a process has in hand is settled there, and a backlog by its owner.
const holdRetriesSQL = `
	UPDATE posthorn.deliveries SET status = 'held', job_id = NULL, next_attempt_at = NULL
	WHERE id = ANY(ARRAY(
		SELECT d.id FROM posthorn.deliveries d JOIN river.river_job j ON j.id = d.job_id
		WHERE d.aside = 'retrying' AND d.endpoint_id = $1
		  AND j.kind = 'deliver' AND j.state IN ('scheduled', 'available') AND j.attempted_by IS NULL AND j.args->>'node' IS NULL
		ORDER BY d.id LIMIT $2 FOR UPDATE SKIP LOCKED))
	  AND status = 'retrying'`

func (a *aligner) hold(ctx context.Context, endpoint subscriptions.EndpointID) error {
	if err := a.wake(ctx, endpoint); err != nil {
		return err
	}
	return a.inBatches(ctx, Held, holdRetriesSQL, endpoint)
}

// The same of a deleted endpoint, and what was held for it.
const (
	cancelRetriesSQL = `
	UPDATE posthorn.deliveries SET status = 'cancelled', job_id = NULL, next_attempt_at = NULL, finished_at = now(),
		ordering_position = NULL, last_error = '` + endpointDeleted + `'
	WHERE id = ANY(ARRAY(
		SELECT d.id FROM posthorn.deliveries d JOIN river.river_job j ON j.id = d.job_id
		WHERE d.aside = 'retrying' AND d.endpoint_id = $1
		  AND j.kind = 'deliver' AND j.state IN ('scheduled', 'available') AND j.attempted_by IS NULL AND j.args->>'node' IS NULL
		ORDER BY d.id LIMIT $2 FOR UPDATE SKIP LOCKED))
	  AND status = 'retrying'`

	cancelHeldSQL = `
	UPDATE posthorn.deliveries SET status = 'cancelled', finished_at = now(), ordering_position = NULL, last_error = '` + endpointDeleted + `'
	WHERE id = ANY(ARRAY(
		SELECT id FROM posthorn.deliveries WHERE aside = 'held' AND endpoint_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
	  AND status = 'held'`
)

func (a *aligner) cancel(ctx context.Context, endpoint subscriptions.EndpointID) error {
	if err := a.wake(ctx, endpoint); err != nil {
		return err
	}
	if err := a.inBatches(ctx, Cancelled, cancelRetriesSQL, endpoint); err != nil {
		return err
	}
	return a.inBatches(ctx, Cancelled, cancelHeldSQL, endpoint)
}

func (a *aligner) wake(ctx context.Context, endpoint subscriptions.EndpointID) error {
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		return wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint})
	})
}

// inBatches runs a statement until it finds no more, each time in a transaction.
func (a *aligner) inBatches(ctx context.Context, to Status, sql string, endpoint subscriptions.EndpointID) error {
	for {
		tag, err := a.pool.Exec(ctx, sql, endpoint, maxSettled)
		if err != nil {
			return fmt.Errorf("make the deliveries of %s %s: %w", endpoint, to, err)
		}
		a.telemetry.settled(to, tag.RowsAffected())
		if tag.RowsAffected() < maxSettled {
			return nil
		}
	}
}

const (
	freeHeldSQL = `
	UPDATE posthorn.deliveries SET status = CASE WHEN attempts > schedule_start THEN 'retrying' ELSE 'pending' END,
		job_id = $2, next_attempt_at = now()
	WHERE id = ANY(ARRAY(
		SELECT id FROM posthorn.deliveries WHERE aside = 'held' AND endpoint_id = $1 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED))
	  AND status = 'held'`

	anyHeldSQL = `SELECT EXISTS (SELECT FROM posthorn.deliveries WHERE aside = 'held' AND endpoint_id = $1)`
)

// drain gives free what was held, a second's worth at a time: the backlog's owner
// sends it as the receiver takes it.
func (a *aligner) drain(ctx context.Context, endpoint subscriptions.EndpointID) error {
	more := false
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, anyHeldSQL, endpoint).Scan(&more); err != nil {
			return err
		}
		if !more {
			return wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint}) // it may have been parked for its breaker
		}
		backlogs, err := joinBacklogs(ctx, tx, a.jobs, []subscriptions.EndpointID{endpoint})
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, freeHeldSQL, endpoint, backlogs[endpoint], a.perSecond)
		if err != nil {
			return err
		}
		more = tag.RowsAffected() == int64(a.perSecond)
		return wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint})
	})
	if err != nil {
		return fmt.Errorf("resume the deliveries of %s: %w", endpoint, err)
	}
	if more {
		return river.JobSnooze(time.Second)
	}
	return nil
}

// alignments inserts the jobs for endpoints whose status this process sees changing.
// The sweep does it for those that nobody saw.
type alignments struct {
	jobs    *river.Client[pgx.Tx]
	logger  *slog.Logger
	changed chan subscriptions.EndpointID
}

func newAlignments(jobs *river.Client[pgx.Tx], logger *slog.Logger) *alignments {
	return &alignments{jobs: jobs, logger: logger, changed: make(chan subscriptions.EndpointID, 1024)}
}

// notice is told of every changed endpoint; it never waits.
func (a *alignments) notice(before, after *subscriptions.Subscription) {
	switch {
	case before == nil: // new, or seen for the first time
	case after == nil, before.Status != after.Status, before.HealthEpoch != after.HealthEpoch:
		select {
		case a.changed <- before.ID:
		default: // the sweep's
		}
	}
}

// alignAgain is when a changed endpoint is looked at once more: the job of the change
// before may have been at its end when this one came, and a relay may have routed by
// what was.
const alignAgain = 2 * time.Second

func (a *alignments) run(ctx context.Context) {
	var soon, later []subscriptions.EndpointID // to be looked at at the next tick, and at the one after
	tick := time.NewTicker(alignAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-a.changed:
			a.align(ctx, id)
			later = append(later, id)
		case <-tick.C:
			a.align(ctx, soon...)
			soon, later = later, nil
		}
	}
}

func (a *alignments) align(ctx context.Context, ids ...subscriptions.EndpointID) {
	for _, id := range ids {
		if err := a.insert(ctx, id); err != nil && ctx.Err() == nil {
			a.logger.Error("a changed endpoint's deliveries will be seen to by the sweep", "endpoint", id, "error", err)
		}
	}
}

func (a *alignments) insert(ctx context.Context, id subscriptions.EndpointID) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	_, err := a.jobs.Insert(ctx, alignArgs{Endpoint: id.String()}, nil)
	return err
}
