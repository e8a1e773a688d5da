-- +goose Up
-- Days that are past the retention go, whatever is still needed of them: that moves
-- into a small partition of the same time. Rare states have an index of their own.

-- How far days have been trimmed: an event from before of which nothing is left, but
-- for a delivery of a later day, has been dropped and is not missed.
ALTER TABLE posthorn.ledger_state ADD COLUMN trimmed_to timestamptz NOT NULL DEFAULT '-infinity';

-- Days past the retention that stay whole, because too much of them is still needed.
CREATE TABLE posthorn.days_left (
    day       date        PRIMARY KEY,
    needed    bigint      NOT NULL,  -- events; more than the limit are not counted
    looked_at timestamptz NOT NULL DEFAULT now()
);

-- +goose StatementBegin
CREATE FUNCTION posthorn.stored_days() RETURNS TABLE (first date, last date, trimmed boolean)
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT to_date(substring(c.relname FROM '_(\d{8})(?:_to_\d{8})?$'), 'YYYYMMDD'), to_date(substring(c.relname FROM '_(\d{8})$'), 'YYYYMMDD'),
        c.relname ~ '_to_\d{8}$'
    FROM posthorn.partitioned_tables t
    JOIN pg_inherits i ON i.inhparent = ('posthorn.' || t.name)::regclass
    JOIN pg_class c ON c.oid = i.inhrelid
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.stored_days IS
    'The days that have partitions: one by one, and those trimmed together, named <table>_<first>_to_<last>.';

-- An event is needed until it is routed and every delivery of it is delivered, cancelled,
-- or dead with its dead letter resolved. Deliveries that still wait are found by the
-- indexes of what waits; only first attempts that the sweep has not seen yet are in none.
-- +goose StatementBegin
CREATE FUNCTION posthorn.needed_events(since timestamptz, until timestamptz) RETURNS TABLE (event_id uuid, created_at timestamptz)
LANGUAGE sql STABLE AS $$
    WITH unfinished AS MATERIALIZED (
        SELECT d.id FROM posthorn.deliveries d WHERE d.aside IN ('retrying', 'held')
            AND (d.event_created_at >= since AND d.event_created_at < until OR d.id >= posthorn.uuid_at(since) AND d.id < posthorn.uuid_at(until))
        UNION
        SELECT d.id FROM posthorn.deliveries d WHERE d.next_attempt_at IS NOT NULL
            AND (d.event_created_at >= since AND d.event_created_at < until OR d.id >= posthorn.uuid_at(since) AND d.id < posthorn.uuid_at(until))
        UNION
        SELECT d.id FROM posthorn.deliveries d
        WHERE d.id >= (SELECT posthorn.uuid_at(swept_to - interval '1 minute') FROM posthorn.sweep_state)
            AND d.status = 'pending' AND d.next_attempt_at IS NULL AND d.event_created_at >= since AND d.event_created_at < until
    )
    SELECT d.event_id, d.event_created_at FROM unfinished u JOIN posthorn.deliveries d ON d.id = u.id
    UNION
    SELECT p.event_id, p.created_at FROM posthorn.outbox_pending p WHERE p.created_at >= since AND p.created_at < until
    UNION
    SELECT l.event_id, l.event_created_at FROM posthorn.dead_letters l WHERE l.resolved_at IS NULL
        AND (l.event_created_at >= since AND l.event_created_at < until OR l.delivery_id >= posthorn.uuid_at(since) AND l.delivery_id < posthorn.uuid_at(until))
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.needed_events IS
    'The events of a time that something still needs, and those of the deliveries made in it that are not finished.';

-- What of the days is needed is copied beside them, while everybody goes on working
-- in them. Whole events stay, with all their deliveries, so that the books balance:
-- those that are needed, and those of other days that are still stored.
-- +goose StatementBegin
CREATE FUNCTION posthorn.stage_days(first date, last date) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    since   timestamptz := first::timestamp AT TIME ZONE 'UTC';
    until   timestamptz := (last + 1)::timestamp AT TIME ZONE 'UTC';
    suffix  text := to_char(first, '_YYYYMMDD') || to_char(last, '"_to_"YYYYMMDD"_new"');
    in_time text := format('created_at >= %L AND created_at < %L', since, until);
    by_id   text := format('>= %L AND %%1$s < %L', posthorn.uuid_floor(first), posthorn.uuid_floor(last + 1));
    columns text;
    small   text;
    tab     posthorn.partitioned_tables;
    staged  bigint;
