package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/subscriptions"
)

// sweepArgs is the periodic job that makes lost jobs again. Truth is in our
// tables: should River's be emptied, every unfinished delivery gets a new job.
type sweepArgs struct{}

// Kind names the job for River.
func (sweepArgs) Kind() string { return "sweep" }

type sweeper struct {
	river.WorkerDefaults[sweepArgs]

	pool     *pgxpool.Pool
	jobs     *river.Client[pgx.Tx]
	grace    time.Duration
	counters *telemetry
	reaching reaching
}

// maxSweep is how many lost deliveries one transaction takes up.
const maxSweep = 5000

// Work implements river.Worker.
func (s *sweeper) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	if err := s.mark(ctx); err != nil {
		return err
	}
	if err := s.align(ctx); err != nil {
		return err
	}
	for {
		n, err := s.adopt(ctx)
		if err != nil {
			return err
		}
		if n < maxSweep {
			return nil
		}
	}
}

const (
	sweptToSQL = `SELECT swept_to, now() FROM posthorn.sweep_state FOR UPDATE`

	// A delivery that was handed off has no next_attempt_at and is in no index of
	// unfinished ones. Each such row is looked at once, when it is grace old.
	markUnfinishedSQL = `UPDATE posthorn.deliveries SET next_attempt_at = now()
		WHERE id >= $1 AND id < $2 AND status = 'pending' AND next_attempt_at IS NULL`

	setSweptToSQL = `UPDATE posthorn.sweep_state SET swept_to = $1`
)

// mark puts first attempts that are still not finished after the grace among the
// waiting ones, where adopt finds them if their job is lost.
func (s *sweeper) mark(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var from, now time.Time
		if err := tx.QueryRow(ctx, sweptToSQL).Scan(&from, &now); err != nil {
			return err
		}
		to := now.Add(-s.grace)
		if !to.After(from) {
			return nil
		}
		// The overlap covers clocks that differ a little.
		if _, err := tx.Exec(ctx, markUnfinishedSQL, floor(from.Add(-s.grace)), floor(to)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, setSweptToSQL, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark unfinished deliveries: %w", err)
	}
	return nil
}

func floor(at time.Time) DeliveryID { return typeid.Floor[deliveryKind](at) }

const (
	lostSQL = `SELECT d.id, d.endpoint_id FROM posthorn.deliveries d
		WHERE d.next_attempt_at < now() - $1::interval AND d.status IN ('pending', 'retrying')
		  AND NOT EXISTS (SELECT FROM river.river_job j WHERE j.id = d.job_id AND j.finalized_at IS NULL)
		ORDER BY d.endpoint_id, d.id LIMIT $2
		FOR UPDATE OF d SKIP LOCKED`

	adoptSQL = `UPDATE posthorn.deliveries d SET job_id = a.job_id, next_attempt_at = now()
		FROM unnest($1::uuid[], $2::bigint[]) AS a (id, job_id)
		WHERE d.id = a.id AND d.id BETWEEN $3 AND $4`
)

// lostDelivery is an unfinished delivery whose job is gone.
type lostDelivery struct {
	ID         DeliveryID
	EndpointID subscriptions.EndpointID
}

// adopt puts due deliveries without a live job into their endpoints' backlogs, and
// returns how many those were.
func (s *sweeper) adopt(ctx context.Context) (int, error) {
	var lost []lostDelivery
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lostSQL, s.grace/4, maxSweep)
		if err != nil {
			return err
		}
		lost, err = pgx.CollectRows(rows, pgx.RowToStructByPos[lostDelivery])
		if err != nil || len(lost) == 0 {
			return err
		}
		if err := s.giveBacklogs(ctx, tx, lost); err != nil {
			return err
		}
		s.reaching.at(sweepUncommitted)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("adopt lost deliveries: %w", err)
	}
	if len(lost) > 0 {
		s.reaching.at(sweepCommitted)
		s.counters.recoveredJobs(ctx, int64(len(lost)), "sweep")
	}
	return len(lost), nil
}

// giveBacklogs makes the backlogs own the deliveries, which are ordered by endpoint.
func (s *sweeper) giveBacklogs(ctx context.Context, tx pgx.Tx, lost []lostDelivery) error {
	var endpoints []subscriptions.EndpointID
	for i, d := range lost {
		if i == 0 || d.EndpointID != lost[i-1].EndpointID {
			endpoints = append(endpoints, d.EndpointID)
		}
	}
	backlogs, err := joinBacklogs(ctx, tx, s.jobs, endpoints)
	if err != nil {
		return err
	}
	deliveries, owners := make([]DeliveryID, len(lost)), make([]int64, len(lost))
	for i, d := range lost {
		deliveries[i], owners[i] = d.ID, backlogs[d.EndpointID]
	}
	least, greatest := slices.MinFunc(deliveries, DeliveryID.Compare), slices.MaxFunc(deliveries, DeliveryID.Compare)
	_, err = tx.Exec(ctx, adoptSQL, deliveries, owners, least, greatest)
	return err
}

// An endpoint whose change was seen by nobody, because all were away, or a delivery
// that was routed as the change came. The endpoints are found by stepping through the
// index from one to the next: held deliveries may be millions.
const misalignedSQL = `
	WITH RECURSIVE holding AS (
		(SELECT endpoint_id FROM posthorn.deliveries WHERE aside = 'held' ORDER BY endpoint_id LIMIT 1)
		UNION ALL
		SELECT (SELECT d.endpoint_id FROM posthorn.deliveries d WHERE d.aside = 'held' AND d.endpoint_id > h.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
		FROM holding h WHERE h.endpoint_id IS NOT NULL
	), retrying AS (
		(SELECT endpoint_id FROM posthorn.deliveries WHERE aside = 'retrying' ORDER BY endpoint_id LIMIT 1)
		UNION ALL
		SELECT (SELECT d.endpoint_id FROM posthorn.deliveries d WHERE d.aside = 'retrying' AND d.endpoint_id > r.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
		FROM retrying r WHERE r.endpoint_id IS NOT NULL
	)
	SELECT e.id FROM posthorn.endpoints e JOIN holding h ON h.endpoint_id = e.id WHERE e.deleted_at IS NOT NULL OR e.status = 'enabled'
	UNION
	SELECT e.id FROM posthorn.endpoints e JOIN retrying r ON r.endpoint_id = e.id WHERE e.deleted_at IS NOT NULL OR e.status <> 'enabled'`

// align has the deliveries of changed endpoints seen to.
func (s *sweeper) align(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, misalignedSQL)
	if err != nil {
		return fmt.Errorf("find misaligned endpoints: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[subscriptions.EndpointID])
	if err != nil {
		return fmt.Errorf("find misaligned endpoints: %w", err)
	}
	for _, id := range ids {
		if _, err := s.jobs.Insert(ctx, alignArgs{Endpoint: id.String()}, nil); err != nil {
			return fmt.Errorf("align %s: %w", id, err)
		}
	}
	return nil
}
