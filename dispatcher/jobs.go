package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/posthorn/posthorn/migrations"
	"github.com/posthorn/posthorn/subscriptions"
)

// River's queues.
const (
	queueDeliver  = "deliver"  // what may be sent at once
	queueBacklog  = "backlog"  // endpoints that are slow, failing, held back, or in order
	queueMaintain = "maintain" // housekeeping
)

// maxJobAttempts is as many as River's column holds. How often a delivery is
// attempted is counted in the deliveries; a job that River discarded because of
// rescues would only be work for the sweep.
const maxJobAttempts = 32767

// deliverArgs is the River job that owns a parcel. Which deliveries those are says
// their column job_id alone.
type deliverArgs struct {
	// Endpoint is the endpoint's id; empty where the deliveries are several endpoints'.
	Endpoint string `json:"endpoint,omitempty"`
	// Node is the node that has the chunk since the relay's transaction; empty
	// for a job that waits for River.
	Node string `json:"node,omitempty"`
	// First and Last bound the parcel's ids while its deliveries are in no index
	// by job, which is from a hand-off to the first result.
	First DeliveryID `json:"first,omitzero"`
	Last  DeliveryID `json:"last,omitzero"`
}

// Kind names the job for River.
func (deliverArgs) Kind() string { return "deliver" }

// dueNow is the time of a job that any node may fetch at once. River leaves a job
// with another time, a past one too, to its scheduler, which looks every five
// seconds.
var dueNow time.Time

// deliverJob is the job of deliveries that wait: dueNow, or until later.
func deliverJob(endpoint subscriptions.EndpointID, at time.Time) river.InsertManyParams {
	return insertParams(deliverArgs{Endpoint: endpoint.String()}, at)
}

// handedOffJob is the job of the chunks of one parcel that a node has, until the lease
// ends.
func handedOffJob(chunks []*relayedChunk, node string, leaseEnds time.Time) river.InsertManyParams {
	args := deliverArgs{Node: node, First: chunks[0].deliveries[0].id}
	last := chunks[len(chunks)-1].deliveries
	args.Last = last[len(last)-1].id
	if len(chunks) == 1 {
		args.Endpoint = chunks[0].endpointID.String()
	}
	return insertParams(args, leaseEnds)
}

func insertParams(args deliverArgs, at time.Time) river.InsertManyParams {
	return river.InsertManyParams{
		Args:       args,
		InsertOpts: &river.InsertOpts{Queue: queueDeliver, MaxAttempts: maxJobAttempts, ScheduledAt: at},
	}
}

// insertJobs inserts jobs in tx and returns their ids in the same order.
func insertJobs(ctx context.Context, client *river.Client[pgx.Tx], tx pgx.Tx, jobs []river.InsertManyParams) ([]int64, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	inserted, err := client.InsertManyTx(ctx, tx, jobs)
	if err != nil {
		return nil, fmt.Errorf("insert jobs: %w", err)
	}
	ids := make([]int64, len(inserted))
	for i, r := range inserted {
		ids[i] = r.Job.ID
	}
	return ids, nil
}

// newInserter makes a River client that inserts jobs and works none.
func newInserter(pool *pgxpool.Pool) (*river.Client[pgx.Tx], error) {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: migrations.RiverSchema, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("make River client: %w", err)
	}
	return client, nil
}

// soon is how near a due time must be for armJobsSQL.
const soon = 11 * time.Second

// River has no public call for what follows: many jobs at once, in our
// transaction, whatever their state. Where several are locked it is in the order of
// their ids, so that no two of these wait for each other.

// holder is the node that has a job: the last that River gave it to, or the one
// whose relay kept it.
const holder = `coalesce(attempted_by[array_upper(attempted_by, 1)], args->>'node')`

// leased is the state of a job that its holder has: a lease ahead. River's scheduler
// makes it available when its time is near, and that time is heeded by the fetch.
const leased = `(state IN ('scheduled', 'running') OR state = 'available' AND scheduled_at > now())`

const (
	// A finished parcel's job. Should River have it running just now, its own
	// update finds nothing and is a no-op.
	deleteJobsSQL = `DELETE FROM river.river_job WHERE id = ANY(ARRAY(
		SELECT id FROM river.river_job WHERE id = ANY($1) ORDER BY id FOR UPDATE))`

	// River's scheduler looks every five seconds, five seconds ahead. A job due
	// sooner is made available at once: the fetch heeds its time, as River itself
	// has it with short snoozes.
	armJobsSQL = `UPDATE river.river_job SET state = 'available' WHERE id = ANY($1) AND state = 'scheduled'`

	// A job that this node keeps after its worker has returned, for a lease. River,
	// which would call it completed, finds it running no more. It may have done so
	// already: its word on the job's last run can come late, when this one has begun,
	// and is taken back. The look does not count: a job that is looked at for weeks
	// must not run out of attempts.
	keepJobSQL = `UPDATE river.river_job
		SET state = 'scheduled', scheduled_at = now() + $2, attempt = greatest(attempt - 1, 0), finalized_at = NULL
		WHERE id = $1 AND state IN ('running', 'completed') AND ` + holder + ` = $3`

	// Those that are still in this node's hands, and stay so until the transaction ends.
	lockHeldJobsSQL = `SELECT id FROM river.river_job
		WHERE id = ANY($1) AND ` + leased + ` AND ` + holder + ` = $2 ORDER BY id FOR UPDATE`

	// The lease of what is still in hand.
	// One that somebody is at just now, such as a recorder that waits for a lock, is
	// renewed the next time.
	renewLeasesSQL = `UPDATE river.river_job SET scheduled_at = now() + $2, state = CASE state WHEN 'available' THEN 'scheduled' ELSE state END
		WHERE id = ANY(ARRAY(SELECT id FROM river.river_job WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED))
		  AND ` + leased + ` AND ` + holder + ` = $3 RETURNING id`

	// Of those that were not renewed: which are this node's still.
	stillHeldSQL = `SELECT id FROM river.river_job WHERE id = ANY($1) AND ` + leased + ` AND ` + holder + ` = $2`

	// Everything that a node had, for the others: its chunks, and what it was at.
	releaseJobsSQL = `UPDATE river.river_job SET state = 'available', scheduled_at = now()
		WHERE (state = 'running' OR kind IN ('deliver', 'backlog') AND ` + leased + `) AND ` + holder + ` = $1`

	// The same of a session that was lost; what the node has fetched since is its own.
	releaseLostJobsSQL = releaseJobsSQL + ` AND coalesce(attempted_at, created_at) < $2`

	// A dead leader's term would run on for seconds, and nobody schedules meanwhile.
	deposeLeaderSQL = `DELETE FROM river.river_leader WHERE leader_id = $1`
)
