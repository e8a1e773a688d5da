package dispatcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// worker takes over chunks from River: retries that have come due, chunks that
// the relay could not hand off, and those of nodes that died. It puts a chunk
// into its lane and snoozes the job for a lease: from there on the chunk goes
// the way of one that the relay handed off, and the recorder deletes the job.
type worker struct {
	river.WorkerDefaults[deliverArgs]

	pool      *pgxpool.Pool
	directory *subscriptions.Directory
	lanes     *lanes
	lease     time.Duration
	reaching  reaching
}

// Timeout bounds the loading of a chunk; sending is not the job's.
func (w *worker) Timeout(*river.Job[deliverArgs]) time.Duration { return transactionTimeout }

// NextRetry is soon: an error here is the database's, and no delivery's fault.
func (w *worker) NextRetry(*river.Job[deliverArgs]) time.Time { return time.Now().Add(5 * time.Second) }

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[deliverArgs]) error {
	w.reaching.at(workerFetched)
	if c := w.lanes.holds(job.ID); c != nil && !c.lost.Load() {
		return river.JobSnooze(w.lease) // a renewal came late; nobody else has it
	}
	// This node may have relayed nothing for a while: an endpoint that it has not
	// seen would look deleted, and a changed one would be called as it was.
	if _, err := w.directory.Refresh(ctx, w.pool); err != nil {
		return err
	}
	endpoint, err := subscriptions.ParseEndpointID(job.Args.Endpoint)
	if err != nil {
		return err
	}
	// Room first: what can't be taken on is not worth loading.
	wait, ok := w.lanes.reserve(endpoint, chunkSize)
	if !ok {
		// Spread, so that an endpoint's chunks don't come back all at once.
		return river.JobSnooze(min(time.Minute, max(wait, time.Second)/2+rand.N(max(wait, time.Second))))
	}
	c, err := w.load(ctx, job.ID, job.Args)
	if err != nil || c == nil {
		w.lanes.unreserve(endpoint, chunkSize)
		return err // or every delivery has been settled or belongs to another job
	}
	w.lanes.unreserve(endpoint, chunkSize-len(c.deliveries))
	w.lanes.take(c)
	w.reaching.at(workerHandedOver)
	return river.JobSnooze(w.lease)
}

const loadChunkSQL = `
	SELECT d.id, d.endpoint_id, d.attempts, d.schedule_start, d.event_id, d.event_created_at,
	       o.id IS NULL, coalesce(o.tenant_id, ''), d.event_type, coalesce(o.traceparent, ''),
	       coalesce(o.occurred_at, d.event_created_at),
	       CASE WHEN octet_length(o.payload::text) <= $2 THEN o.payload END
	FROM (
		SELECT * FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NOT NULL
		UNION ALL
		SELECT * FROM posthorn.deliveries WHERE job_id = $1 AND next_attempt_at IS NULL AND id BETWEEN $3 AND $4
	) d
	LEFT JOIN posthorn.outbox o ON o.id = d.event_id AND o.created_at = d.event_created_at
	WHERE d.status IN ('pending', 'retrying')
	ORDER BY d.id`

// load reads what is unfinished of a job's chunk, or nil when nothing is.
func (w *worker) load(ctx context.Context, jobID int64, args deliverArgs) (*chunk, error) {
	rows, err := w.pool.Query(ctx, loadChunkSQL, jobID, maxKeptPayload, args.First, args.Last)
	if err != nil {
		return nil, fmt.Errorf("load chunk of job %d: %w", jobID, err)
	}
	c := &chunk{jobID: jobID}
	type key struct { // a producer that brings ids of its own may have used one twice
		id        outbox.EventID
		createdAt int64
	}
	events := map[key]*event{}
	c.deliveries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (delivery, error) {
		d := delivery{chunk: c}
		e := &event{}
		err := row.Scan(&d.id, &c.endpointID, &d.attempts, &d.scheduleStart, &e.id, &e.createdAt,
			&e.gone, &e.tenantID, &e.eventType, &e.traceparent, &e.occurredAt, &e.payload)
		k := key{e.id, e.createdAt.UnixMicro()}
		if events[k] == nil {
			e.publicID = e.id.String()
			events[k] = e
		}
		d.event = events[k]
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("load chunk of job %d: %w", jobID, err)
	}
	if len(c.deliveries) == 0 {
		return nil, nil
	}
	return c, nil
}
