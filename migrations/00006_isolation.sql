-- +goose Up
-- One bad endpoint costs the others nothing: limits, health, backlogs, order, and
-- books that are cheap to keep.

ALTER TABLE posthorn.endpoints
    ADD COLUMN max_in_flight integer NOT NULL DEFAULT 16 CHECK (max_in_flight BETWEEN 1 AND 256),
    ADD COLUMN rate_limit_per_second double precision CHECK (rate_limit_per_second > 0),
    ADD COLUMN ordering text NOT NULL DEFAULT 'none' CHECK (ordering IN ('none', 'key')),
    -- Counted up when the URL changes and when it is resumed: what was known of its
    -- health is void from then on.
    ADD COLUMN health_epoch integer NOT NULL DEFAULT 1;

-- What every node must know of an endpoint that fails. Healthy ones have no row, or
-- one that says so. The recorder writes it in the results' own transaction; whoever
-- claims a probe, or asks for one, changes only until when it waits.
CREATE TABLE posthorn.endpoint_health (
    endpoint_id          uuid        PRIMARY KEY,
    epoch                integer     NOT NULL,  -- the endpoint's health_epoch that this is of
    version              bigint      NOT NULL,  -- counts this row's changes
    consecutive_failures integer     NOT NULL DEFAULT 0,  -- failed attempts since the last success
    failing_since        timestamptz,           -- the first of them
    breaker              text        NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half_open')),
    opened               integer     NOT NULL DEFAULT 0,  -- times in a row that it opened; sets the wait
    open_until           timestamptz,           -- open: when a probe may go; half_open: when the probe's time is up
    reason               text,                  -- why it is not closed: failures or retry_after
    last_success_at      timestamptz,
    last_failure_at      timestamptz,
    CHECK ((breaker = 'closed') = (open_until IS NULL))
);
CREATE INDEX endpoint_health_failing ON posthorn.endpoint_health (endpoint_id)
    WHERE breaker <> 'closed' OR consecutive_failures > 0;

-- When an endpoint with a rate limit may be sent to next: slots are handed out to
-- the nodes in order, so the limit holds for all of them together.
CREATE TABLE posthorn.endpoint_rates (
    endpoint_id uuid        PRIMARY KEY,
    next_slot   timestamptz NOT NULL
);

-- The one River job that owns what waits for an endpoint that can't be sent to at
-- once: it is slow, failing, held back, full, or takes its events in order.
CREATE TABLE posthorn.backlogs (
    endpoint_id uuid   PRIMARY KEY,
    job_id      bigint NOT NULL
);

-- Whose events are pending, so that none waits behind another's heap; and which
-- have an ordering key, which one relay at a time routes.
ALTER TABLE posthorn.outbox_pending
    ADD COLUMN tenant_id text NOT NULL DEFAULT 'default',
    ADD COLUMN ordered boolean NOT NULL DEFAULT false;
-- Only what has an ordering key pays for it.
CREATE INDEX outbox_pending_ordered ON posthorn.outbox_pending (seq) WHERE ordered;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.outbox_fill_pending() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO posthorn.outbox_pending (event_id, created_at, tenant_id, ordered)
    SELECT id, created_at, tenant_id, ordering_key IS NOT NULL FROM inserted;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- The types below "posthorn" are Posthorn's own to publish: who may only produce can't
-- tell a subscriber that its endpoint was disabled.
-- +goose StatementBegin
CREATE FUNCTION posthorn.outbox_refuse_operational() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_table_privilege(session_user, 'posthorn.deliveries', 'INSERT') THEN
        PERFORM posthorn.refuse(format('event_type %L is reserved: types that begin with "posthorn." are published by Posthorn itself', left(NEW.event_type, 64)));
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER refuse_operational BEFORE INSERT ON posthorn.outbox
    FOR EACH ROW WHEN (NEW.event_type LIKE 'posthorn.%') EXECUTE FUNCTION posthorn.outbox_refuse_operational();
REVOKE ALL ON FUNCTION posthorn.outbox_refuse_operational FROM PUBLIC;

