-- +goose Up
-- One row per event routed: with the endpoints' versions it says which endpoints were
-- considered, and with the deliveries that every match became one.
CREATE TABLE posthorn.routings (
    event_id   uuid        NOT NULL,
    created_at timestamptz NOT NULL,  -- the event's, so that both age together
    matched    integer     NOT NULL,  -- how many deliveries the event became
    revision   bigint      NOT NULL,  -- the subscriptions' revision it was matched against
    routed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, created_at)
) PARTITION BY RANGE (created_at);

-- One row per event and endpoint that it goes to. The first attempt's success changes
-- no indexed column, so that the update stays on its page (HOT).
CREATE TABLE posthorn.deliveries (
    id                   uuid        NOT NULL PRIMARY KEY,  -- UUIDv7, the partition key
    event_id             uuid        NOT NULL,
    event_created_at     timestamptz NOT NULL,  -- names the event's partition
    endpoint_id          uuid        NOT NULL,
    tenant_id            text        NOT NULL,  -- the endpoint's, whose subscriber may see the row
    event_type           text        NOT NULL,
    status               text        NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'retrying', 'held', 'delivered', 'dead', 'cancelled')),
    attempts             integer     NOT NULL DEFAULT 0,  -- all, over replays too; fences results
    schedule_start       integer     NOT NULL DEFAULT 0,  -- attempts made before the retry schedule last began
    -- NULL while the first attempt is under way and when the delivery is finished.
    next_attempt_at      timestamptz,
    -- The one River job that an unfinished delivery belongs to; of a finished one, the last.
    job_id               bigint,
    last_response_status integer,
    last_error_kind      text,
    last_error           text,
    created_at           timestamptz NOT NULL DEFAULT now(),
    finished_at          timestamptz  -- delivered, dead or cancelled
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_by_event ON posthorn.deliveries (event_id);
CREATE INDEX deliveries_by_endpoint ON posthorn.deliveries (endpoint_id, id);
-- A delivery that succeeds at once never enters these.
CREATE INDEX deliveries_waiting ON posthorn.deliveries (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX deliveries_waiting_by_job ON posthorn.deliveries (job_id) WHERE next_attempt_at IS NOT NULL;

-- One row per POST whose result was recorded.
CREATE TABLE posthorn.attempts (
    delivery_id      uuid        NOT NULL,
    number           integer     NOT NULL,  -- from 1, over replays too
    started_at       timestamptz NOT NULL,
    duration_us      bigint      NOT NULL,
    endpoint_version integer     NOT NULL,  -- names the URL and format in force
    request_headers  text        NOT NULL,  -- lines "name: value"
    response_status  integer,
    response_headers text,                  -- lines "name: value"
    response_body    bytea,                 -- the first 16 KiB
    error_kind       text,                  -- NULL: it succeeded
    error            text,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);

INSERT INTO posthorn.partitioned_tables (name, by_id, days_ahead, fillfactor) VALUES
    ('routings', false, 60, 100), ('deliveries', true, 14, 45), ('attempts', true, 14, 100);
SELECT posthorn.create_partitions();

-- Deliveries that exhausted their attempts. Resolved ones stay for the record.
CREATE TABLE posthorn.dead_letters (
    id                   uuid        PRIMARY KEY,
    delivery_id          uuid        NOT NULL,
    event_id             uuid        NOT NULL,
    event_created_at     timestamptz NOT NULL,
    endpoint_id          uuid        NOT NULL,
    tenant_id            text        NOT NULL,
    event_type           text        NOT NULL,
    attempts             integer     NOT NULL,
    last_response_status integer,
    last_error_kind      text        NOT NULL,
    last_error           text        NOT NULL,
    fingerprint          text        NOT NULL,  -- alike for failures with one cause
    dead_at              timestamptz NOT NULL DEFAULT now(),
    resolved_at          timestamptz,
    resolution           text CHECK (resolution IN ('replayed', 'discarded'))
);
CREATE UNIQUE INDEX dead_letters_open ON posthorn.dead_letters (delivery_id) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_by_tenant ON posthorn.dead_letters (tenant_id, id);
CREATE INDEX dead_letters_by_endpoint ON posthorn.dead_letters (endpoint_id, id);

-- +goose StatementBegin
CREATE FUNCTION posthorn.drop_oldest_day(older_than interval) RETURNS date
LANGUAGE plpgsql AS $$
DECLARE
    oldest date;
    child  text;
    tab    posthorn.partitioned_tables;
BEGIN
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')) INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN posthorn.partitioned_tables t ON i.inhparent = ('posthorn.' || t.name)::regclass;
    -- The day's last moment must be old enough.
    IF oldest IS NULL OR (oldest + 1)::timestamp AT TIME ZONE 'UTC' > now() - older_than THEN
        RETURN NULL;
    END IF;
    -- What is not finished stays, and a dead letter that nobody has resolved with
    -- it; the days after stay too, so that events and their deliveries go together.
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
COMMENT ON FUNCTION posthorn.drop_oldest_day IS
    'Drops the oldest day of events, deliveries and attempts if it is older than that and all of it is finished; returns the day, or NULL.';
REVOKE ALL ON FUNCTION posthorn.drop_oldest_day FROM PUBLIC;

-- Running processes. Each holds the session lock of its number for as long as it
-- lives; PostgreSQL lets go of it when the connection ends, however it ends.
CREATE TABLE posthorn.nodes (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE,  -- River's client id
    version    text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- How far the sweep for lost work has looked.
CREATE TABLE posthorn.sweep_state (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    swept_to   timestamptz NOT NULL
);
INSERT INTO posthorn.sweep_state (swept_to) VALUES (now());

-- +goose Down
DROP FUNCTION posthorn.drop_oldest_day;
DROP TABLE posthorn.sweep_state, posthorn.nodes, posthorn.dead_letters,
    posthorn.attempts, posthorn.deliveries, posthorn.routings;
DELETE FROM posthorn.partitioned_tables WHERE name IN ('routings', 'deliveries', 'attempts');
