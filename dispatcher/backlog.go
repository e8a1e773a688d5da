package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// backlogArgs is the River job that owns what waits for an endpoint, as long as
// anything does: one for each endpoint, named by the table backlogs. It is parked
// (available at a later time, attempted by nobody) while nobody may send, and leased
// while a node's owner works on it.
type backlogArgs struct {
	// Endpoint is the endpoint's id.
	Endpoint string `json:"endpoint"`
}

// Kind names the job for River.
func (backlogArgs) Kind() string { return "backlog" }

// backlogJob is a new backlog's job. Its priority falls as the backlog grows, whenever
// it is parked.
func backlogJob(endpoint subscriptions.EndpointID, at time.Time) river.InsertManyParams {
	return river.InsertManyParams{
		Args:       backlogArgs{Endpoint: endpoint.String()},
		InsertOpts: &river.InsertOpts{Queue: queueBacklog, MaxAttempts: maxJobAttempts, ScheduledAt: at},
	}
}

const (
	// The lock keeps a backlog from being ended while deliveries join it.
	findBacklogsSQL = `
		SELECT b.endpoint_id, b.job_id FROM posthorn.backlogs b
		WHERE b.endpoint_id = ANY($1) AND EXISTS (SELECT FROM river.river_job j WHERE j.id = b.job_id AND j.finalized_at IS NULL)
		ORDER BY b.endpoint_id FOR SHARE OF b`

	// Of those whose jobs somebody has deleted.
	forgetBacklogsSQL = `
		DELETE FROM posthorn.backlogs b WHERE b.endpoint_id = ANY($1)
		  AND NOT EXISTS (SELECT FROM river.river_job j WHERE j.id = b.job_id AND j.finalized_at IS NULL)`

	enterBacklogsSQL = `
		INSERT INTO posthorn.backlogs (endpoint_id, job_id)
		SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS b (endpoint_id, job_id) ORDER BY endpoint_id
		ON CONFLICT DO NOTHING RETURNING endpoint_id`
)

// errBacklogMoved is for a backlog that ended and began anew while it was joined;
// the transaction is to be tried again.
var errBacklogMoved = errors.New("a backlog ended while deliveries were about to join it")

// joinBacklogs gives the jobs that own the endpoints' backlogs, new ones at need,
// and keeps the backlogs from being ended before tx is through.
func joinBacklogs(ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], endpoints []subscriptions.EndpointID) (map[subscriptions.EndpointID]int64, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	found, err := findBacklogs(ctx, tx, endpoints)
	if err != nil || len(found) == len(endpoints) {
		return found, err
	}
	missing := slices.DeleteFunc(slices.Clone(endpoints), func(id subscriptions.EndpointID) bool { return found[id] != 0 })
	if err := beginBacklogs(ctx, tx, client, missing); err != nil {
		return nil, err
	}
	// Another may have been quicker; its job is the one.
	if found, err = findBacklogs(ctx, tx, endpoints); err == nil && len(found) < len(endpoints) {
		err = errBacklogMoved
	}
	return found, err
}

func findBacklogs(ctx context.Context, tx pgx.Tx, endpoints []subscriptions.EndpointID) (map[subscriptions.EndpointID]int64, error) {
	rows, err := tx.Query(ctx, findBacklogsSQL, uuidsOf(endpoints))
	if err != nil {
		return nil, fmt.Errorf("find backlogs: %w", err)
	}
	found := make(map[subscriptions.EndpointID]int64, len(endpoints))
	var id subscriptions.EndpointID
	var job int64
	_, err = pgx.ForEachRow(rows, []any{&id, &job}, func() error {
		found[id] = job
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find backlogs: %w", err)
	}
	return found, nil
}

// beginBacklogs makes the missing ones, unless another transaction does.
func beginBacklogs(ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], missing []subscriptions.EndpointID) error {
	ids := uuidsOf(missing)
	if _, err := tx.Exec(ctx, forgetBacklogsSQL, ids); err != nil {
		return fmt.Errorf("forget backlogs: %w", err)
	}
	params := make([]river.InsertManyParams, len(missing))
	for i, id := range missing {
		params[i] = backlogJob(id, dueNow)
	}
	jobs, err := insertJobs(ctx, client, tx, params)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, enterBacklogsSQL, ids, jobs)
	if err != nil {
		return fmt.Errorf("begin backlogs: %w", err)
	}
	entered, err := pgx.CollectRows(rows, pgx.RowTo[subscriptions.EndpointID])
	if err != nil {
		return fmt.Errorf("begin backlogs: %w", err)
	}
	var spare []int64
	for i, id := range missing {
		if !slices.Contains(entered, id) {
			spare = append(spare, jobs[i])
		}
	}
	if len(spare) > 0 {
		_, err = tx.Exec(ctx, deleteJobsSQL, spare)
	}
	return err
}

// A parked backlog is looked at at the given time, if it would be later; one that a
// node owns is left alone, and so is one that somebody is at just now: whoever parks
// it looks first.
const wakeBacklogsSQL = `
	UPDATE river.river_job j SET scheduled_at = greatest(w.at, now()) FROM (
		SELECT j.id, e.at FROM unnest($1::uuid[], $2::timestamptz[]) AS e (endpoint_id, at)
		JOIN posthorn.backlogs b ON b.endpoint_id = e.endpoint_id JOIN river.river_job j ON j.id = b.job_id
		WHERE j.state = 'available' AND j.scheduled_at > greatest(e.at, now()) AND j.attempted_by IS NULL
		ORDER BY j.id FOR UPDATE OF j SKIP LOCKED) w
	WHERE j.id = w.id`

// wakeBacklogs has the endpoints' backlogs looked at at once.
func wakeBacklogs(ctx context.Context, tx pgx.Tx, endpoints []subscriptions.EndpointID) error {
	return wakeBacklogsAt(ctx, tx, endpoints, make([]time.Time, len(endpoints)))
}

func wakeBacklogsAt(ctx context.Context, tx pgx.Tx, endpoints []subscriptions.EndpointID, at []time.Time) error {
	if len(endpoints) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, wakeBacklogsSQL, uuidsOf(endpoints), at); err != nil {
		return fmt.Errorf("wake %d backlogs: %w", len(endpoints), err)
	}
	return nil
}

func uuidsOf(endpoints []subscriptions.EndpointID) uuids {
	ids := make(uuids, len(endpoints))
	for i, id := range endpoints {
		ids[i] = uuidOf(id)
	}
	return ids
}
