package outbox

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// A claim costs what it takes, however much is pending and stored. The plans are
// logged: docs/performance.md shows two of them.
func TestClaimsUseAnIndexAtVolume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	for _, sql := range []string{
		`INSERT INTO posthorn.outbox (tenant_id, event_type, payload)
			SELECT 'tenant' || n % 1000, 'a', ('"' || repeat('x', 1022) || '"')::json FROM generate_series(1, 100000) AS n`,
		`ANALYZE posthorn.outbox, posthorn.outbox_pending`,
	} {
		if _, err := db.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Pool.Query(ctx, `SELECT event_id, created_at FROM posthorn.outbox_pending ORDER BY seq LIMIT 1000`)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Claimed, err error) { return c, row.Scan(&c.ID, &c.CreatedAt) })
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]EventID, len(pending))
	for i, c := range pending {
		ids[i] = c.ID
	}
	at := pending[0].CreatedAt // of one transaction
	for name, c := range map[string]struct {
		sql   string
		args  []any
		index string
	}{
		"a claim of 1,000":           {claimSQL, []any{1000, true}, "outbox_pending_pkey"},
		"the same by turns":          {claimByTurnsSQL, []any{1000, true}, "outbox_pending_pkey"},
		"whether turns are wanted":   {severalTenantsSQL, nil, "outbox_pending_pkey"},
		"the events of such a claim": {claimedEventsSQL, []any{ids, at, at, 32 << 10}, "_pkey on outbox_"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx, err := db.Pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(ctx) //nolint:errcheck // only its plan is wanted
			rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) `+c.sql, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			t.Log("\n" + plan)
			if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, c.index) && !strings.Contains(plan, "Bitmap Index Scan") {
				t.Errorf("it does not go by an index")
			}
		})
	}
}
