package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

func publishInSavepoint(t testing.TB, tx pgx.Tx, e outbox.Event) (outbox.EventID, error) {
	t.Helper()
	savepoint, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, failure := outbox.Publish(t.Context(), savepoint, e)
	if err := savepoint.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id, failure
}

// publishers are the two functions, each in a transaction of its own kind that
// it commits when the event is accepted.
func publishers(t *testing.T, db *pgtest.DB) map[string]func(outbox.Event) (outbox.EventID, error) {
	t.Helper()
	std, err := sql.Open("pgx", db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { std.Close() })
	return map[string]func(outbox.Event) (outbox.EventID, error){
		"Publish": func(e outbox.Event) (id outbox.EventID, err error) {
			err = pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
				id, err = outbox.Publish(t.Context(), tx, e)
				return err
			})
			return id, err
		},
		"PublishSQL": func(e outbox.Event) (outbox.EventID, error) {
			tx, err := std.BeginTx(t.Context(), nil)
			if err != nil {
				return outbox.EventID{}, err
			}
			id, err := outbox.PublishSQL(t.Context(), tx, e)
			if err != nil {
				return id, errors.Join(err, tx.Rollback())
			}
			return id, tx.Commit()
		},
	}
}

func full() outbox.Event {
	id, err := outbox.ParseEventID("evt_01h455vb4pex5vsknk084sn02q")
	if err != nil {
		panic(err)
	}
	return outbox.Event{
		ID: id, TenantID: "shop_1", Type: "order.paid", Payload: json.RawMessage(` {"order_id": 17} `),
		OrderingKey: "order-17", IdempotencyKey: "order-17-paid",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		OccurredAt:  time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.FixedZone("", 3600)),
	}
}

func TestPublish_StoresEveryField(t *testing.T) {
	t.Parallel()
	for name := range publishers(t, pgtest.New(t)) {
		db := pgtest.New(t)
		e := full()
		id, err := publishers(t, db)[name](e)
		if err != nil || id != e.ID {
			t.Fatalf("%s: %s, %v", name, id, err)
		}
		got := onlyRow(t, db.Pool)
		if got.ID != e.ID || got.TenantID != e.TenantID || got.EventType != e.Type || got.Payload != string(e.Payload) || *got.OrderingKey != e.OrderingKey ||
			*got.IdempotencyKey != e.IdempotencyKey || *got.Traceparent != e.Traceparent || !got.OccurredAt.Equal(e.OccurredAt) {
			t.Errorf("%s: %+v", name, got)
		}
		wantRows(t, db.Pool, 1, 1, 1)
		again := e
		again.ID, again.Payload = outbox.EventID{}, json.RawMessage(`"another"`)
		if repeat, err := publishers(t, db)[name](again); err != nil || repeat != id {
			t.Errorf("%s: the repeat gives %s, %v; want the first id %s", name, repeat, err, id)
		}
		wantRows(t, db.Pool, 1, 1, 1)
	}
}

func TestPublish_LeavesTheRestToTheDefaults(t *testing.T) {
	t.Parallel()
	for name := range publishers(t, pgtest.New(t)) {
		db := pgtest.New(t)
		id, err := publishers(t, db)[name](outbox.Event{Type: "a", Payload: json.RawMessage(`1`)})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := onlyRow(t, db.Pool)
		if got.ID != id || id.IsZero() || got.TenantID != outbox.DefaultTenant || !got.OccurredAt.Equal(got.CreatedAt) ||
			got.OrderingKey != nil || got.IdempotencyKey != nil || got.Traceparent != nil {
			t.Errorf("%s: %s: %+v", name, id, got)
		}
		wantRows(t, db.Pool, 1, 1, 0)
	}
}

func TestPublish_RefusesInvalidEvents(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	fine := func(change func(*outbox.Event)) outbox.Event {
		e := outbox.Event{Type: "order.paid", Payload: json.RawMessage(`1`)}
		change(&e)
		return e
	}
	for words, e := range map[string]outbox.Event{
		"event_type":      fine(func(e *outbox.Event) { e.Type = "order paid" }),
		"event_type ''":   fine(func(e *outbox.Event) { e.Type = "" }),
		"tenant_id":       fine(func(e *outbox.Event) { e.TenantID = "*" }),
		"ordering_key":    fine(func(e *outbox.Event) { e.OrderingKey = strings.Repeat("k", 256) }),
		"idempotency_key": fine(func(e *outbox.Event) { e.IdempotencyKey = strings.Repeat("k", 256) }),
		"traceparent":     fine(func(e *outbox.Event) { e.Traceparent = "x" }),
		"occurred_at":     fine(func(e *outbox.Event) { e.OccurredAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"262145 bytes":    fine(func(e *outbox.Event) { e.Payload = json.RawMessage(sized(262145)) }),
		"json":            fine(func(e *outbox.Event) { e.Payload = nil }),
		"encoding":        fine(func(e *outbox.Event) { e.TenantID = "\xff" }),
		"0x00":            fine(func(e *outbox.Event) { e.OrderingKey = "\x00" }),
		"stack depth":     fine(func(e *outbox.Event) { e.Payload = json.RawMessage(nested(100_000)) }),
	} {
		for name, publish := range publishers(t, db) {
			id, err := publish(e)
			if !errors.Is(err, outbox.ErrInvalid) || !strings.Contains(err.Error(), words) || !id.IsZero() {
				t.Errorf("%s: %s, %v; want ErrInvalid that says %q", name, id, err, words)
			}
		}
	}
	wantRows(t, db.Pool, 0, 0, 0)
}

func TestPublish_DoesNotBlameTheEventForTheDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	event := outbox.Event{Type: "a", Payload: json.RawMessage(`1`)}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := outbox.Publish(canceled, begin(t, db.Pool), event); err == nil || errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("a canceled context gives %v", err)
	}
	// A day without a partition has the same SQLSTATE as a refused event.
	execute(t, db.Pool, `DROP TABLE posthorn.outbox_`+value[string](t, db.Pool, `SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')`))
	for name, publish := range publishers(t, db) {
		if _, err := publish(event); err == nil || errors.Is(err, outbox.ErrInvalid) {
			t.Errorf("%s: without a partition: %v", name, err)
		}
	}
}

func TestPublish_InARolledBackTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := begin(t, db.Pool)
	e := full()
	if _, err := outbox.Publish(t.Context(), tx, e); err != nil {
		t.Fatal(err)
	}
	execute(t, tx, `INSERT INTO posthorn.outbox (event_type, payload, idempotency_key) VALUES ('a', '1', 'k')`)
	wantRows(t, tx, 2, 2, 2)
	wantRows(t, db.Pool, 0, 0, 0) // and nobody else sees it before the commit
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db.Pool, 0, 0, 0)
}
