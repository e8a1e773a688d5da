-- +goose Up
-- Functions that every later table uses, and the role that producers log in with.

-- +goose StatementBegin
CREATE FUNCTION posthorn.uuid_v7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.uuid_v7 IS 'A time-ordered UUID (version 7) of the given time.';

-- +goose StatementBegin
CREATE FUNCTION posthorn.public_id(prefix text, id uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT prefix || '_' || string_agg(
        substr('0123456789abcdefghjkmnpqrstvwxyz',
               1 + substring(bits FROM 1 + 5 * i FOR 5)::bit(5)::int, 1), '' ORDER BY i)
    FROM (SELECT B'00' || ('x' || replace(id::text, '-', ''))::bit(128) AS bits) b,
         generate_series(0, 25) AS i
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.public_id IS
    'The form of an id seen outside: prefix, underscore, 26 lower-case Crockford base32 characters.';

-- +goose StatementBegin
CREATE FUNCTION posthorn.internal_id(public_id text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN public_id ~ '_[0-7][0-9a-hjkmnp-tv-z]{25}$' THEN (SELECT string_agg(to_hex(substring(bits FROM 3 + 4 * i FOR 4)::bit(4)::int), '' ORDER BY i)
            FROM generate_series(0, 31) AS i)::uuid END
    FROM (SELECT string_agg((strpos('0123456789abcdefghjkmnpqrstvwxyz', c) - 1)::bit(5)::text, '' ORDER BY n)::bit(130) AS bits
          FROM regexp_split_to_table(right(public_id, 26), '') WITH ORDINALITY AS chars(c, n)) b
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.internal_id IS 'The uuid behind an id seen outside, NULL for text that is none; the inverse of public_id.';

-- A CHECK constraint can only say that it was violated. Each constraint here is
-- CASE WHEN fine THEN true ELSE posthorn.refuse('why') END, so that the producer
-- reads why, and the function runs only on the way to an error.
-- +goose StatementBegin
CREATE FUNCTION posthorn.refuse(reason text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'posthorn: ' || reason;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthorn_producer') THEN
        CREATE ROLE posthorn_producer NOLOGIN;
    END IF;
EXCEPTION
    -- Roles belong to the whole cluster: another database's migration may have
    -- made it between the look and the act.
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'posthorn: this user may not create the role posthorn_producer'
            USING HINT = 'As a superuser, once: CREATE ROLE posthorn_producer NOLOGIN';
END
$$;
-- +goose StatementEnd
GRANT USAGE ON SCHEMA posthorn TO posthorn_producer;
REVOKE EXECUTE ON FUNCTION posthorn.uuid_v7, posthorn.public_id, posthorn.internal_id, posthorn.refuse FROM PUBLIC;
GRANT EXECUTE ON FUNCTION posthorn.uuid_v7, posthorn.public_id, posthorn.internal_id, posthorn.refuse TO posthorn_producer;

-- The day's partitions of every partitioned table, listed here with the expression
-- that turns a day into a bound. There is no DEFAULT partition: a row outside every
-- day is an error that somebody sees, not a table that can never be dropped.
CREATE TABLE posthorn.partitioned_tables (
    name       text PRIMARY KEY,
    by_id      boolean NOT NULL,  -- partitioned by a UUIDv7 instead of by a timestamptz
    days_ahead integer NOT NULL,  -- how far ahead partitions are made
    fillfactor integer NOT NULL DEFAULT 100  -- less leaves room for updates on the page
);

-- +goose StatementBegin
CREATE FUNCTION posthorn.create_partitions() RETURNS integer
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
            EXECUTE format('CREATE TABLE posthorn.%I (LIKE posthorn.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = %s)',
                child, tab.name, tab.fillfactor);
            EXECUTE format('ALTER TABLE posthorn.%I ATTACH PARTITION posthorn.%I FOR VALUES %s', tab.name, child, bounds);
            created := created + 1;
        END LOOP;
    END LOOP;
    RETURN created;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.create_partitions IS
    'Makes the missing partitions from yesterday on, as far ahead as partitioned_tables says; returns how many.';

-- +goose StatementBegin
CREATE FUNCTION posthorn.uuid_floor(day date) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.uuid_floor IS 'The least UUIDv7 of a day (UTC).';

-- +goose Down
DROP FUNCTION posthorn.create_partitions;
DROP TABLE posthorn.partitioned_tables;
DROP FUNCTION posthorn.uuid_floor;
-- +goose StatementBegin
DO $$
BEGIN
    DROP OWNED BY posthorn_producer;
    DROP ROLE posthorn_producer;
EXCEPTION
    -- Another database of the cluster still uses the role, or it is not ours to drop.
    WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object THEN
        RAISE NOTICE 'the role posthorn_producer stays: %', SQLERRM;
END
$$;
-- +goose StatementEnd
DROP FUNCTION posthorn.refuse, posthorn.internal_id, posthorn.public_id, posthorn.uuid_v7;
