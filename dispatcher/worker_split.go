package dispatcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

const endpointsOfJobSQL = `SELECT DISTINCT d.endpoint_id` + ofJob + ` WHERE d.status = ANY($2::text[])`

const splitJobSQL = `
	UPDATE posthorn.deliveries u SET job_id = s.job, next_attempt_at = now()
	FROM unnest($2::uuid[], $5::bigint[]) AS s (endpoint, job)
	WHERE u.id = ANY(ARRAY(SELECT d.id` + ofJob + `)) AND u.endpoint_id = s.endpoint AND u.status IN ('pending', 'retrying')`

// split gives what each endpoint has in a dead node's parcel to a job of its own. Then
// nothing belongs to the parcel's.
func (w *worker) split(ctx context.Context, job *river.Job[deliverArgs]) error {
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, endpointsOfJobSQL, job.ID, []string{string(Pending), string(Retrying)}, job.Args.First, job.Args.Last)
		if err != nil {
			return err
		}
		endpoints, err := pgx.CollectRows(rows, pgx.RowTo[subscriptions.EndpointID])
		if err != nil || len(endpoints) == 0 {
			return err
		}
		jobs := make([]river.InsertManyParams, len(endpoints))
		for i, id := range endpoints {
			jobs[i] = deliverJob(id, dueNow)
		}
		ids, err := insertJobs(ctx, w.jobs, tx, jobs)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, splitJobSQL, job.ID, uuidsOf(endpoints), job.Args.First, job.Args.Last, ids); err != nil {
			return err
		}
		w.reaching.at(splitUncommitted)
		return nil
	})
	if err != nil {
		return fmt.Errorf("split job %d by endpoints: %w", job.ID, err)
	}
	w.reaching.at(splitCommitted)
	return nil
}
