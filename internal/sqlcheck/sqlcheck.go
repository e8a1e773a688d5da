// Package sqlcheck has the database read every SQL statement of a package, which
// is the check that a compiler would do if it knew the schema. It is for tests.
//
//	func TestSQL_FitsTheSchema(t *testing.T) {
//		sqlcheck.PrepareAll(t, pgtest.New(t).Pool, ".")
//	}
package sqlcheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PrepareAll prepares, on a database of the pool, every string constant whose
// name ends in SQL in the Go files of dir, tests left out. It fails the test
// with each statement that the database refuses, and when dir has no such
// constant. Nothing is executed.
func PrepareAll(t testing.TB, pool *pgxpool.Pool, dir string) {
	t.Helper()
	statements, err := constants(dir)
	if err != nil {
		t.Fatalf("sqlcheck: %v", err)
	}
	if len(statements) == 0 {
		t.Fatalf("sqlcheck: no constant in %s has a name that ends in SQL", dir)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatalf("sqlcheck: %v", err)
	}
	defer conn.Release()
	if err := prepare(t.Context(), conn.Conn(), statements); err != nil {
		t.Error(err)
	}
}

// prepare returns an error that joins those of all statements that are refused.
func prepare(ctx context.Context, conn *pgx.Conn, statements map[string]string) error {
	var refused []error
	for _, name := range slices.Sorted(maps.Keys(statements)) {
		// The unnamed statement is forgotten with the next one.
		if _, err := conn.PgConn().Prepare(ctx, "", statements[name], nil); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w\n%s", name, err, statements[name]))
		}
	}
	return errors.Join(refused...)
}
