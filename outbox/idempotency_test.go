package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

func TestIdempotencyKey_ARepeatInsertsNothingAndIsNoError(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const insert = `INSERT INTO posthorn.outbox (event_type, payload, idempotency_key) VALUES ('a', $1::text::json, 'k')`
	const publish = `SELECT posthorn.publish('a', '"later"', idempotency_key => 'k')`
	if n := execute(t, db.Pool, insert, `"first"`); n != 1 {
		t.Fatalf("the first INSERT inserted %d rows", n)
	}
	first := onlyRow(t, db.Pool)
	// A business transaction repeats it, more than once, and goes on.
	tx := begin(t, db.Pool)
	if n := execute(t, tx, insert, `"later"`); n != 0 {
		t.Errorf("the repeat inserted %d rows", n)
	}
	for range 2 {
		if id := value[outbox.EventID](t, tx, publish); id != first.ID {
			t.Errorf("publish gives %s for a repeat, want the first id %s", id, first.ID)
		}
	}
	execute(t, tx, `CREATE TABLE orders ()`)
	commitTx(t, tx)
	wantRows(t, db.Pool, 1, 1, 1)
	if got := onlyRow(t, db.Pool); got.Payload != `"first"` {
		t.Errorf("the event is now %s", got.Payload)
	}
}

func TestIdempotencyKey_IsOfATenant(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const publish = `SELECT posthorn.publish('a', '1', tenant_id => $1, idempotency_key => 'k')`
	one, two := value[outbox.EventID](t, db.Pool, publish, "shop_1"), value[outbox.EventID](t, db.Pool, publish, "shop_2")
	byDefault := value[outbox.EventID](t, db.Pool, publish, nil)
	if one == two || one == byDefault || two == byDefault {
		t.Errorf("tenants share an event: %s, %s, %s", one, two, byDefault)
	}
	if again := value[outbox.EventID](t, db.Pool, publish, outbox.DefaultTenant); again != byDefault {
		t.Errorf("NULL and the default tenant are two: %s, %s", byDefault, again)
	}
	wantRows(t, db.Pool, 3, 3, 3)
}

func TestIdempotencyKey_CountsWithinAStatementToo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	n := execute(t, db.Pool, `INSERT INTO posthorn.outbox (event_type, payload, idempotency_key)
		VALUES ('a', '1', 'k'), ('a', '2', 'l'), ('a', '3', 'k'), ('a', '4', NULL), ('a', '5', NULL)`)
	if n != 4 {
		t.Errorf("%d rows inserted, want 4", n)
	}
	wantRows(t, db.Pool, 4, 4, 2)
}

func TestIdempotencyKey_OfARefusedEventStaysFree(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	if err := attempt(t, tx, `SELECT posthorn.publish('not a type', '1', idempotency_key => 'k')`); err == nil {
		t.Fatal("accepted")
	}
	execute(t, tx, `SELECT posthorn.publish('a', '1', idempotency_key => 'k')`)
	wantRows(t, tx, 1, 1, 1)
}

// rivals are transactions that publish under one key while the first, which
// has published already, is still open. They commit when they get through.
func rivals(t *testing.T, db *pgtest.DB, first pgx.Tx, others int) (firstID outbox.EventID, wait func() []outbox.EventID) {
	t.Helper()
	event := outbox.Event{Type: "a", Payload: []byte(`1`), IdempotencyKey: "k"}
	firstID, err := outbox.Publish(t.Context(), first, event)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]outbox.EventID, others)
	var group errgroup.Group
	for i := range others {
		group.Go(func() error {
			return pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
				ids[i], err = outbox.Publish(t.Context(), tx, event)
				return err
			})
		})
	}
	awaitBlocked(t, db, others)
	return firstID, func() []outbox.EventID {
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		return ids
	}
}

// awaitBlocked returns when so many sessions wait for another's transaction.
func awaitBlocked(t *testing.T, db *pgtest.DB, sessions int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL) // the pool is used up
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	const blocked = `SELECT count(*)::int FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'transactionid'`
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for value[int](t, conn, blocked) != sessions {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%d sessions are blocked, want %d", value[int](t, conn, blocked), sessions)
		}
	}
}

func TestIdempotencyKey_OfEightAtOnceGivesOneEvent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := begin(t, db.Pool)
	id, wait := rivals(t, db, first, 7)
	commitTx(t, first)
	for _, got := range wait() {
		if got != id {
			t.Errorf("a repeat gives %s, want the first id %s", got, id)
		}
	}
	wantRows(t, db.Pool, 1, 1, 1)
}

func TestIdempotencyKey_OfARolledBackTransactionGoesToTheNext(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := begin(t, db.Pool)
	rolledBack, wait := rivals(t, db, first, 7)
	if err := first.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored := wait()
	for _, got := range stored {
		if got != stored[0] || got == rolledBack {
			t.Errorf("ids %v, rolled back %s; want one id, of the event that is there", stored, rolledBack)
		}
	}
	wantRows(t, db.Pool, 1, 1, 1)
	if got := onlyRow(t, db.Pool).ID; got != stored[0] {
		t.Errorf("%s is stored, the publishers were told %s", got, stored[0])
	}
}

// In REPEATABLE READ the first event may be invisible: PostgreSQL then has the
// producer try again, as such producers must be ready to.
func TestIdempotencyKey_InvisibleToASnapshotIsASerializationFailure(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	wantRows(t, tx, 0, 0, 0) // takes the snapshot
	execute(t, db.Pool, `SELECT posthorn.publish('a', '1', idempotency_key => 'k')`)
	_, err = outbox.Publish(t.Context(), tx, outbox.Event{Type: "a", Payload: []byte(`1`), IdempotencyKey: "k"})
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "40001" || errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("%v, want a serialization failure that is not ErrInvalid", err)
	}
	wantRows(t, db.Pool, 1, 1, 1)
}