BEGIN
    FOR tab IN SELECT * FROM posthorn.partitioned_tables LOOP
        EXECUTE format('DROP TABLE IF EXISTS posthorn.%I', tab.name || suffix);
        EXECUTE format('CREATE TABLE posthorn.%I (LIKE posthorn.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING INDEXES) WITH (fillfactor = %s)',
            tab.name || suffix, tab.name, tab.fillfactor);
    END LOOP;
    -- The limit on payloads may have been lowered since; NOT VALID is what the table has.
    EXECUTE format('ALTER TABLE posthorn.%I DROP CONSTRAINT IF EXISTS payload_is_small_enough', 'outbox' || suffix);

    CREATE TEMPORARY TABLE staying ON COMMIT DROP AS
        SELECT event_id, created_at FROM posthorn.needed_events(since, until);
    -- Routed in these days, created in others: a minute spans what clocks differ by.
    INSERT INTO staying
        SELECT r.event_id, r.created_at FROM posthorn.routings r
        WHERE (r.created_at < since OR r.created_at >= until AND r.created_at < until + interval '1 minute')
          AND r.routed_at >= since - interval '1 minute' AND r.routed_at < until + interval '1 minute'
        EXCEPT SELECT event_id, created_at FROM staying;
    ANALYZE staying;

    EXECUTE format('INSERT INTO posthorn.%I SELECT o.* FROM staying s JOIN posthorn.outbox o ON o.id = s.event_id AND o.created_at = s.created_at WHERE o.%s',
        'outbox' || suffix, replace(in_time, 'AND ', 'AND o.'));
    GET DIAGNOSTICS staged = ROW_COUNT;
    EXECUTE format('INSERT INTO posthorn.%I SELECT r.* FROM staying s JOIN posthorn.routings r USING (event_id, created_at) WHERE r.%s',
        'routings' || suffix, replace(in_time, 'AND ', 'AND r.'));
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = 'posthorn.deliveries'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format('INSERT INTO posthorn.%1$I (%2$s) SELECT %3$s FROM staying s JOIN posthorn.deliveries d ON d.event_id = s.event_id AND d.event_created_at = s.created_at WHERE d.id %4$s',
        'deliveries' || suffix, columns, 'd.' || replace(columns, ', ', ', d.'), format(by_id, 'd.id'));
    EXECUTE format('ANALYZE posthorn.%I', 'deliveries' || suffix);
    EXECUTE format('INSERT INTO posthorn.%I SELECT a.* FROM posthorn.%I d JOIN posthorn.attempts a ON a.delivery_id = d.id WHERE a.delivery_id %s',
        'attempts' || suffix, 'deliveries' || suffix, format(by_id, 'a.delivery_id'));

    -- Said now, this spares a scan when they are attached.
    EXECUTE format('ALTER TABLE posthorn.%I ADD CONSTRAINT in_time CHECK (%s)', 'outbox' || suffix, in_time);
    EXECUTE format('ALTER TABLE posthorn.%I ADD CONSTRAINT in_time CHECK (%s)', 'routings' || suffix, in_time);
    EXECUTE format('ALTER TABLE posthorn.%I ADD CONSTRAINT in_time CHECK (id %s)', 'deliveries' || suffix, format(by_id, 'id'));
    EXECUTE format('ALTER TABLE posthorn.%I ADD CONSTRAINT in_time CHECK (delivery_id %s)', 'attempts' || suffix, format(by_id, 'delivery_id'));
    SELECT regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') INTO small FROM pg_constraint
        WHERE conrelid = 'posthorn.outbox'::regclass AND conname = 'payload_is_small_enough';
    IF FOUND THEN
        EXECUTE format('ALTER TABLE posthorn.%I ADD CONSTRAINT payload_is_small_enough %s NOT VALID', 'outbox' || suffix, small);
    END IF;
    RETURN staged;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.stage_days IS
    'Copies what is needed of these days into <table>_<first>_to_<last>_new; returns how many events that are.';

