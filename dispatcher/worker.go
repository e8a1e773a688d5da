package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// worker takes over parcels from River: retries that have come due, and those of
// nodes that died. It puts a chunk into its lane and keeps the job for a lease:
// from there on the chunk goes the way of one that the relay handed off, and the
// recorder deletes the job. What can't be sent now joins the endpoint's backlog.
type worker struct {
	river.WorkerDefaults[deliverArgs]

	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	directory *subscriptions.Directory
	lanes     *lanes
	node      string
	lease     time.Duration
	telemetry *telemetry
	reaching  reaching
}

// Timeout bounds the loading of a chunk; sending is not the job's.
func (w *worker) Timeout(*river.Job[deliverArgs]) time.Duration { return transactionTimeout }

// NextRetry is soon: an error here is the database's, and no delivery's fault.
func (w *worker) NextRetry(*river.Job[deliverArgs]) time.Time { return time.Now().Add(5 * time.Second) }

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[deliverArgs]) error {
	w.reaching.at(workerFetched)
	if c := w.lanes.holds(job.ID); c != nil {
		// A renewal came late, and nobody else has it; or it was lost, and has requests
		// under way still, which are waited for.
		if c.lease.held() {
			_, err := w.keep(ctx, job.ID)
			return err
		}
		return river.JobSnooze(time.Second)
	}
	// This node may have relayed nothing for a while: an endpoint that it has not
	// seen would look deleted, and a changed one would be called as it was.
	if _, err := w.directory.Refresh(ctx, w.pool); err != nil {
		return err
	}
	if job.Args.Endpoint == "" {
		return w.split(ctx, job)
	}
	endpoint, err := subscriptions.ParseEndpointID(job.Args.Endpoint)
	if err != nil {
		return err
	}
	sub := w.directory.Get(endpoint)
	if sub == nil {
		return w.settle(ctx, job, Cancelled, endpointDeleted)
	}
	if sub.Status != subscriptions.Enabled {
		return w.settle(ctx, job, Held, "")
	}
	if !w.lanes.healths.sendable(sub) {
		return w.moveToBacklog(ctx, job, endpoint)
	}
	asked := time.Now()
	c, err := w.load(ctx, job.ID, job.Args)
	if err != nil || c == nil {
		return err // or every delivery has been settled or belongs to another job
	}
	if !w.lanes.reserve(sub, len(c.deliveries)) {
		return w.moveToBacklog(ctx, job, endpoint)
	}
	if ours, err := w.keep(ctx, job.ID); !ours {
		w.lanes.unreserve(endpoint, len(c.deliveries))
		return err
	}
	c.lease = newLease(asked, w.lease)
	w.lanes.take(c)
	w.reaching.at(workerHandedOver)
	return nil // the job is kept
}

// keep keeps the job for a lease; it reports false when it is another node's by now.
func (w *worker) keep(ctx context.Context, jobID int64) (bool, error) {
	tag, err := w.pool.Exec(ctx, keepJobSQL, jobID, w.lease, w.node)
	if err != nil {
		return false, fmt.Errorf("keep job %d: %w", jobID, err)
	}
	return tag.RowsAffected() == 1, nil
}

// ofJob are the unfinished deliveries of a job: those that wait, and those of a
// hand-off, which are in no index by job.
const ofJob = ` FROM (
		SELECT * FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NOT NULL
		UNION ALL
		SELECT * FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NULL AND id BETWEEN $3 AND $4
	) d`

const loadChunkSQL = `SELECT ` + chunkColumns + ofJob + chunkEvents + `
	WHERE d.status IN ('pending', 'retrying') ORDER BY d.id`

// load reads what is unfinished of a job's chunk, or nil when nothing is.
func (w *worker) load(ctx context.Context, jobID int64, args deliverArgs) (*chunk, error) {
	rows, err := w.pool.Query(ctx, loadChunkSQL, jobID, maxKeptPayload, args.First, args.Last)
	if err != nil {
		return nil, fmt.Errorf("load chunk of job %d: %w", jobID, err)
	}
	c := &chunk{jobID: jobID}
	s := newChunkScanner(c)
	c.deliveries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (delivery, error) { return s.scan(row) })
	if err != nil {
		return nil, fmt.Errorf("load chunk of job %d: %w", jobID, err)
	}
	if len(c.deliveries) == 0 {
		return nil, nil
	}
	(&parcel{}).pack(c)
	return c, nil
}

const settleChunkSQL = `
	UPDATE posthorn.deliveries SET status = $2, job_id = NULL, next_attempt_at = NULL, last_error = coalesce(nullif($5, ''), last_error),
		finished_at = CASE WHEN $2 = 'cancelled' THEN now() END
	WHERE id = ANY(ARRAY(SELECT d.id` + ofJob + `)) AND status IN ('pending', 'retrying')`

// settle holds or cancels the job's deliveries: their endpoint is not sent to.
func (w *worker) settle(ctx context.Context, job *river.Job[deliverArgs], status Status, reason string) error {
	tag, err := w.pool.Exec(ctx, settleChunkSQL, job.ID, status, job.Args.First, job.Args.Last, reason)
	if err != nil {
		return fmt.Errorf("settle chunk of job %d: %w", job.ID, err)
	}
	w.telemetry.settled(status, tag.RowsAffected())
	return nil
}

const moveChunkSQL = `
	UPDATE posthorn.deliveries SET job_id = $2, next_attempt_at = now()
	WHERE id = ANY(ARRAY(SELECT d.id` + ofJob + `)) AND status IN ('pending', 'retrying')`

// moveToBacklog makes the endpoint's backlog own what the job owned.
func (w *worker) moveToBacklog(ctx context.Context, job *river.Job[deliverArgs], endpoint subscriptions.EndpointID) error {
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		backlogs, err := joinBacklogs(ctx, tx, w.jobs, []subscriptions.EndpointID{endpoint})
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, moveChunkSQL, job.ID, backlogs[endpoint], job.Args.First, job.Args.Last); err != nil {
			return err
		}
		return wakeBacklogs(ctx, tx, []subscriptions.EndpointID{endpoint})
	})
	if err != nil {
		return fmt.Errorf("move chunk of job %d to its backlog: %w", job.ID, err)
	}
	return nil
}
