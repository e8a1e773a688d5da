package migrations_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/migrations"
)

const partitions = `
	SELECT c.relname || ' of ' || p.relname FROM pg_inherits
	JOIN pg_class c ON c.oid = inhrelid JOIN pg_class p ON p.oid = inhparent
	WHERE c.relkind = 'r' AND p.relnamespace = 'posthorn'::regnamespace ORDER BY c.relname`

// expected is what partitions gives when every day is there; the days are
// counted here, not by the database.
func expected(now time.Time, daysAhead map[string]int) (names []string) {
	for _, table := range slices.Sorted(maps.Keys(daysAhead)) {
		for day := -1; day <= daysAhead[table]; day++ {
			date := now.UTC().AddDate(0, 0, day).Format("20060102")
			names = append(names, fmt.Sprintf("%s_%s of %s", table, date, table))
		}
	}
	return names
}

var daysAhead = map[string]int{"attempts": 14, "deliveries": 14, "outbox": 60, "routings": 60}

func TestCreatePartitions_MakesEveryDayFromYesterdayOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := begin(t, db.Pool) // now() stands still in it
	execute(t, tx, `SELECT posthorn.create_partitions()`)
	now := value[time.Time](t, tx, `SELECT now()`)
	want := expected(now, daysAhead)
	if diff := cmp.Diff(want, values[string](t, tx, partitions)); diff != "" {
		t.Error(diff)
	}
	if n := value[int](t, tx, `SELECT posthorn.create_partitions()`); n != 0 {
		t.Errorf("a second run has made %d partitions", n)
	}
	for _, table := range []string{"outbox", "deliveries"} {
		execute(t, tx, "DROP TABLE posthorn."+table+"_"+now.UTC().Format("20060102"))
	}
	if n := value[int](t, tx, `SELECT posthorn.create_partitions()`); n != 2 {
		t.Errorf("two days were missing, %d were made", n)
	}
	if diff := cmp.Diff(want, values[string](t, tx, partitions)); diff != "" {
		t.Error(diff)
	}
}

// A day is a day in UTC whatever the session's settings are. The zones are those
// with the earliest and latest day, and one whose clocks skip midnight.
func TestCreatePartitions_DoesNotDependOnTheSession(t *testing.T) {
	t.Parallel()
	const bounds = `SELECT c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) FROM pg_class c
		WHERE relispartition AND relkind = 'r' ORDER BY 1`
	db := pgtest.New(t)
	days := map[string]int{"outbox": 370, "deliveries": 14} // a year has every change of clocks
	var want []string
	for _, session := range []string{
		`SET LOCAL TimeZone = 'UTC'`,
		`SET LOCAL TimeZone = 'Africa/Cairo'; SET LOCAL DateStyle = 'German'`,
		`SET LOCAL TimeZone = 'Pacific/Kiritimati'; SET LOCAL DateStyle = 'SQL, DMY'`,
		`SET LOCAL TimeZone = 'Pacific/Pago_Pago'; SET LOCAL DateStyle = 'Postgres, MDY'`,
	} {
		tx := begin(t, db.Pool)
		for _, name := range values[string](t, tx, `SELECT inhrelid::regclass::text FROM pg_inherits
			WHERE inhparent IN (SELECT ('posthorn.' || name)::regclass FROM posthorn.partitioned_tables)`) {
			execute(t, tx, "DROP TABLE "+name)
		}
		execute(t, tx, `DELETE FROM posthorn.partitioned_tables WHERE name NOT IN ('outbox', 'deliveries')`)
		execute(t, tx, `UPDATE posthorn.partitioned_tables SET days_ahead = 370 WHERE name = 'outbox'`)
		execute(t, tx, session)
		execute(t, tx, `SELECT posthorn.create_partitions()`)
		execute(t, tx, `SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'`)
		now := value[time.Time](t, tx, `SELECT now()`)
		if diff := cmp.Diff(expected(now, days), values[string](t, tx, partitions)); diff != "" {
			t.Errorf("%s: %s", session, diff)
		}
		got := values[string](t, tx, bounds)
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", session, diff)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPartitions_HaveNoDefault(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const parents = `SELECT relname::text FROM pg_partitioned_table JOIN pg_class ON pg_class.oid = partrelid
		WHERE relnamespace = 'posthorn'::regnamespace AND (NOT $1 OR partdefid <> 0) ORDER BY 1`
	listed := values[string](t, db.Pool, `SELECT name FROM posthorn.partitioned_tables ORDER BY 1`)
	if diff := cmp.Diff(listed, values[string](t, db.Pool, parents, false)); diff != "" {
		t.Errorf("the list of partitioned tables is not that of the catalogue: %s", diff)
	}
	if with := values[string](t, db.Pool, parents, true); len(with) != 0 {
		t.Errorf("with a DEFAULT partition: %v", with)
	}
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload, created_at)
		VALUES ('a', '1', now() - interval '3 days')`)
	if err == nil {
		t.Error("a row outside every day went somewhere")
	}
}