-- The swap itself: with the tables locked, what has changed since it was staged is
-- brought up to date, the days' partitions are detached and the small ones attached.
-- +goose StatementBegin
CREATE FUNCTION posthorn.swap_days(first date, last date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    days  text := to_char(first, '_YYYYMMDD') || to_char(last, '"_to_"YYYYMMDD');
    tab   posthorn.partitioned_tables;
    child text;
    bound text;
    stay  boolean;
BEGIN
    -- The audit reads these tables with this row locked: first the row, then the tables.
    PERFORM FROM posthorn.ledger_state FOR UPDATE;
    LOCK TABLE ONLY posthorn.outbox, ONLY posthorn.routings, ONLY posthorn.deliveries, ONLY posthorn.attempts IN ACCESS EXCLUSIVE MODE;
    IF NOT posthorn.refresh_staged(first, last) THEN
        RETURN false;
    END IF;
    PERFORM posthorn.account_staged(first, last);
    EXECUTE format('SELECT EXISTS (SELECT FROM posthorn.%I) OR EXISTS (SELECT FROM posthorn.%I)', 'outbox' || days || '_new', 'deliveries' || days || '_new') INTO stay;
    FOR tab IN SELECT * FROM posthorn.partitioned_tables LOOP
        FOR child IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = ('posthorn.' || tab.name)::regclass
              AND to_date(substring(c.relname FROM '_(\d{8})$'), 'YYYYMMDD') BETWEEN first AND last
        LOOP
            EXECUTE format('ALTER TABLE posthorn.%I DETACH PARTITION posthorn.%I', tab.name, child);
            EXECUTE format('ALTER TABLE posthorn.%I RENAME TO %I', child, child || '_gone');
        END LOOP;
        IF NOT stay THEN
            EXECUTE format('DROP TABLE posthorn.%I', tab.name || days || '_new');
            CONTINUE;
        END IF;
        bound := CASE WHEN tab.by_id
            THEN format('FROM (%L) TO (%L)', posthorn.uuid_floor(first), posthorn.uuid_floor(last + 1))
            ELSE format('FROM (%L) TO (%L)', to_char(first, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(last + 1, 'YYYY-MM-DD') || ' 00:00:00+00') END;
        EXECUTE format('ALTER TABLE posthorn.%I RENAME TO %I', tab.name || days || '_new', tab.name || days);
        EXECUTE format('ALTER TABLE posthorn.%I ATTACH PARTITION posthorn.%I FOR VALUES %s', tab.name, tab.name || days, bound);
        EXECUTE format('ALTER TABLE posthorn.%I DROP CONSTRAINT in_time', tab.name || days);
    END LOOP;
    DELETE FROM posthorn.days_left WHERE day BETWEEN first AND last;
    RETURN true;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.swap_days IS
    'Puts what was staged of these days in their place; the days'' own tables, detached, are then named <table>_<day>_gone. False: stage again.';

-- +goose StatementBegin
CREATE FUNCTION posthorn.refresh_staged(first date, last date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    suffix  text := to_char(first, '_YYYYMMDD') || to_char(last, '"_to_"YYYYMMDD"_new"');
    in_days text := format('d.id >= %L AND d.id < %L', posthorn.uuid_floor(first), posthorn.uuid_floor(last + 1));
    since   timestamptz := first::timestamp AT TIME ZONE 'UTC';
    until   timestamptz := (last + 1)::timestamp AT TIME ZONE 'UTC';
    columns text;
    missed  boolean;
BEGIN
    -- A delivery that was finished may have been retried by hand, and have died again; a
    -- producer's transaction that is older than the days may have committed.
    EXECUTE format('
        SELECT EXISTS (SELECT FROM posthorn.needed_events(%1$L, %2$L) n
            WHERE EXISTS (SELECT FROM posthorn.outbox o
                    WHERE o.id = n.event_id AND o.created_at = n.created_at AND o.created_at >= %1$L AND o.created_at < %2$L)
                AND NOT EXISTS (SELECT FROM posthorn.%3$I s WHERE s.id = n.event_id AND s.created_at = n.created_at)
            OR EXISTS (SELECT FROM posthorn.deliveries d
                WHERE d.event_id = n.event_id AND d.event_created_at = n.created_at AND %4$s
                    AND NOT EXISTS (SELECT FROM posthorn.%5$I s WHERE s.id = d.id)))',
        since, until, 'outbox' || suffix, in_days, 'deliveries' || suffix) INTO missed;
    IF missed THEN
        RETURN false;
    END IF;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = 'posthorn.deliveries'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format('WITH changed AS (
            UPDATE posthorn.%1$I s SET (%3$s) = ROW(%4$s) FROM posthorn.deliveries d
            WHERE d.id = s.id AND %2$s AND ROW(%4$s) IS DISTINCT FROM ROW(%5$s) RETURNING s.id
        ) INSERT INTO posthorn.%6$I SELECT d.* FROM changed c JOIN (SELECT * FROM posthorn.attempts d WHERE %7$s) d ON d.delivery_id = c.id ON CONFLICT DO NOTHING',
        'deliveries' || suffix, in_days, columns, 'd.' || replace(columns, ', ', ', d.'), 's.' || replace(columns, ', ', ', s.'),
        'attempts' || suffix, replace(in_days, 'd.id', 'd.delivery_id'));
    -- What was pending may have been routed.
    EXECUTE format('INSERT INTO posthorn.%1$I SELECT r.* FROM posthorn.%2$I o JOIN posthorn.routings r ON r.event_id = o.id AND r.created_at = o.created_at
        WHERE NOT EXISTS (SELECT FROM posthorn.%1$I s WHERE s.event_id = o.id AND s.created_at = o.created_at)',
        'routings' || suffix, 'outbox' || suffix);
    RETURN true;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.refresh_staged IS
    'Brings what was staged of these days up to date; false when something is needed that was not staged. Its caller has the tables locked.';

-- The minutes' account is of what stays. A minute that does not balance is counted
-- again by the audit, event by event.
-- +goose StatementBegin
CREATE FUNCTION posthorn.account_staged(first date, last date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    since  timestamptz := first::timestamp AT TIME ZONE 'UTC';
    until  timestamptz := (last + 1)::timestamp AT TIME ZONE 'UTC';
    suffix text := to_char(first, '_YYYYMMDD') || to_char(last, '"_to_"YYYYMMDD"_new"');
BEGIN
    DELETE FROM posthorn.ledger_minutes WHERE minute >= since AND minute < until;
    DELETE FROM posthorn.ledger_recounts WHERE minute >= since AND minute < until;
    EXECUTE format('
        INSERT INTO posthorn.ledger_minutes (minute, events, pending, routed, no_match, expected, made, unaccounted, deliveries)
        SELECT date_trunc(''minute'', at, ''UTC''), sum(event), sum(pending), sum(routed), sum(no_match), sum(expected), sum(made),
            abs(sum(event) - sum(pending) - sum(routed)) + abs(sum(expected) - sum(made)), sum(delivery)
        FROM (
            SELECT created_at AS at, 1 AS event, 0 AS pending, 0 AS routed, 0 AS no_match, 0 AS expected, 0 AS made, 0 AS delivery FROM posthorn.%1$I
            UNION ALL SELECT created_at, 0, 1, 0, 0, 0, 0, 0 FROM posthorn.outbox_pending WHERE created_at >= %4$L AND created_at < %5$L
            UNION ALL SELECT created_at, 0, 0, 1, (matched = 0)::int, matched, 0, 0 FROM posthorn.%2$I
            UNION ALL SELECT event_created_at, 0, 0, 0, 0, 0, 1, 0 FROM posthorn.%3$I WHERE event_created_at >= %4$L AND event_created_at < %5$L
            UNION ALL SELECT r.created_at, 0, 0, 0, 0, 0, 1, 0 FROM posthorn.%2$I r JOIN posthorn.deliveries d ON d.event_id = r.event_id AND d.event_created_at = r.created_at
                AND d.id >= posthorn.uuid_at(r.routed_at - interval ''1 minute'') AND d.id < posthorn.uuid_at(r.routed_at + interval ''1 minute'')
                WHERE r.routed_at >= %5$L::timestamptz - interval ''1 minute'' AND d.id >= %6$L
            UNION ALL SELECT posthorn.uuid_time(id), 0, 0, 0, 0, 0, 0, 1 FROM posthorn.%3$I
        ) entry GROUP BY 1',
        'outbox' || suffix, 'routings' || suffix, 'deliveries' || suffix, since, until, posthorn.uuid_floor(last + 1));
    UPDATE posthorn.ledger_state SET trimmed_to = greatest(trimmed_to, until);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.account_staged IS 'Writes the minutes of these days anew, from what was staged of them.';

-- +goose StatementBegin
CREATE FUNCTION posthorn.uuid_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION posthorn.uuid_time IS 'The moment of a UUIDv7, to the millisecond.';

DROP FUNCTION posthorn.drop_oldest_day;
REVOKE ALL ON FUNCTION posthorn.stored_days, posthorn.needed_events, posthorn.stage_days, posthorn.swap_days,
    posthorn.refresh_staged, posthorn.account_staged, posthorn.uuid_time FROM PUBLIC;

-- The newest of a rare state. What is delivered at once never enters these.
CREATE INDEX deliveries_aside_newest ON posthorn.deliveries (aside, id) WHERE aside IS NOT NULL;
CREATE INDEX deliveries_waiting_newest ON posthorn.deliveries (id) WHERE next_attempt_at IS NOT NULL AND aside IS NULL;
CREATE INDEX deliveries_waiting_by_endpoint ON posthorn.deliveries (endpoint_id, id) WHERE next_attempt_at IS NOT NULL AND aside IS NULL;

CREATE INDEX ledger_minutes_pending ON posthorn.ledger_minutes (minute) WHERE pending > 0;

-- Open dead letters are few beside the resolved ones, or the other way round.
DROP INDEX posthorn.dead_letters_by_tenant, posthorn.dead_letters_by_endpoint;
CREATE INDEX dead_letters_open_newest ON posthorn.dead_letters (id) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_open_by_tenant ON posthorn.dead_letters (tenant_id, id) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_open_by_endpoint ON posthorn.dead_letters (endpoint_id, id) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_resolved_newest ON posthorn.dead_letters (id) WHERE resolved_at IS NOT NULL;
CREATE INDEX dead_letters_resolved_by_tenant ON posthorn.dead_letters (tenant_id, id) WHERE resolved_at IS NOT NULL;
CREATE INDEX dead_letters_resolved_by_endpoint ON posthorn.dead_letters (endpoint_id, id) WHERE resolved_at IS NOT NULL;
CREATE INDEX dead_letters_by_resolution ON posthorn.dead_letters (resolved_at) WHERE resolved_at IS NOT NULL;

-- +goose Down
-- What a trim has left behind: tables that are partitions no longer, or not yet.
-- +goose StatementBegin
DO $$
DECLARE
    left_over text;
BEGIN
    FOR left_over IN
        SELECT c.relname FROM pg_class c JOIN posthorn.partitioned_tables t ON c.relname ~ ('^' || t.name || '_[0-9]{8}.*_(gone|new)$')
        WHERE c.relnamespace = 'posthorn'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
    LOOP
        EXECUTE format('DROP TABLE posthorn.%I', left_over);
    END LOOP;
END
$$;
-- +goose StatementEnd
DROP INDEX posthorn.ledger_minutes_pending, posthorn.dead_letters_open_newest, posthorn.dead_letters_open_by_tenant, posthorn.dead_letters_open_by_endpoint,
    posthorn.dead_letters_resolved_newest, posthorn.dead_letters_resolved_by_tenant, posthorn.dead_letters_resolved_by_endpoint,
    posthorn.dead_letters_by_resolution, posthorn.deliveries_aside_newest, posthorn.deliveries_waiting_newest, posthorn.deliveries_waiting_by_endpoint;
CREATE INDEX dead_letters_by_tenant ON posthorn.dead_letters (tenant_id, id);
CREATE INDEX dead_letters_by_endpoint ON posthorn.dead_letters (endpoint_id, id);
DROP FUNCTION posthorn.swap_days, posthorn.refresh_staged, posthorn.account_staged, posthorn.stage_days, posthorn.needed_events,
    posthorn.stored_days, posthorn.uuid_time;
DROP TABLE posthorn.days_left;
ALTER TABLE posthorn.ledger_state DROP COLUMN trimmed_to;
-- +goose StatementBegin
CREATE FUNCTION posthorn.drop_oldest_day(older_than interval) RETURNS date
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
COMMENT ON FUNCTION posthorn.drop_oldest_day IS
    'Drops the oldest day of events, deliveries and attempts if it is older than that and all of it is finished; returns the day, or NULL.';
REVOKE ALL ON FUNCTION posthorn.drop_oldest_day FROM PUBLIC;
