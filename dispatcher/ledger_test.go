package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

func TestLedger_AccountsForAnEventThroughItsLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	want := func(stage string, want Ledger) {
		t.Helper()
		got := balanced(t, b.Pool)
		for _, s := range Statuses {
			if got.Deliveries[s] != want.Deliveries[s] {
				t.Errorf("%s: %d %s, want %d", stage, got.Deliveries[s], s, want.Deliveries[s])
			}
		}
		if got.Events != want.Events || got.Unrouted != want.Unrouted || got.Routed != want.Routed ||
			got.Expected != want.Expected || got.DeadLetters != want.DeadLetters {
			t.Errorf("%s: %+v, want %+v", stage, got, want)
		}
		unsent := want.Unrouted+want.Deliveries[Pending]+want.Deliveries[Retrying] > 0
		if got.OldestUnsent > 0 != unsent {
			t.Errorf("%s: the oldest unsent is %s old", stage, got.OldestUnsent)
		}
	}
	counts := func(of ...any) map[Status]int64 {
		m := map[Status]int64{}
		for i := 0; i < len(of); i += 2 {
			m[of[i].(Status)] = int64(of[i+1].(int))
		}
		return m
	}
	want("empty", Ledger{})
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	want("matched by none", Ledger{Events: 1, Routed: 1})
	b.endpoint(t, nowhere)
	b.endpoint(t, nowhere)
	b.publish(t, outbox.Event{})
	want("published", Ledger{Events: 2, Unrouted: 1, Routed: 1})
	n.relayAll(t)
	want("routed", Ledger{Events: 2, Routed: 2, Expected: 2, Deliveries: counts(Pending, 2)})
	ds := n.take(t, 2)
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 200), n.answered(ds[1], 500)})
	want("recorded", Ledger{Events: 2, Routed: 2, Expected: 2, Deliveries: counts(Delivered, 1, Retrying, 1)})
	last := n.answered(late(ds[1]), 500)
	last.delivery.attempts = 1
	last.outcome = outcome{status: Dead}
	n.recorder.record(t.Context(), []result{last})
	want("dead", Ledger{Events: 2, Routed: 2, Expected: 2, DeadLetters: 1, Deliveries: counts(Delivered, 1, Dead, 1)})
}

func TestLedger_ShowsEveryKindOfDamage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string
		want   int64
	}{
		"a delivery is gone":            {`DELETE FROM posthorn.deliveries WHERE id = (SELECT min(id::text)::uuid FROM posthorn.deliveries)`, 1},
		"a delivery is there twice":     {`INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status) SELECT posthorn.uuid_v7(), event_id, event_created_at, endpoint_id, tenant_id, event_type, 'delivered' FROM posthorn.deliveries LIMIT 1`, 1},
		"a routing is gone":             {`DELETE FROM posthorn.routings WHERE event_id = (SELECT event_id FROM posthorn.routings LIMIT 1)`, 1},
		"an unrouted event is unlisted": {`DELETE FROM posthorn.outbox_pending`, 1},
		"a routed event is listed":      {`INSERT INTO posthorn.outbox_pending (event_id, created_at) SELECT event_id, created_at FROM posthorn.routings LIMIT 1`, 1},
		"a job is gone":                 {`DELETE FROM river.river_job WHERE id = (SELECT min(id) FROM river.river_job)`, 2},
		"a job is finished":             {`UPDATE river.river_job SET state = 'completed', finalized_at = now() WHERE id = (SELECT min(id) FROM river.river_job)`, 2},
		"a job belongs to nobody":       {`UPDATE posthorn.deliveries SET job_id = NULL WHERE id = (SELECT min(id::text)::uuid FROM posthorn.deliveries)`, 1},
		"nothing":                       {`SELECT 1`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := b.stillNode(t)
			b.endpoint(t, nowhere)
			b.endpoint(t, nowhere)
			b.publish(t, outbox.Event{})
			b.publish(t, outbox.Event{})
			n.relayAll(t)
			b.publish(t, outbox.Event{})
			balanced(t, b.Pool)
			b.exec(t, c.damage)
			l, err := ReadLedger(t.Context(), b.Pool)
			must(t, err)
			if l.Unaccounted != c.want {
				t.Errorf("unaccounted %d, want %d: %+v", l.Unaccounted, c.want, l)
			}
		})
	}
}

func TestLedger_OldestUnsentIsTheEventsAge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	oldest := func() time.Duration { return aged(t, b).OldestUnsent }
	ds := b.relayed(t, n, 2)
	b.exec(t, `UPDATE posthorn.deliveries SET event_created_at = now() - interval '2 hours' WHERE id = $1`, ds[0].id)
	if age := oldest(); age < 2*time.Hour || age > 2*time.Hour+patience {
		t.Errorf("a pending delivery of two hours: %s", age)
	}
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 200)})
	if age := oldest(); age <= 0 || age > patience {
		t.Errorf("the other one is new: %s", age)
	}
	b.publish(t, outbox.Event{})
	b.exec(t, `UPDATE posthorn.outbox_pending SET created_at = now() - interval '1 hour'`)
	if age := oldest(); age < time.Hour || age > time.Hour+patience {
		t.Errorf("an unrouted event of one hour: %s", age)
	}
}

// aged reads the ledger of books whose times were changed.
func aged(t *testing.T, b *bundle) Ledger {
	t.Helper()
	l, err := ReadLedger(t.Context(), b.Pool)
	must(t, err)
	return l
}

func TestBacklog_CountsWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 3)
	read := func() Backlog {
		backlog, err := ReadBacklog(t.Context(), b.Pool)
		must(t, err)
		return backlog
	}
	if got := read(); got != (Backlog{}) {
		t.Errorf("handed off: %+v", got)
	}
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 500), n.answered(ds[1], 500), n.answered(ds[2], 200)})
	b.publish(t, outbox.Event{})
	b.exec(t, `UPDATE posthorn.outbox_pending SET created_at = now() - interval '1 minute'`)
	got := read()
	if got.Events != 1 || got.Deliveries != 2 || got.Oldest < time.Minute || got.Oldest > time.Minute+patience {
		t.Errorf("%+v", got)
	}
}
