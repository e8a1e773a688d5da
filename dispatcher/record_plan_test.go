package dispatcher

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// manyPendingSQL makes deliveries in their first attempts.
const manyPendingSQL = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id)
	SELECT posthorn.uuid_v7(), posthorn.uuid_v7(), now(), md5('endpoint')::uuid, 'default', 'bench.event', 1 FROM generate_series(1, 100000)`

// A batch of results costs what it holds. The plan is logged: docs/performance.md shows it.
func TestRecordingUsesAnIndexAtVolume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Pool.Exec(t.Context(), manyPendingSQL)
	must(t, err)
	found, err := db.Pool.Query(t.Context(), `SELECT id FROM posthorn.deliveries ORDER BY id OFFSET 5000 LIMIT 800`)
	must(t, err)
	ids, err := pgx.CollectRows(found, pgx.RowTo[DeliveryID])
	must(t, err)
	batch := make([]result, len(ids))
	for i, id := range ids {
		batch[i] = result{delivery: &delivery{chunk: &chunk{}, id: id}, attempt: &attempt{status: 204, verdict: Verdict{Delivered: true}},
			outcome: outcome{status: Delivered}}
	}
	tx, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // only its plan is wanted
	_, err = tx.Exec(t.Context(), planByKeySQL)
	must(t, err)
	rows, err := tx.Query(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) `+recordSQL, newResultRows(batch).arguments()...)
	must(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	plan := strings.Join(lines, "\n")
	t.Logf("%d results of 100,000 deliveries\n%s", len(batch), plan)
	today := "deliveries_" + time.Now().UTC().Format("20060102")
	if !strings.Contains(plan, "Index Scan using "+today+"_pkey") || strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Hash Join") {
		t.Error("the batch's deliveries are not found by their keys and joined by hash")
	}
}
