-- +goose Up
-- What an event costs its producer. PostgreSQL reads a CHECK constraint and a trigger's
-- WHEN anew from the catalogue for every statement, which cost several times the
-- insert itself; a function is read once in a session. So one function says what is
-- refused, in the same words as before, and takes the idempotency key.

-- The limit is a constant of the function that looks at it, planned in: checking it
-- costs no look-up, and setting it no lock on the table.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.set_max_payload_bytes(bytes integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF bytes NOT BETWEEN 1024 AND 16777216 THEN
        RAISE EXCEPTION 'posthorn: the payload limit must lie between 1024 and 16777216 bytes, not %', bytes;
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION posthorn.max_payload_bytes() RETURNS integer LANGUAGE sql IMMUTABLE AS $f$ SELECT %s $f$', bytes);
END
$$;
-- +goose StatementEnd

-- The long way, for what outbox_admit could not pass at a glance. False: the event is
-- left out, because its idempotency key was used before, which is no error and must not
-- abort the producer's business transaction.
-- +goose StatementBegin
CREATE FUNCTION posthorn.outbox_examine(event posthorn.outbox) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The types below "posthorn" are Posthorn's own to publish: who may only produce can't
    -- tell a subscriber that its endpoint was disabled.
    IF event.event_type LIKE 'posthorn.%' AND NOT has_table_privilege(session_user, 'posthorn.deliveries', 'INSERT') THEN
        PERFORM posthorn.refuse(format('event_type %L is reserved: types that begin with "posthorn." are published by Posthorn itself', left(event.event_type, 64)));
    END IF;
    IF length(event.idempotency_key) BETWEEN 1 AND 255 THEN
        INSERT INTO posthorn.outbox_keys (tenant_id, idempotency_key, event_id)
        VALUES (event.tenant_id, event.idempotency_key, event.id)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    -- What may not be NULL is refused by its column.
    IF event.event_type IS NULL OR event.occurred_at IS NULL OR event.payload IS NULL OR event.tenant_id IS NULL THEN
        RETURN true;
    END IF;
    IF event.event_type !~ '^[A-Za-z0-9_]+([.][A-Za-z0-9_]+)*$' OR length(event.event_type) > 255 THEN
        PERFORM posthorn.refuse(format('event_type %L must be dot-separated names of letters, digits and underscores, such as order.paid, and have at most 255 characters', left(event.event_type, 64)));
    ELSIF length(event.idempotency_key) NOT BETWEEN 1 AND 255 THEN
        PERFORM posthorn.refuse('idempotency_key must have 1 to 255 characters');
    ELSIF event.occurred_at < '0001-01-01 00:00:00+00' OR event.occurred_at >= '9999-12-31 00:00:00+00' THEN
        PERFORM posthorn.refuse('occurred_at must lie between the years 1 and 9999');
    ELSIF length(event.ordering_key) NOT BETWEEN 1 AND 255 THEN
        PERFORM posthorn.refuse('ordering_key must have 1 to 255 characters');
    ELSIF octet_length(event.payload::text) > posthorn.max_payload_bytes() THEN
        PERFORM posthorn.refuse(format('payload has %s bytes, the limit is %s', octet_length(event.payload::text), posthorn.max_payload_bytes()));
    ELSIF length(event.tenant_id) NOT BETWEEN 1 AND 255 OR event.tenant_id = '*' THEN
        PERFORM posthorn.refuse(format('tenant_id %L must have 1 to 255 characters and not be "*"', left(event.tenant_id, 64)));
    ELSIF event.traceparent !~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        OR event.traceparent ~ '^00-0{32}' OR event.traceparent ~ '^00-[0-9a-f]{32}-0{16}' THEN
        PERFORM posthorn.refuse(format('traceparent %L is not of the W3C form 00-<32 hex>-<16 hex>-<2 hex>', left(event.traceparent, 64)));
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- No backslash stands in either: what one means is the session's to set
-- (standard_conforming_strings), and the session is the producer's.
--
-- Every producer's statement pays for what stands here: one expression, which counts
-- bytes, because those are at hand and characters are not. Setting a search_path would
-- cost as much again, so every name and operator has its schema; otherwise a
-- producer's own would be called, with our rights.
-- +goose StatementBegin
CREATE FUNCTION posthorn.outbox_admit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.idempotency_key IS NULL
        AND NEW.event_type OPERATOR(pg_catalog.~) '^[A-Za-z0-9_]+([.][A-Za-z0-9_]+)*$'
        AND NEW.event_type OPERATOR(pg_catalog.!~~) 'posthorn.%'
        AND pg_catalog.octet_length(NEW.event_type) OPERATOR(pg_catalog.<=) 255
        AND pg_catalog.octet_length(NEW.tenant_id) OPERATOR(pg_catalog.>=) 1
        AND pg_catalog.octet_length(NEW.tenant_id) OPERATOR(pg_catalog.<=) 255
        AND NEW.tenant_id OPERATOR(pg_catalog.<>) '*'
        AND (NEW.ordering_key IS NULL
            OR pg_catalog.octet_length(NEW.ordering_key) OPERATOR(pg_catalog.>=) 1
                AND pg_catalog.octet_length(NEW.ordering_key) OPERATOR(pg_catalog.<=) 255)
        AND (NEW.traceparent IS NULL
            OR NEW.traceparent OPERATOR(pg_catalog.~) '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
                AND NEW.traceparent OPERATOR(pg_catalog.!~) '^00-0{32}'
                AND NEW.traceparent OPERATOR(pg_catalog.!~) '^00-[0-9a-f]{32}-0{16}')
        AND NEW.occurred_at OPERATOR(pg_catalog.>=) '0001-01-01 00:00:00+00'
        AND NEW.occurred_at OPERATOR(pg_catalog.<) '9999-12-31 00:00:00+00'
        -- What is stored uncompressed tells its size without being copied.
        AND pg_catalog.pg_column_compression(NEW.payload) IS NULL
        AND pg_catalog.pg_column_size(NEW.payload) OPERATOR(pg_catalog.<=) posthorn.max_payload_bytes()
    THEN
        RETURN NEW;
    END IF;
    IF posthorn.outbox_examine(NEW) THEN
        RETURN NEW;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- As before without a search_path of its own: nothing in it is looked up by one.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.outbox_fill_pending() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO posthorn.outbox_pending (event_id, created_at, tenant_id, ordered)
    SELECT id, created_at, tenant_id, ordering_key IS NOT NULL FROM inserted;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION posthorn.outbox_admit, posthorn.outbox_examine FROM PUBLIC;

DROP TRIGGER skip_repeat ON posthorn.outbox;
DROP TRIGGER refuse_operational ON posthorn.outbox;
DROP FUNCTION posthorn.outbox_skip_repeat, posthorn.outbox_refuse_operational;
CREATE TRIGGER admit BEFORE INSERT ON posthorn.outbox FOR EACH ROW EXECUTE FUNCTION posthorn.outbox_admit();

-- The partitions' too: they were made with constraints of their own.
-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT conrelid::regclass AS tab, conname FROM pg_constraint
        WHERE contype = 'c' AND (conrelid = 'posthorn.outbox'::regclass
            OR conrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'posthorn.outbox'::regclass))
        ORDER BY conrelid <> 'posthorn.outbox'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', c.tab, c.conname);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER admit ON posthorn.outbox;
