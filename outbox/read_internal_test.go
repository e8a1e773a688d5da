package outbox

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestListsOfEventsUseAnIndexAtVolume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	for _, sql := range []string{
		`ALTER TABLE posthorn.outbox DISABLE TRIGGER fill_pending`,
		`INSERT INTO posthorn.outbox (tenant_id, event_type, payload)
			SELECT 'tenant' || n % 1000, 'a', '1' FROM generate_series(1, 100000) AS n`,
		`ANALYZE posthorn.outbox`,
	} {
		if _, err := db.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	some, _, err := NewReader(db.Pool).List(ctx, Filter{TenantID: "tenant7"}, 50)
	if err != nil || len(some) != 50 {
		t.Fatalf("%d events, %v", len(some), err)
	}
	for name, f := range map[string]Filter{
		"All":          {},
		"AllBefore":    {Before: some[20].Place()},
		"Tenant":       {TenantID: "tenant7"},
		"TenantBefore": {TenantID: "tenant7", Before: some[20].Place()},
		"TenantSince":  {TenantID: "tenant7", Since: time.Now().Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sql, args := f.query(51)
			rows, err := db.Pool.Query(ctx, `EXPLAIN (COSTS OFF) `+sql, args...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			if today := "outbox_" + time.Now().UTC().Format("20060102"); strings.Contains(plan, "Seq Scan on "+today) || !strings.Contains(plan, "on "+today) {
				t.Errorf("today's events are not found by an index:\n%s", plan)
			}
		})
	}
}
