-- +goose Up
-- Books that are cheap to read: each minute is accounted for soon after it is over,
-- and only what is younger is counted at every reading.

-- +goose StatementBegin
CREATE FUNCTION posthorn.uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.uuid_at IS 'The least UUIDv7 of a moment, to the millisecond.';
REVOKE ALL ON FUNCTION posthorn.uuid_at FROM PUBLIC;

-- One row per minute in which there was anything.
CREATE TABLE posthorn.ledger_minutes (
    minute      timestamptz PRIMARY KEY,
    -- Of the events created in it:
    events      bigint NOT NULL,
    pending     bigint NOT NULL,  -- how many of them no relay had routed yet
    routed      bigint NOT NULL,
    no_match    bigint NOT NULL,  -- routed, and no endpoint wanted them
    expected    bigint NOT NULL,  -- deliveries that the routed ones matched
    made        bigint NOT NULL,  -- deliveries that were found of them, whenever made
    unaccounted bigint NOT NULL,  -- must be 0
    -- Of the deliveries made in it, by their UUIDv7:
    deliveries  bigint NOT NULL
);

-- Minutes whose row does not hold any longer, because one of their events was routed
-- when they had been accounted for. Rows are only added, by the relay in the event's
-- own transaction, so that relays do not queue for them; the audit takes them away.
CREATE TABLE posthorn.ledger_recounts (
    minute timestamptz NOT NULL
);

-- How far minutes have been accounted for: from the oldest day on, or where nothing is
-- stored from an hour ago, so that producers' transactions under way are not late.
CREATE TABLE posthorn.ledger_state (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    audited_to timestamptz NOT NULL
);
INSERT INTO posthorn.ledger_state (audited_to)
    SELECT least(min(to_date(right(c.relname, 8), 'YYYYMMDD'))::timestamp AT TIME ZONE 'UTC', date_trunc('minute', now(), 'UTC') - interval '1 hour')
    FROM (SELECT WHERE EXISTS (SELECT FROM posthorn.outbox) OR EXISTS (SELECT FROM posthorn.deliveries)) stored,
        pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        JOIN posthorn.partitioned_tables t ON i.inhparent = ('posthorn.' || t.name)::regclass;

-- A minute's events lie together in their append-only tables: a few bytes for every
-- 32 pages find them, and cost a producer next to nothing.
CREATE INDEX outbox_by_age ON posthorn.outbox USING brin (created_at) WITH (pages_per_range = 32);
CREATE INDEX routings_by_age ON posthorn.routings USING brin (created_at) WITH (pages_per_range = 32);

-- As before, with what the ledger reads, so that it reads the index alone.
DROP INDEX posthorn.deliveries_aside, posthorn.deliveries_waiting_by_job;
CREATE INDEX deliveries_aside ON posthorn.deliveries (aside, endpoint_id, id) INCLUDE (event_created_at) WHERE aside IS NOT NULL;
CREATE INDEX deliveries_waiting_by_job ON posthorn.deliveries (job_id, next_attempt_at, id) INCLUDE (aside, event_created_at) WHERE next_attempt_at IS NOT NULL;

-- As before; the day's minutes go with it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.drop_oldest_day(older_than interval) RETURNS date
LANGUAGE plpgsql AS $$
DECLARE
    oldest   date;
    day_ends timestamptz;
    child    text;
    tab      posthorn.partitioned_tables;
