package pgtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

// value returns the single value of a query.
func value[T any](t testing.TB, db *DB, query string, args ...any) T {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func execute(t testing.TB, db *DB, sql string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

const hasSchema = `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'posthorn')`

func TestNewIsMigratedAndNewEmptyIsNot(t *testing.T) {
	t.Parallel()
	if !value[bool](t, New(t), hasSchema) {
		t.Error("New's database has no schema posthorn")
	}
	if value[bool](t, NewEmpty(t), hasSchema) {
		t.Error("NewEmpty's database has the schema posthorn")
	}
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint("Same name/", strings.Repeat("long ", 20), i), func(t *testing.T) {
			t.Parallel()
			db := New(t)
			// Fails if another test's table is there.
			execute(t, db, "CREATE TABLE mine AS SELECT 1 AS n")
			if n := value[int](t, db, "SELECT count(*)::int FROM mine"); n != 1 {
				t.Errorf("the table has %d rows", n)
			}
			if got := value[string](t, db, "SELECT current_database()::text"); !strings.HasSuffix(db.URL, "/"+got+"?sslmode=disable") {
				t.Errorf("the pool is on %s, the URL %s", got, db.URL)
			}
		})
	}
}

func TestTheEndOfATestDropsItsDatabase(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("WithASessionStillOpen", func(t *testing.T) {
		db := New(t)
		name = value[string](t, db, "SELECT current_database()::text")
		// Nobody closes this session; the server must.
		if _, err := pgx.Connect(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
	})
	const there = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if value[bool](t, NewEmpty(t), there, name) {
		t.Errorf("the database %s is still there", name)
	}
}

func TestThePoolIsBounded(t *testing.T) {
	t.Parallel()
	if got := New(t).Pool.Config().MaxConns; got != maxConns {
		t.Errorf("the pool may have %d connections", got)
	}
}

func TestOwnServerSurvivesACrash(t *testing.T) {
	t.Parallel()
	db := OwnServer(t)
	if !value[bool](t, db, hasSchema) {
		t.Error("the database has no schema posthorn")
	}
	execute(t, db, "SET synchronous_commit = on; CREATE TABLE survivors AS SELECT 1 AS n")
	if err := db.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := db.Pool.Ping(t.Context()); err == nil {
		t.Error("the pool works after the crash")
	}
	if err := db.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, db, "SELECT n FROM survivors"); n != 1 {
		t.Errorf("the row is %d", n)
	}
	if New(t).Server != nil {
		t.Error("New gives away the shared server")
	}
}

func TestDatabaseNames(t *testing.T) {
	t.Parallel()
	for _, test := range []string{"TestX/a b", "Test", "TestÄ/ü", "Test" + strings.Repeat("Long", 40)} {
		a, b := databaseName(test), databaseName(test)
		if a == b {
			t.Errorf("%s got the name %s twice", test, a)
		}
		if len(a) > maxNameBytes || strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%s got the name %s", test, a)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	New(b) // the server's start and the migration are not measured
	for b.Loop() {
		c := useShared(b)
		name := databaseName(b.Name())
		if err := c.create(b.Context(), name, template); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := c.drop(b.Context(), name); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
