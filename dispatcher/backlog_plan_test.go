package dispatcher

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/subscriptions"
)

// waitingVolumeSQL makes some of volumeSQL's deliveries wait: an endpoint's backlog,
// another's in order, a third's held; the rest is delivered.
var waitingVolumeSQL = []string{
	`UPDATE posthorn.deliveries SET status = 'delivered', finished_at = now(), job_id = 1`,
	`UPDATE posthorn.deliveries SET status = 'pending', finished_at = NULL, job_id = 42, next_attempt_at = now() WHERE endpoint_id = md5('endpoint7')::uuid`,
	`UPDATE posthorn.deliveries SET status = 'pending', finished_at = NULL, job_id = 43, next_attempt_at = now(),
		ordering_key = 'key ' || extract(microseconds FROM created_at)::int % 7, ordering_position = nextval('posthorn.ordering_positions')
		WHERE endpoint_id = md5('endpoint8')::uuid`,
	`UPDATE posthorn.deliveries SET status = 'held', finished_at = NULL, job_id = NULL WHERE endpoint_id = md5('endpoint9')::uuid`,
	`VACUUM ANALYZE posthorn.deliveries`,
}

// What an owner asks for again and again must cost what it gets, whatever is stored.
func TestBacklogStatementsUseAnIndexAtVolume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	for _, sql := range append(volumeSQL[:len(volumeSQL):len(volumeSQL)], waitingVolumeSQL...) {
		_, err := db.Pool.Exec(ctx, sql)
		must(t, err)
	}
	var ids [3]subscriptions.EndpointID
	must(t, db.Pool.QueryRow(ctx, `SELECT md5('endpoint7')::uuid, md5('endpoint8')::uuid, md5('endpoint9')::uuid`).Scan(&ids[0], &ids[1], &ids[2]))
	for name, c := range map[string]struct {
		sql   string
		args  []any
		index string
	}{
		"load":          {loadBacklogSQL, []any{42, maxKeptPayload, 50, uuids{}}, "_job_id_next_attempt_at_id_"},
		"what is next":  {nextOfBacklogSQL, []any{42}, "_job_id_next_attempt_at_id_"},
		"settle":        {settleBacklogSQL, []any{42, Held, "", 1000}, "_job_id_next_attempt_at_id_"},
		"arrivals":      {arrivalsSQL, []any{ids[1], 0, maxArrivals}, "_endpoint_id_ordering_"},
		"keys":          {loadKeysSQL, []any{ids[1], maxKeptPayload, []string{"key 1", "key 2"}, 8}, "_endpoint_id_ordering_"},
		"held":          {anyHeldSQL, []any{ids[2]}, "_aside_endpoint_id_id_"},
		"free the held": {freeHeldSQL, []any{ids[2], 44, 100}, "_aside_endpoint_id_id_"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, err := db.Pool.Query(ctx, `EXPLAIN (COSTS OFF) `+c.sql, c.args...)
			must(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			plan := strings.Join(lines, "\n")
			today := "deliveries_" + time.Now().UTC().Format("20060102")
			if strings.Contains(plan, "Seq Scan on "+today) || !strings.Contains(plan, today+c.index) {
				t.Errorf("no index %s%s in the plan:\n%s", today, c.index, plan)
			}
		})
	}
}
