package dispatcher

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// oldDay makes the partitions of a day in the past and moves everything of today
// into it, as if it had happened then.
func oldDay(t *testing.T, b *bundle, ago int) time.Time {
	t.Helper()
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -ago)
	noon := day.Add(12 * time.Hour)
	suffix := day.Format("20060102")
	for _, table := range []string{"outbox", "routings"} {
		execute(t, b, fmt.Sprintf(`CREATE TABLE posthorn.%s_%s PARTITION OF posthorn.%[1]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')`,
			table, suffix, day.Format(time.RFC3339), day.AddDate(0, 0, 1).Format(time.RFC3339)))
	}
	for _, table := range []string{"deliveries", "attempts"} {
		execute(t, b, fmt.Sprintf(`CREATE TABLE posthorn.%s_%s PARTITION OF posthorn.%[1]s
			FOR VALUES FROM (posthorn.uuid_floor('%[3]s')) TO (posthorn.uuid_floor('%[4]s'))`,
			table, suffix, day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)))
	}
	execute(t, b, `UPDATE posthorn.ledger_state SET audited_to = $1`, day)
	execute(t, b, `UPDATE posthorn.outbox SET created_at = $1 WHERE created_at > now() - interval '1 day'`, noon)
	execute(t, b, `UPDATE posthorn.outbox_pending SET created_at = $1 WHERE created_at > now() - interval '1 day'`, noon)
	execute(t, b, `UPDATE posthorn.routings SET created_at = $1, routed_at = $1 WHERE created_at > now() - interval '1 day'`, noon)
	execute(t, b, `UPDATE posthorn.dead_letters SET event_created_at = $1 WHERE event_created_at > now() - interval '1 day'`, noon)
	for _, old := range values[DeliveryID](t, b, `SELECT id FROM posthorn.deliveries WHERE event_created_at > now() - interval '1 day'`) {
		id := typeid.NewAt[deliveryKind](noon)
		execute(t, b, `UPDATE posthorn.attempts SET delivery_id = $2 WHERE delivery_id = $1`, old, id)
		execute(t, b, `UPDATE posthorn.dead_letters SET delivery_id = $2 WHERE delivery_id = $1`, old, id)
		execute(t, b, `UPDATE posthorn.deliveries SET id = $2, event_created_at = $3 WHERE id = $1`, old, id, noon)
	}
	return day
}

func execute(t *testing.T, b *bundle, sql string, args ...any) {
	t.Helper()
	if _, err := b.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func values[T any](t *testing.T, b *bundle, sql string) (list []T) {
	t.Helper()
	rows, err := b.Pool.Query(t.Context(), sql)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var v T
		must(t, rows.Scan(&v))
		list = append(list, v)
	}
	must(t, rows.Err())
	return list
}

func (b *bundle) maintain(t *testing.T, retention time.Duration) {
	t.Helper()
	must(t, (&auditor{pool: b.Pool}).Work(t.Context(), nil))
	m := &maintainer{pool: b.Pool, retention: retention, logger: slog.New(slog.DiscardHandler)}
	must(t, m.Work(t.Context(), nil))
}

func TestRetention_DropsWholeDaysThatAreFinished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	stop := b.run(t)
	b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	stop()
	oldDay(t, b, 10)

	b.maintain(t, 0)
	b.maintain(t, 11*24*time.Hour)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`); n != 1 {
		t.Fatalf("%d attempts; nothing is beyond the retention", n)
	}
	b.maintain(t, 9*24*time.Hour)
	for _, table := range []string{"outbox", "routings", "deliveries", "attempts"} {
		if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.`+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	balanced(t, b.Pool)
}

// What is held waits for a person, for as long as that takes; made after midnight, it
// needs its event from before all the same.
func TestRetention_KeepsTheEventsOfWhatIsHeld(t *testing.T) {
	t.Parallel()
	for name, laterDay := range map[string]bool{"of one day": false, "held after midnight": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := b.stillNode(t)
			e, _ := b.endpoint(t, nowhere)
			_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
			must(t, err)
			b.publish(t, outbox.Event{})
			n.relayAll(t)
			oldDay(t, b, 10)
			if laterDay {
				execute(t, b, `UPDATE posthorn.deliveries SET id = $1`, typeid.New[deliveryKind]())
				execute(t, b, `UPDATE posthorn.routings SET routed_at = now()`)
			}
			b.maintain(t, 24*time.Hour)
			if held := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries d JOIN posthorn.outbox o
				ON o.id = d.event_id AND o.created_at = d.event_created_at WHERE d.status = 'held'`); held != 1 {
				t.Error("what is held can't be sent any more: its event was dropped")
			}
			balanced(t, b.Pool)
		})
	}
}

// A delivery made after midnight of an event from before outlives it by a day.
func TestRetention_TheTurnOfTheDayBalances(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	stop := b.run(t)
	b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	stop()
	oldDay(t, b, 10)
	today := typeid.New[deliveryKind]()
	execute(t, b, `UPDATE posthorn.attempts SET delivery_id = $1`, today)
	execute(t, b, `UPDATE posthorn.deliveries SET id = $1`, today)
	execute(t, b, `UPDATE posthorn.routings SET routed_at = now()`)
	balanced(t, b.Pool)
	b.maintain(t, 24*time.Hour)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`); n != 0 {
		t.Error("the event's day was not dropped")
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 1 {
		t.Errorf("%+v", l)
	}
}
