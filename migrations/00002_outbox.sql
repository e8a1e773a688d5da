-- +goose Up
-- What producers write. The outbox is append-only: nothing is ever updated in it,
-- so it cannot bloat, and it ages by dropping whole days.

CREATE TABLE posthorn.outbox (
    id              uuid        NOT NULL DEFAULT posthorn.uuid_v7(),
    tenant_id       text        NOT NULL DEFAULT 'default',
    event_type      text        NOT NULL,
    payload         json        NOT NULL,
    ordering_key    text,
    idempotency_key text,
    traceparent     text,
    occurred_at     timestamptz NOT NULL DEFAULT now(),
    -- Set by the database alone; the partition key, because a producer may bring
    -- an id of its own that says nothing of the time.
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at),
    CONSTRAINT tenant_id_is_usable CHECK (CASE
        WHEN length(tenant_id) BETWEEN 1 AND 255 AND tenant_id <> '*' THEN true
        ELSE posthorn.refuse(format('tenant_id %L must have 1 to 255 characters and not be "*"', left(tenant_id, 64))) END),
    CONSTRAINT event_type_is_dot_separated CHECK (CASE
        WHEN event_type ~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$' AND length(event_type) <= 255 THEN true
        ELSE posthorn.refuse(format('event_type %L must be dot-separated names of letters, digits and underscores, such as order.paid, and have at most 255 characters', left(event_type, 64))) END),
    CONSTRAINT ordering_key_is_usable CHECK (CASE
        WHEN ordering_key IS NULL OR length(ordering_key) BETWEEN 1 AND 255 THEN true
        ELSE posthorn.refuse('ordering_key must have 1 to 255 characters') END),
    CONSTRAINT idempotency_key_is_usable CHECK (CASE
        WHEN idempotency_key IS NULL OR length(idempotency_key) BETWEEN 1 AND 255 THEN true
        ELSE posthorn.refuse('idempotency_key must have 1 to 255 characters') END),
    CONSTRAINT traceparent_is_w3c CHECK (CASE
        WHEN traceparent IS NULL THEN true
        WHEN traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
         AND traceparent !~ '^00-0{32}' AND traceparent !~ '^00-[0-9a-f]{32}-0{16}' THEN true
        ELSE posthorn.refuse(format('traceparent %L is not of the W3C form 00-<32 hex>-<16 hex>-<2 hex>', left(traceparent, 64))) END),
    CONSTRAINT occurred_at_is_a_date CHECK (CASE
        WHEN occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '9999-12-31 00:00:00+00' THEN true
        ELSE posthorn.refuse('occurred_at must lie between the years 1 and 9999') END)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE posthorn.outbox IS 'Events, inserted in the transaction of the business change they tell of.';

CREATE INDEX outbox_by_tenant ON posthorn.outbox (tenant_id, created_at DESC, id DESC);

-- Producers must not fail because the service has been away: two months ahead.
INSERT INTO posthorn.partitioned_tables (name, by_id, days_ahead) VALUES ('outbox', false, 60);