BEGIN
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')) INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN posthorn.partitioned_tables t ON i.inhparent = ('posthorn.' || t.name)::regclass;
    day_ends := (oldest + 1)::timestamp AT TIME ZONE 'UTC';
    -- The day's last moment must be old enough.
    IF oldest IS NULL OR day_ends > now() - older_than THEN
        RETURN NULL;
    END IF;
    -- The audit reads these tables with this row locked: first the row, then the tables.
    PERFORM FROM posthorn.ledger_state FOR UPDATE;
    -- What is not finished stays, and a dead letter that nobody has resolved with
    -- it; the days after stay too, so that events and their deliveries go together.
    IF EXISTS (SELECT FROM posthorn.outbox_pending WHERE created_at < day_ends)
        OR EXISTS (SELECT FROM posthorn.deliveries WHERE next_attempt_at IS NOT NULL
                   AND status IN ('pending', 'retrying')
                   AND (event_created_at < day_ends OR id < posthorn.uuid_floor(oldest + 1)))
        OR EXISTS (SELECT FROM posthorn.deliveries WHERE aside = 'held' AND event_created_at < day_ends)
        OR EXISTS (SELECT FROM posthorn.deliveries WHERE id < posthorn.uuid_floor(oldest + 1)
                   AND status IN ('pending', 'retrying', 'held'))
        OR EXISTS (SELECT FROM posthorn.dead_letters WHERE resolved_at IS NULL
                   AND (event_created_at < day_ends OR delivery_id < posthorn.uuid_floor(oldest + 1))) THEN
        RETURN NULL;
    END IF;
    FOR tab IN SELECT * FROM posthorn.partitioned_tables LOOP
        child := tab.name || '_' || to_char(oldest, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('posthorn.' || child) IS NULL;
        EXECUTE format('ALTER TABLE posthorn.%I DETACH PARTITION posthorn.%I', tab.name, child);
        EXECUTE format('DROP TABLE posthorn.%I', child);
    END LOOP;
    DELETE FROM posthorn.ledger_minutes WHERE minute < day_ends;
    DELETE FROM posthorn.ledger_recounts WHERE minute < day_ends;
    UPDATE posthorn.ledger_state SET audited_to = day_ends WHERE audited_to < day_ends;
    RETURN oldest;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.drop_oldest_day(older_than interval) RETURNS date
LANGUAGE plpgsql AS $$
DECLARE
    oldest date;
    child  text;
    tab    posthorn.partitioned_tables;
BEGIN
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')) INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN posthorn.partitioned_tables t ON i.inhparent = ('posthorn.' || t.name)::regclass;
    IF oldest IS NULL OR (oldest + 1)::timestamp AT TIME ZONE 'UTC' > now() - older_than THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM posthorn.outbox_pending WHERE created_at < (oldest + 1)::timestamp AT TIME ZONE 'UTC')
        OR EXISTS (SELECT FROM posthorn.deliveries WHERE next_attempt_at IS NOT NULL
                   AND status IN ('pending', 'retrying')
                   AND (event_created_at < (oldest + 1)::timestamp AT TIME ZONE 'UTC' OR id < posthorn.uuid_floor(oldest + 1)))
        OR EXISTS (SELECT FROM posthorn.deliveries WHERE id < posthorn.uuid_floor(oldest + 1)
                   AND status IN ('pending', 'retrying', 'held'))
        OR EXISTS (SELECT FROM posthorn.dead_letters WHERE resolved_at IS NULL
                   AND (event_created_at < (oldest + 1)::timestamp AT TIME ZONE 'UTC' OR delivery_id < posthorn.uuid_floor(oldest + 1))) THEN
        RETURN NULL;
    END IF;
    FOR tab IN SELECT * FROM posthorn.partitioned_tables LOOP
        child := tab.name || '_' || to_char(oldest, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('posthorn.' || child) IS NULL;
        EXECUTE format('ALTER TABLE posthorn.%I DETACH PARTITION posthorn.%I', tab.name, child);
        EXECUTE format('DROP TABLE posthorn.%I', child);
    END LOOP;
    RETURN oldest;
END
$$;
-- +goose StatementEnd
DROP INDEX posthorn.deliveries_aside, posthorn.deliveries_waiting_by_job;
CREATE INDEX deliveries_aside ON posthorn.deliveries (aside, endpoint_id, id) WHERE aside IS NOT NULL;
CREATE INDEX deliveries_waiting_by_job ON posthorn.deliveries (job_id, next_attempt_at, id) WHERE next_attempt_at IS NOT NULL;
DROP INDEX posthorn.outbox_by_age, posthorn.routings_by_age;
DROP TABLE posthorn.ledger_minutes, posthorn.ledger_recounts, posthorn.ledger_state;
DROP FUNCTION posthorn.uuid_at;
