-- The plans of the hot statements, as docs/performance.md shows them. On a database of
-- `posthorn dev --no-sample`:
--
--   psql "$URL" -qf docs/plans.sql
--
-- The statements are those of dispatcher/resultrows.go and outbox/claim.go. Everything
-- happens in one transaction, which is rolled back.
\set QUIET on
\pset format unaligned
\pset tuples_only on
BEGIN;
INSERT INTO posthorn.outbox (event_type, payload) SELECT 'bench.event', ('{"data":"' || repeat('x', 1013) || '"}')::json FROM generate_series(1,100000);
CREATE TEMP TABLE src2 AS SELECT row_number() over () n, posthorn.uuid_v7() AS id, o.id AS event_id, created_at AS ec FROM (SELECT * FROM posthorn.outbox ORDER BY id) o;
INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id, status) SELECT id, event_id, ec, '01990000-0000-7000-8000-000000000001', 'default', 'bench.event', 1, 'pending' FROM src2;
CREATE TEMP TABLE b AS SELECT array_agg(id) ids, array_agg(0) f, array_agg('delivered'::text) st, array_agg(true) sent, array_agg(204) rs, min(id::text)::uuid lo, max(id::text)::uuid hi, array_agg(event_id) ev, min(ec) elo, max(ec) ehi FROM src2 WHERE n BETWEEN 5001 AND 5800;
SELECT ids::text AS ids, f::text AS f, st::text AS st, sent::text AS sent, rs::text AS rs, lo::text AS lo, hi::text AS hi, ev::text AS ev, elo::text AS elo, ehi::text AS ehi FROM b \gset
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true);
PREPARE record(uuid[],int[],text[],bool[],int[],timestamptz[],bigint[],text[],text[],uuid,uuid) AS
	UPDATE posthorn.deliveries d SET
		status = r.status,
		attempts = r.fence + r.sent::int,
		next_attempt_at = r.next_attempt_at,
		job_id = CASE WHEN r.status <> 'held' THEN coalesce(r.job_id, d.job_id) END,
		last_response_status = CASE WHEN r.sent THEN nullif(r.response_status, 0) ELSE d.last_response_status END,
		last_error_kind = CASE WHEN r.sent THEN nullif(r.error_kind, '') ELSE d.last_error_kind END,
		last_error = CASE WHEN r.sent THEN nullif(r.error, '') ELSE coalesce(nullif(r.error, ''), d.last_error) END,
		finished_at = CASE WHEN r.status NOT IN ('retrying', 'held') THEN now() END,
		ordering_position = CASE WHEN r.status IN ('retrying', 'held') THEN d.ordering_position END
	FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bool[], $5::int[], $6::timestamptz[], $7::bigint[], $8::text[], $9::text[])
	AS r (delivery_id, fence, status, sent, response_status, next_attempt_at, job_id, error_kind, error)
	WHERE d.id = r.delivery_id AND d.id = ANY($1) AND d.id BETWEEN $10 AND $11
	  AND d.attempts = r.fence AND d.status IN ('pending', 'retrying')
	RETURNING d.id;
\echo the recorder: 800 results of 100,000 deliveries
EXPLAIN (ANALYZE, BUFFERS) EXECUTE record(:'ids', :'f', :'st', :'sent', :'rs', NULL, NULL, NULL, NULL, :'lo', :'hi');
RESET ALL;
SET LOCAL enable_seqscan=on;
\echo the relay: a claim of 1,000
EXPLAIN (ANALYZE, BUFFERS) DELETE FROM posthorn.outbox_pending
	WHERE seq = ANY(ARRAY(
		SELECT seq FROM posthorn.outbox_pending WHERE NOT ordered OR true ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED))
	RETURNING seq, event_id, created_at;
\echo the relay: the events themselves
EXPLAIN (ANALYZE, BUFFERS) SELECT id, created_at, tenant_id, event_type, coalesce(ordering_key, ''), coalesce(traceparent, ''), occurred_at,
	       CASE WHEN pg_column_compression(payload) IS NULL AND pg_column_size(payload) <= 32768 OR octet_length(payload::text) <= 32768 THEN payload END
	FROM posthorn.outbox
	WHERE id = ANY(:'ev'::uuid[]) AND created_at BETWEEN :'elo' AND :'ehi';
ROLLBACK;