-- The order in which events with ordering keys were routed, which is that of their
-- commits: taken under a lock that the relay holds until its own commit.
CREATE SEQUENCE posthorn.ordering_positions;

ALTER TABLE posthorn.deliveries
    ADD COLUMN ordering_key text,         -- of an endpoint that takes its events in order
    ADD COLUMN ordering_position bigint,  -- its place among what is unfinished; NULL when finished
    -- The status of what is neither in its first attempt nor delivered. It is NULL in
    -- both, so that the usual update stays on its page where an index by status would
    -- not let it.
    ADD COLUMN aside text GENERATED ALWAYS AS
        (CASE WHEN status IN ('retrying', 'held', 'dead', 'cancelled') THEN status END) STORED;
CREATE INDEX deliveries_aside ON posthorn.deliveries (aside, endpoint_id, id) WHERE aside IS NOT NULL;
CREATE INDEX deliveries_in_order ON posthorn.deliveries (endpoint_id, ordering_key, ordering_position)
    WHERE ordering_position IS NOT NULL;
CREATE INDEX deliveries_arriving_in_order ON posthorn.deliveries (endpoint_id, ordering_position)
    WHERE ordering_position IS NOT NULL;
DROP INDEX posthorn.deliveries_waiting_by_job;
CREATE INDEX deliveries_waiting_by_job ON posthorn.deliveries (job_id, next_attempt_at, id) WHERE next_attempt_at IS NOT NULL;

-- As before, with the generated column.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.create_partitions() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    tab     posthorn.partitioned_tables;
    day     date;
    child   text;
    bounds  text;
    created integer := 0;
    today   date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    -- One at a time: two nodes may find the same day missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('posthorn.create_partitions', 0));
    FOR tab IN SELECT * FROM posthorn.partitioned_tables LOOP
        -- Yesterday too: a clock may be behind, a transaction may have begun before midnight.
        FOR day IN SELECT today + n FROM generate_series(-1, tab.days_ahead) AS n LOOP
            child := tab.name || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('posthorn.' || child) IS NOT NULL;
            bounds := CASE WHEN tab.by_id
                THEN format('FROM (%L) TO (%L)', posthorn.uuid_floor(day), posthorn.uuid_floor(day + 1))
                ELSE format('FROM (%L) TO (%L)', to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
                            to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00') END;
            -- Made apart and attached: that waits for no producer and lets none wait,
            -- where CREATE TABLE … PARTITION OF would lock the whole table.
            EXECUTE format('CREATE TABLE posthorn.%I (LIKE posthorn.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED) WITH (fillfactor = %s)',
                child, tab.name, tab.fillfactor);
            EXECUTE format('ALTER TABLE posthorn.%I ATTACH PARTITION posthorn.%I FOR VALUES %s', tab.name, child, bounds);
            created := created + 1;
        END LOOP;
    END LOOP;
    RETURN created;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP INDEX posthorn.deliveries_waiting_by_job;
CREATE INDEX deliveries_waiting_by_job ON posthorn.deliveries (job_id) WHERE next_attempt_at IS NOT NULL;
DROP INDEX posthorn.deliveries_aside, posthorn.deliveries_in_order, posthorn.deliveries_arriving_in_order;
ALTER TABLE posthorn.deliveries DROP COLUMN aside, DROP COLUMN ordering_key, DROP COLUMN ordering_position;
DROP SEQUENCE posthorn.ordering_positions;
DROP TRIGGER refuse_operational ON posthorn.outbox;
DROP FUNCTION posthorn.outbox_refuse_operational;
DROP INDEX posthorn.outbox_pending_ordered;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.outbox_fill_pending() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO posthorn.outbox_pending (event_id, created_at) SELECT id, created_at FROM inserted;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
ALTER TABLE posthorn.outbox_pending DROP COLUMN tenant_id, DROP COLUMN ordered;
DROP TABLE posthorn.backlogs, posthorn.endpoint_rates, posthorn.endpoint_health;
ALTER TABLE posthorn.endpoints DROP COLUMN max_in_flight, DROP COLUMN rate_limit_per_second,
    DROP COLUMN ordering, DROP COLUMN health_epoch;