DROP FUNCTION posthorn.outbox_admit, posthorn.outbox_examine;
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
REVOKE ALL ON FUNCTION posthorn.outbox_skip_repeat, posthorn.outbox_refuse_operational FROM PUBLIC;
ALTER TABLE posthorn.outbox
    ADD CONSTRAINT tenant_id_is_usable CHECK (CASE
        WHEN length(tenant_id) BETWEEN 1 AND 255 AND tenant_id <> '*' THEN true
        ELSE posthorn.refuse(format('tenant_id %L must have 1 to 255 characters and not be "*"', left(tenant_id, 64))) END) NOT VALID,
    ADD CONSTRAINT event_type_is_dot_separated CHECK (CASE
        WHEN event_type ~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$' AND length(event_type) <= 255 THEN true
        ELSE posthorn.refuse(format('event_type %L must be dot-separated names of letters, digits and underscores, such as order.paid, and have at most 255 characters', left(event_type, 64))) END) NOT VALID,
    ADD CONSTRAINT ordering_key_is_usable CHECK (CASE
        WHEN ordering_key IS NULL OR length(ordering_key) BETWEEN 1 AND 255 THEN true
        ELSE posthorn.refuse('ordering_key must have 1 to 255 characters') END) NOT VALID,
    ADD CONSTRAINT idempotency_key_is_usable CHECK (CASE
        WHEN idempotency_key IS NULL OR length(idempotency_key) BETWEEN 1 AND 255 THEN true
        ELSE posthorn.refuse('idempotency_key must have 1 to 255 characters') END) NOT VALID,
    ADD CONSTRAINT traceparent_is_w3c CHECK (CASE
        WHEN traceparent IS NULL THEN true
        WHEN traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
         AND traceparent !~ '^00-0{32}' AND traceparent !~ '^00-[0-9a-f]{32}-0{16}' THEN true
        ELSE posthorn.refuse(format('traceparent %L is not of the W3C form 00-<32 hex>-<16 hex>-<2 hex>', left(traceparent, 64))) END) NOT VALID,
    ADD CONSTRAINT occurred_at_is_a_date CHECK (CASE
        WHEN occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '9999-12-31 00:00:00+00' THEN true
        ELSE posthorn.refuse('occurred_at must lie between the years 1 and 9999') END) NOT VALID;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.set_max_payload_bytes(bytes integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    child regclass;
BEGIN
    IF bytes NOT BETWEEN 1024 AND 16777216 THEN
        RAISE EXCEPTION 'posthorn: the payload limit must lie between 1024 and 16777216 bytes, not %', bytes;
    END IF;
    ALTER TABLE posthorn.outbox DROP CONSTRAINT IF EXISTS payload_is_small_enough;
    FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'posthorn.outbox'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS payload_is_small_enough', child);
    END LOOP;
    EXECUTE format($sql$
        ALTER TABLE posthorn.outbox ADD CONSTRAINT payload_is_small_enough CHECK (CASE
            WHEN octet_length(payload::text) <= %1$s THEN true
            ELSE posthorn.refuse(format('payload has %%s bytes, the limit is %1$s', octet_length(payload::text))) END) NOT VALID
    $sql$, bytes);
    EXECUTE format('CREATE OR REPLACE FUNCTION posthorn.max_payload_bytes() RETURNS integer LANGUAGE sql IMMUTABLE AS $f$ SELECT %s $f$', bytes);
END
$$;
-- +goose StatementEnd
SELECT posthorn.set_max_payload_bytes(posthorn.max_payload_bytes());