type anyKind struct{}

func (anyKind) Prefix() string { return "any" }

// deliveryIn gives the partition that an id falls into.
const deliveryIn = `WITH d AS (
		INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type)
		VALUES ($1, $1, now(), $1, 'default', 'a') RETURNING tableoid)
	SELECT tableoid::regclass::text FROM d`

// The ids are Go's and the database's, the days typeid's and the partitions':
// should they disagree, rows of the last moments of a day find no partition.
func TestPartitions_HoldTheIDsOfTheirDay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := begin(t, db.Pool)
	yesterday := value[time.Time](t, tx, `SELECT now()`).UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	rapid.Check(t, func(rt *rapid.T) {
		day := yesterday.AddDate(0, 0, rapid.IntRange(0, 15).Draw(rt, "day"))
		const last = 24*time.Hour - time.Microsecond // the database's resolution
		at := day.Add(rapid.OneOf(
			rapid.SampledFrom([]time.Duration{0, time.Microsecond, last, last - time.Millisecond, 12 * time.Hour}),
			rapid.Map(rapid.Int64Range(0, int64(last/time.Microsecond)), func(us int64) time.Duration { return time.Duration(us) * time.Microsecond }),
		).Draw(rt, "time of day"))
		want := "posthorn.deliveries_" + at.Format("20060102")
		if got := value[string](t, tx, deliveryIn, typeid.NewAt[anyKind](at)); got != want {
			rt.Errorf("an id made by Go at %s is in %s", at, got)
		}
		id := value[typeid.ID[anyKind]](t, tx, `SELECT posthorn.uuid_v7($1)`, at)
		if got := value[string](t, tx, deliveryIn, id); got != want {
			rt.Errorf("an id made by SQL at %s is in %s", at, got)
		}
		if !id.Time().Equal(at.Truncate(time.Millisecond)) || id.UUID()[6]>>4 != 7 || id.UUID()[8]>>6 != 2 {
			rt.Errorf("SQL made %s at %s, of %s", id, at, id.Time())
		}
	})
}

func TestPartitions_HoldTheEventsOfTheirDay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := begin(t, db.Pool)
	today := value[time.Time](t, tx, `SELECT now()`).UTC().Truncate(24 * time.Hour)
	for _, at := range []time.Time{today.AddDate(0, 0, -1), today.Add(-time.Microsecond), today, today.AddDate(0, 0, 61).Add(-time.Microsecond)} {
		for table, insert := range map[string]string{
			"outbox":   `INSERT INTO posthorn.outbox (event_type, payload, created_at) VALUES ('a', '1', $1) RETURNING tableoid`,
			"routings": `INSERT INTO posthorn.routings (event_id, created_at, matched, revision) VALUES (posthorn.uuid_v7(), $1, 0, 1) RETURNING tableoid`,
		} {
			got := value[string](t, tx, `WITH i AS (`+insert+`) SELECT tableoid::regclass::text FROM i`, at)
			if want := "posthorn." + table + at.Format("_20060102"); got != want {
				t.Errorf("the row of %s is in %s, want %s", at, got, want)
			}
		}
	}
}

// A producer in the middle of its transaction neither waits for new partitions
// nor makes anybody wait.
func TestCreatePartitions_WaitsForNoProducer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // the test's end
	if _, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', '{}')`); err != nil {
		t.Fatal(err)
	}
	var created int
	err = db.Pool.QueryRow(t.Context(), `WITH further AS (UPDATE posthorn.partitioned_tables SET days_ahead = days_ahead + 1 RETURNING 1)
		SELECT count(*) FROM further`).Scan(&created)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `SET lock_timeout = '2s'`); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), `SELECT posthorn.create_partitions()`).Scan(&created); err != nil || created != 4 {
		t.Errorf("created %d partitions beside an open producer's transaction: %v", created, err)
	}
}

// A trim that was cut short leaves tables behind.
func TestDown_TakesWhatATrimHasLeftBehind(t *testing.T) {
	t.Parallel()
	db := pgtest.OwnServer(t)
	if _, err := db.Pool.Exec(t.Context(), `SELECT posthorn.stage_days('2020-01-01', '2020-01-01')`); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Down(t.Context(), db.URL); err != nil {
		t.Error(err)
	}
}
