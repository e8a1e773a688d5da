package outbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/sqlcheck"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSQL_FitsTheSchema(t *testing.T) {
	t.Parallel()
	sqlcheck.PrepareAll(t, pgtest.New(t).Pool, ".")
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// value returns the single value of a query.
func value[T any](t testing.TB, q querier, sql string, args ...any) T {
	t.Helper()
	rows, err := q.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	return v
}

// execute returns how many rows the statement has changed.
func execute(t testing.TB, q querier, sql string, args ...any) int64 {
	t.Helper()
	tag, err := q.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// begin opens a transaction that the test's end rolls back.
func begin(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tx.Rollback(context.Background()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	})
	return tx
}

func commitTx(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// attempt runs the statement in a savepoint, so that tx survives its failure.
func attempt(t testing.TB, tx pgx.Tx, sql string, args ...any) error {
	t.Helper()
	savepoint, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, failure := savepoint.Exec(t.Context(), sql, args...)
	if err := savepoint.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	return failure
}

// wantRefusal fails the test unless err is of the SQLSTATE and says the words.
func wantRefusal(t testing.TB, what string, err error, state, words string) {
	t.Helper()
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != state || !strings.Contains(pg.Message, words) {
		t.Errorf("%.120s: %v; want %s: %s", what, err, state, words)
	}
}

// Counts of the three tables that a publication writes.
const (
	countEvents  = `SELECT count(*)::int FROM posthorn.outbox`
	countPending = `SELECT count(*)::int FROM posthorn.outbox_pending`
	countKeys    = `SELECT count(*)::int FROM posthorn.outbox_keys`
)

// wantRows fails the test unless the tables have as many rows.
func wantRows(t testing.TB, q querier, events, pending, keys int) {
	t.Helper()
	for sql, want := range map[string]int{countEvents: events, countPending: pending, countKeys: keys} {
		if got := value[int](t, q, sql); got != want {
			t.Errorf("%s gives %d, want %d", sql, got, want)
		}
	}
}