-- The payload limit stands in a constraint of its own, so that setting it is one
-- statement and checking it costs no look-up.
-- +goose StatementBegin
CREATE FUNCTION posthorn.set_max_payload_bytes(bytes integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    child regclass;
BEGIN
    IF bytes NOT BETWEEN 1024 AND 16777216 THEN
        RAISE EXCEPTION 'posthorn: the payload limit must lie between 1024 and 16777216 bytes, not %', bytes;
    END IF;
    ALTER TABLE posthorn.outbox DROP CONSTRAINT IF EXISTS payload_is_small_enough;
    -- The partitions were made with a constraint of their own.
    FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'posthorn.outbox'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS payload_is_small_enough', child);
    END LOOP;
    -- NOT VALID: what is stored already stays.
    EXECUTE format($sql$
        ALTER TABLE posthorn.outbox ADD CONSTRAINT payload_is_small_enough CHECK (CASE
            WHEN octet_length(payload::text) <= %1$s THEN true
            ELSE posthorn.refuse(format('payload has %%s bytes, the limit is %1$s', octet_length(payload::text))) END) NOT VALID
    $sql$, bytes);
    EXECUTE format('CREATE OR REPLACE FUNCTION posthorn.max_payload_bytes() RETURNS integer LANGUAGE sql IMMUTABLE AS $f$ SELECT %s $f$', bytes);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.set_max_payload_bytes IS 'Sets the largest payload a producer may insert, in bytes (262144 at first).';
SELECT posthorn.set_max_payload_bytes(262144);
COMMENT ON FUNCTION posthorn.max_payload_bytes IS 'The limit that set_max_payload_bytes has set.';
REVOKE ALL ON FUNCTION posthorn.max_payload_bytes FROM PUBLIC;

-- Committed events that no relay has routed yet: small, hot, and empty when all is well.
CREATE TABLE posthorn.outbox_pending (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   uuid        NOT NULL,
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000);

-- +goose StatementBegin
CREATE FUNCTION posthorn.outbox_fill_pending() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO posthorn.outbox_pending (event_id, created_at) SELECT id, created_at FROM inserted;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER fill_pending AFTER INSERT ON posthorn.outbox
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION posthorn.outbox_fill_pending();

-- Idempotency keys stand apart because a partitioned table cannot hold them unique.
CREATE TABLE posthorn.outbox_keys (
    tenant_id       text        NOT NULL,
    idempotency_key text        NOT NULL,
    event_id        uuid        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX outbox_keys_by_age ON posthorn.outbox_keys (created_at);

-- A repeated key is no error, which would abort the producer's business
-- transaction: the row is left out.
-- +goose StatementBegin
CREATE FUNCTION posthorn.outbox_skip_repeat() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO posthorn.outbox_keys (tenant_id, idempotency_key, event_id)
    VALUES (NEW.tenant_id, NEW.idempotency_key, NEW.id)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER skip_repeat BEFORE INSERT ON posthorn.outbox
    FOR EACH ROW WHEN (NEW.idempotency_key IS NOT NULL AND length(NEW.idempotency_key) BETWEEN 1 AND 255)
    EXECUTE FUNCTION posthorn.outbox_skip_repeat();

-- +goose StatementBegin
CREATE FUNCTION posthorn.publish(
    event_type      text,
    payload         json,
    tenant_id       text        DEFAULT 'default',
    ordering_key    text        DEFAULT NULL,
    idempotency_key text        DEFAULT NULL,
    traceparent     text        DEFAULT NULL,
    occurred_at     timestamptz DEFAULT now(),
    id              uuid        DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    event_id uuid;
BEGIN
    INSERT INTO posthorn.outbox AS o (id, tenant_id, event_type, payload, ordering_key, idempotency_key, traceparent, occurred_at)
    VALUES (coalesce(publish.id, posthorn.uuid_v7()), coalesce(publish.tenant_id, 'default'), publish.event_type, publish.payload,
            publish.ordering_key, publish.idempotency_key, publish.traceparent, coalesce(publish.occurred_at, now()))
    RETURNING o.id INTO event_id;
    IF event_id IS NULL THEN
        SELECT k.event_id INTO STRICT event_id FROM posthorn.outbox_keys k
        WHERE k.tenant_id = coalesce(publish.tenant_id, 'default') AND k.idempotency_key = publish.idempotency_key;
    END IF;
    RETURN event_id;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.publish IS
    'Inserts an event into the outbox, in the caller''s transaction, and returns its id; for a repeated idempotency key the id of the first.';

REVOKE ALL ON FUNCTION posthorn.publish, posthorn.set_max_payload_bytes, posthorn.outbox_fill_pending,
    posthorn.outbox_skip_repeat, posthorn.create_partitions, posthorn.uuid_floor FROM PUBLIC;
GRANT EXECUTE ON FUNCTION posthorn.publish TO posthorn_producer;
GRANT INSERT (id, tenant_id, event_type, payload, ordering_key, idempotency_key, traceparent, occurred_at)
    ON posthorn.outbox TO posthorn_producer;

-- +goose Down
DROP FUNCTION posthorn.publish;
DROP TABLE posthorn.outbox, posthorn.outbox_pending, posthorn.outbox_keys;
DROP FUNCTION posthorn.outbox_fill_pending, posthorn.outbox_skip_repeat, posthorn.set_max_payload_bytes, posthorn.max_payload_bytes;
DELETE FROM posthorn.partitioned_tables WHERE name = 'outbox';
