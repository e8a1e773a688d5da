package migrations_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/migrations"
)

func TestFiles_HaveNumbersOfTheirOwn(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	numbered := regexp.MustCompile(`^(\d{5})_[a-z_]+\.sql$`)
	taken := map[string]string{}
	for _, name := range names {
		m := numbered.FindStringSubmatch(name)
		if m == nil {
			t.Errorf("%s does not begin with five digits and an underscore", name)
		} else if other := taken[m[1]]; other != "" {
			t.Errorf("%s and %s have the same number", name, other)
		} else {
			taken[m[1]] = name
		}
	}
}

// everything is each object that a migration can leave in a database, with what
// changes when the object does.
const everything = `
	SELECT 'relation ' || c.oid::regclass || ' ' || c.oid || ' ' || c.relfilenode || ' ' || c.xmin
	FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^(pg_|information_schema$)'
	UNION ALL SELECT 'function ' || p.oid::regprocedure || ' ' || p.xmin
	FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname !~ '^(pg_|information_schema$)'
	UNION ALL SELECT 'type ' || t.oid::regtype || ' ' || t.xmin
	FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname !~ '^(pg_|information_schema$)'
	UNION ALL SELECT 'constraint ' || conname || ' ' || oid || ' ' || xmin
	FROM pg_constraint WHERE connamespace::regnamespace::text IN ('posthorn', 'river')
	UNION ALL SELECT 'schema ' || nspname || ' ' || xmin
	FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|public$)'
	UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
	ORDER BY 1`

func up(t *testing.T, url string) {
	t.Helper()
	if err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
}

func TestUp_BringsAnEmptyDatabaseUpToDate(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	if err := migrations.Check(t.Context(), db.Pool); !errors.Is(err, migrations.ErrPending) {
		t.Errorf("before: Check gives %v, want ErrPending", err)
	}
	before := list(t, db.Pool)
	if left := values[string](t, db.Pool, everything); len(left) != 0 {
		t.Errorf("asking has changed the database: %q", left)
	}
	up(t, db.URL)
	if err := migrations.Check(t.Context(), db.Pool); err != nil {
		t.Errorf("after: Check gives %v", err)
	}
	after := list(t, db.Pool)
	if len(before) != len(after) {
		t.Fatalf("%d migrations before, %d after", len(before), len(after))
	}
	for i := range before {
		if before[i].Name != after[i].Name || before[i].Applied || !after[i].Applied {
			t.Errorf("before %+v, after %+v", before[i], after[i])
		}
	}
	if first, last := after[0].Name, after[len(after)-1].Name; first != "00001_foundation.sql" || !strings.HasPrefix(last, "river 00") {
		t.Errorf("the list runs from %s to %s", first, last)
	}
}

func list(t *testing.T, pool *pgxpool.Pool) []migrations.Status {
	t.Helper()
	l, err := migrations.List(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCheck_FindsASingleMissingMigration(t *testing.T) {
	t.Parallel()
	for _, forget := range []string{
		`DELETE FROM posthorn.migrations WHERE version_id = 3`,
		`DELETE FROM river.river_migration WHERE version = 6`,
	} {
		db := pgtest.New(t)
		if _, err := db.Pool.Exec(t.Context(), forget); err != nil {
			t.Fatal(err)
		}
		if err := migrations.Check(t.Context(), db.Pool); !errors.Is(err, migrations.ErrPending) {
			t.Errorf("%s: Check gives %v, want ErrPending", forget, err)
		}
	}
}

func TestCheck_TellsADatabaseThatIsAwayFromAnOldOne(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/away")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := migrations.Check(t.Context(), pool); err == nil || errors.Is(err, migrations.ErrPending) {
		t.Errorf("Check gives %v", err)
	}
}

func TestUp_ASecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	up(t, db.URL)
	before := values[string](t, db.Pool, everything)
	up(t, db.URL)
	if diff := cmp.Diff(before, values[string](t, db.Pool, everything)); diff != "" {
		t.Error(diff)
	}
}

func TestUp_SixAtOnceAllSucceed(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var group errgroup.Group
	for range 6 {
		group.Go(func() error { return migrations.Up(t.Context(), db.URL) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Check(t.Context(), db.Pool); err != nil {
		t.Error(err)
	}
	const appliedTwice = `SELECT version_id FROM posthorn.migrations GROUP BY 1 HAVING count(*) > 1`
	if twice := values[int64](t, db.Pool, appliedTwice); len(twice) != 0 {
		t.Errorf("applied more than once: %v", twice)
	}
}

func TestUp_InSixDatabasesAtOnceSharesTheRole(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	if err := migrations.Down(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for i := range 6 {
		name := fmt.Sprintf("shop_%d", i)
		if _, err := server.Pool.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
		group.Go(func() error { return migrations.Up(t.Context(), server.Server.URLFor(name)) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestUp_WorksWithASmallPool(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	up(t, db.URL+"&pool_max_conns=1")
}

const hasRole = `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthorn_producer')`

func TestDown_LeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.OwnServer(t)
	if !value[bool](t, db.Pool, hasRole) {
		t.Fatal("there is no role to take away")
	}
	// What has been used must go as well as what is fresh.
	tx := begin(t, db.Pool)
	execute(t, tx, `SELECT posthorn.publish('a', '1', idempotency_key => 'k')`)
	execute(t, tx, `CREATE ROLE shop LOGIN IN ROLE posthorn_producer`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to take away
		if err := migrations.Down(t.Context(), db.URL); err != nil {
			t.Fatal(err)
		}
		if left := values[string](t, db.Pool, everything); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
		if value[bool](t, db.Pool, hasRole) {
			t.Error("the role is left")
		}
		if err := migrations.Check(t.Context(), db.Pool); !errors.Is(err, migrations.ErrPending) {
			t.Errorf("Check gives %v, want ErrPending", err)
		}
	}
	up(t, db.URL)
	if err := migrations.Check(t.Context(), db.Pool); err != nil {
		t.Errorf("after Down and Up: %v", err)
	}
	if !value[bool](t, db.Pool, hasRole) {
		t.Error("after Down and Up: the role is missing")
	}
}

func TestDown_KeepsTheRoleThatAnotherDatabaseUses(t *testing.T) {
	t.Parallel()
	db := pgtest.OwnServer(t)
	if _, err := db.Pool.Exec(t.Context(), "CREATE DATABASE other"); err != nil {
		t.Fatal(err)
	}
	up(t, db.Server.URLFor("other"))
	if err := migrations.Down(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	if left := values[string](t, db.Pool, everything); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	if !value[bool](t, db.Pool, hasRole) {
		t.Error("the other database has lost its role")
	}
}
