// Package volume stores finished work by the million, in past days, for tests and
// benchmarks of what a full database costs.
package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options say what is stored.
type Options struct {
	// Deliveries is how many events, each with its routing, delivery and attempt.
	Deliveries int
	// Days is over how many days, of which the last is the day before yesterday.
	// Zero means 10.
	Days int
	// PayloadBytes is the size of a payload. Zero means 200.
	PayloadBytes int
}

// The tenants: Big has half of all deliveries, Small one in 10,000, and the others,
// "tenant-2" to "tenant-199", have the rest. Each has five endpoints.
const (
	Big     = "tenant-0"
	Small   = "tenant-1"
	tenants = 200
)

const endpointsSQL = `
	INSERT INTO posthorn.endpoints (id, tenant_id, url, event_types, version, revision)
	SELECT md5('endpoint ' || n)::uuid, 'tenant-' || n / 5, 'https://example.com/' || n, '{*}', 1, 1 FROM generate_series(0, $1::int * 5 - 1) AS n
	ON CONFLICT DO NOTHING`

const versionsSQL = `
	INSERT INTO posthorn.endpoint_versions (endpoint_id, version, revision, tenant_id, url, event_types, payload_format, status, deleted)
	SELECT id, 1, 1, tenant_id, url, event_types, payload_format, status, false FROM posthorn.endpoints WHERE url LIKE 'https://example.com/%'
	ON CONFLICT DO NOTHING`

// Fill stores the deliveries; the ledger balances before and after. The days must not
// have partitions yet.
func Fill(ctx context.Context, pool *pgxpool.Pool, o Options) error {
	if o.Days == 0 {
		o.Days = 10
	}
	if o.PayloadBytes == 0 {
		o.PayloadBytes = 200
	}
	if _, err := pool.Exec(ctx, endpointsSQL, tenants); err != nil {
		return fmt.Errorf("store endpoints: %w", err)
	}
	if _, err := pool.Exec(ctx, versionsSQL); err != nil {
		return fmt.Errorf("store endpoints: %w", err)
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for n := range o.Days {
		day := today.AddDate(0, 0, n-o.Days-1)
		if err := fillDay(ctx, pool, day, o.Deliveries/o.Days, o.PayloadBytes); err != nil {
			return fmt.Errorf("fill %s: %w", day.Format(time.DateOnly), err)
		}
	}
	if _, err := pool.Exec(ctx, `ANALYZE posthorn.outbox, posthorn.routings, posthorn.deliveries, posthorn.attempts, posthorn.endpoint_versions`); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}

// daySQL makes a day's tables, fills them, and attaches them, which builds their
// indexes at once.
const daySQL = `
	CREATE TEMPORARY TABLE filling ON COMMIT DROP AS
	SELECT at, posthorn.uuid_v7(at) AS event_id, posthorn.uuid_v7(at + interval '5 milliseconds') AS id,
		CASE WHEN n %% 2 = 0 THEN 0 WHEN n %% 10000 = 1 THEN 1 ELSE 2 + n / 2 %% 198 END AS tenant,
		'order.kind_' || n / 7 %% 10 AS event_type, n / 3 %% 5 AS nth
	FROM generate_series(1, %[4]d) AS n, LATERAL (SELECT timestamptz '%[2]s 00:00:01+00' + n * interval '86390 seconds' / %[4]d AS at) x;

	CREATE TABLE posthorn.outbox_%[1]s (LIKE posthorn.outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
	CREATE TABLE posthorn.routings_%[1]s (LIKE posthorn.routings INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
	CREATE TABLE posthorn.deliveries_%[1]s (LIKE posthorn.deliveries INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED) WITH (fillfactor = 45);
	CREATE TABLE posthorn.attempts_%[1]s (LIKE posthorn.attempts INCLUDING DEFAULTS INCLUDING CONSTRAINTS);

	INSERT INTO posthorn.outbox_%[1]s (id, tenant_id, event_type, payload, occurred_at, created_at)
	SELECT event_id, 'tenant-' || tenant, event_type, ('{"data":"' || repeat('x', %[5]d - 11) || '"}')::json, at, at FROM filling;
	INSERT INTO posthorn.routings_%[1]s (event_id, created_at, matched, revision, routed_at) SELECT event_id, at, 1, 1, at FROM filling;
	INSERT INTO posthorn.deliveries_%[1]s (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, attempts, job_id,
		last_response_status, created_at, finished_at)
	SELECT f.id, f.event_id, f.at, e.id, e.tenant_id, f.event_type, 'delivered', 1, 1, 204, f.at, f.at + interval '9 milliseconds'
	FROM filling f JOIN posthorn.endpoints e ON e.id = md5('endpoint ' || f.tenant * 5 + f.nth)::uuid;
	INSERT INTO posthorn.attempts_%[1]s (delivery_id, number, started_at, duration_us, endpoint_version, request_headers, response_status, response_headers)
	SELECT id, 1, at + interval '6 milliseconds', 2500, 1, 'content-type: application/json' || chr(10), 204, '' FROM filling;
	INSERT INTO posthorn.ledger_minutes (minute, events, pending, routed, no_match, expected, made, unaccounted, deliveries)
	SELECT minute, sum(event), 0, sum(event), 0, sum(event), sum(event), 0, sum(delivery) FROM (
		SELECT date_trunc('minute', at, 'UTC') AS minute, 1 AS event, 0 AS delivery FROM filling
		UNION ALL SELECT date_trunc('minute', posthorn.uuid_time(id), 'UTC'), 0, 1 FROM filling) entry GROUP BY minute ORDER BY minute;

	ALTER TABLE posthorn.outbox_%[1]s ADD CONSTRAINT in_time CHECK (created_at >= '%[2]s 00:00:00+00' AND created_at < '%[3]s 00:00:00+00');
	ALTER TABLE posthorn.outbox ATTACH PARTITION posthorn.outbox_%[1]s FOR VALUES FROM ('%[2]s 00:00:00+00') TO ('%[3]s 00:00:00+00');
	ALTER TABLE posthorn.outbox_%[1]s DROP CONSTRAINT in_time;
	ALTER TABLE posthorn.routings ATTACH PARTITION posthorn.routings_%[1]s FOR VALUES FROM ('%[2]s 00:00:00+00') TO ('%[3]s 00:00:00+00');
	ALTER TABLE posthorn.deliveries ATTACH PARTITION posthorn.deliveries_%[1]s FOR VALUES FROM (%[6]s) TO (%[7]s);
	ALTER TABLE posthorn.attempts ATTACH PARTITION posthorn.attempts_%[1]s FOR VALUES FROM (%[6]s) TO (%[7]s)`

func fillDay(ctx context.Context, pool *pgxpool.Pool, day time.Time, deliveries, payloadBytes int) error {
	next := day.AddDate(0, 0, 1)
	floor := func(d time.Time) string { return fmt.Sprintf(`posthorn.uuid_floor('%s')`, d.Format(time.DateOnly)) }
	sql := fmt.Sprintf(daySQL, day.Format("20060102"), day.Format(time.DateOnly), next.Format(time.DateOnly), deliveries, payloadBytes, floor(day), floor(next))
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('maintenance_work_mem', '256MB', true), set_config('work_mem', '128MB', true)`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql)
		return err
	})
}
