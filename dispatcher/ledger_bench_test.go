package dispatcher

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// The benchmark's books: 750,000 events of the last 20 hours for four endpoints
// each; of every thousand deliveries 20 retry, 10 are held and 2 are dead. In the
// last three minutes come 100 events a second.
const benchLedgerSQL = `
	CREATE TEMPORARY TABLE filling AS
		SELECT posthorn.uuid_v7(at) AS id, n, at
		FROM (SELECT n, now() - interval '20 hours' + n * interval '0.0958 seconds' AS at FROM generate_series(1, 750000) AS n
			UNION ALL SELECT 750000 + n, now() - interval '3 minutes' + n * interval '10 ms' FROM generate_series(1, 18000) AS n) x;
	INSERT INTO posthorn.outbox (id, created_at, event_type, payload)
		SELECT id, at, 'order.paid', json_build_object('n', n, 'text', repeat('x', 1000)) FROM filling;
	TRUNCATE posthorn.outbox_pending;
	INSERT INTO posthorn.routings (event_id, created_at, matched, revision, routed_at) SELECT id, at, 4, 1, at FROM filling;
	INSERT INTO river.river_job (id, state, args, kind, max_attempts, queue, scheduled_at)
		SELECT n, 'scheduled', '{}', 'deliver', 100, 'deliver', now() + interval '1 hour' FROM generate_series(1, 1000) AS n;
	INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, attempts, job_id, next_attempt_at)
		SELECT posthorn.uuid_v7(at), id, at, ('00000000-0000-7000-8000-00000000000' || e)::uuid, 'default', 'order.paid',
			CASE WHEN n % 1000 < 20 THEN 'retrying' WHEN n % 1000 < 30 THEN 'held' WHEN n % 1000 < 32 THEN 'dead' ELSE 'delivered' END,
			1, 1 + n % 1000, CASE WHEN n % 1000 < 20 THEN now() END
		FROM filling, generate_series(1, 4) AS e`

// forgetAuditSQL has the audit begin anew.
const forgetAuditSQL = `WITH forgotten AS (DELETE FROM posthorn.ledger_minutes)
	UPDATE posthorn.ledger_state SET audited_to = (now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' - interval '1 day'`

// BenchmarkLedger measures reading the books of three million deliveries, and what
// the audit takes to account for all of them from the beginning.
//
//	go test -run '^$' -bench Ledger -benchtime 5x ./dispatcher
func BenchmarkLedger(b *testing.B) {
	db := pgtest.New(b)
	must(b, pgx.BeginFunc(b.Context(), db.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), benchLedgerSQL)
		return err
	}))
	_, err := db.Pool.Exec(b.Context(), `VACUUM ANALYZE`)
	must(b, err)
	audit := func() {
		_, err := db.Pool.Exec(b.Context(), forgetAuditSQL)
		must(b, err)
		must(b, (&auditor{pool: db.Pool}).Work(b.Context(), nil))
	}
	audit()
	b.Run("audit", func(b *testing.B) {
		for b.Loop() {
			audit()
		}
	})
	read := func(name string, read func(context.Context) (Ledger, error)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				l, err := read(b.Context())
				must(b, err)
				if l.Unaccounted != 0 || l.Events != 768_000 {
					b.Fatalf("%+v", l)
				}
			}
		})
	}
	read("cheap", func(ctx context.Context) (Ledger, error) { return ReadLedger(ctx, db.Pool) })
	read("deep", func(ctx context.Context) (Ledger, error) { return ReadLedgerDeep(ctx, db.Pool) })
}
