package outbox_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

// commit publishes an event in a transaction of its own.
func commit(t *testing.T, db *pgtest.DB, e outbox.Event) outbox.EventID {
	t.Helper()
	var id outbox.EventID
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
		id, err = outbox.Publish(t.Context(), tx, e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestReaderGivesTheEventAsItWasPublished(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	reader := outbox.NewReader(db.Pool)
	e := outbox.Event{TenantID: "shop_1", Type: "order.paid", Payload: []byte("  { \"a\": \"\\u0000\" ,\n\"a\":1e400 } "), OrderingKey: "o",
		IdempotencyKey: "i", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		OccurredAt: time.Date(2026, 3, 1, 9, 30, 0, 123456000, time.UTC)}
	id := commit(t, db, e)
	for _, tenant := range []string{"", "shop_1"} {
		got, err := reader.Get(t.Context(), tenant, id)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != id || got.TenantID != e.TenantID || got.EventType != e.Type || string(got.Payload) != string(e.Payload) ||
			got.OrderingKey != e.OrderingKey || got.IdempotencyKey != e.IdempotencyKey || got.Traceparent != e.Traceparent ||
			!got.OccurredAt.Equal(e.OccurredAt) || time.Since(got.CreatedAt).Abs() > time.Hour {
			t.Errorf("got %+v, published %+v", got, e)
		}
	}
	if _, err := reader.Get(t.Context(), "shop_2", id); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("another tenant gets %v", err)
	}
	if _, err := reader.Get(t.Context(), "", outbox.EventID{}); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("no event: %v", err)
	}
}

func TestReaderListsByEachFilter(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	reader := outbox.NewReader(db.Pool)
	var ids []outbox.EventID
	for i, e := range []outbox.Event{{TenantID: "a", Type: "x"}, {TenantID: "b", Type: "x"}, {TenantID: "a", Type: "y"}} {
		e.Payload = []byte(`1`)
		var err error
		if e.ID, err = outbox.ParseEventID(fmt.Sprintf("evt_0000000000000000000000000%d", i+1)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, commit(t, db, e))
	}
	second, err := reader.Get(t.Context(), "", ids[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter outbox.Filter
		want   []int
	}{
		"All":          {outbox.Filter{}, []int{2, 1, 0}},
		"Tenant":       {outbox.Filter{TenantID: "a"}, []int{2, 0}},
		"Type":         {outbox.Filter{EventType: "x"}, []int{1, 0}},
		"Since":        {outbox.Filter{Since: second.CreatedAt}, []int{2, 1}},
		"Until":        {outbox.Filter{Until: second.CreatedAt}, []int{0}},
		"Before":       {outbox.Filter{Before: second.Place()}, []int{0}},
		"TenantBefore": {outbox.Filter{TenantID: "b", Before: second.Place()}, nil},
		"Everything":   {outbox.Filter{TenantID: "a", EventType: "x", Since: second.CreatedAt.Add(-time.Hour), Until: second.CreatedAt, Before: second.Place()}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, _, err := reader.List(t.Context(), c.filter, 10)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []outbox.EventID
			for _, e := range list {
				got = append(got, e.ID)
				if e.Payload != nil {
					t.Errorf("the list holds the payload %s", e.Payload)
				}
			}
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("lists %v, want %v", got, want)
			}
		})
	}
}
