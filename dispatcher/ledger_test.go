package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
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
			got.Expected != want.Expected || got.NoMatch != want.NoMatch || got.DeadLetters != want.DeadLetters {
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
	want("matched by none", Ledger{Events: 1, Routed: 1, NoMatch: 1})
	b.endpoint(t, nowhere)
	b.endpoint(t, nowhere)
	b.publish(t, outbox.Event{})
	want("published", Ledger{Events: 2, Unrouted: 1, Routed: 1, NoMatch: 1})
	n.relayAll(t)
	want("routed", Ledger{Events: 2, Routed: 2, NoMatch: 1, Expected: 2, Deliveries: counts(Pending, 2)})
	ds := n.take(t, 2)
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 200), n.answered(ds[1], 500)})
	want("recorded", Ledger{Events: 2, Routed: 2, NoMatch: 1, Expected: 2, Deliveries: counts(Delivered, 1, Retrying, 1)})
	last := n.answered(late(ds[1]), 500)
	last.delivery.attempts = 1
	last.outcome = outcome{status: Dead}
	n.recorder.record(t.Context(), []result{last})
	want("dead", Ledger{Events: 2, Routed: 2, NoMatch: 1, Expected: 2, DeadLetters: 1, Deliveries: counts(Delivered, 1, Dead, 1)})
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

func TestLedger_SaysWhatHoldsTheHeldOnes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	var endpoints []subscriptions.Endpoint
	for range 4 {
		e, _ := b.endpoint(t, nowhere)
		endpoints = append(endpoints, e)
	}
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'held', job_id = NULL`)
	b.exec(t, `UPDATE posthorn.endpoints SET status = 'paused' WHERE id = ANY($1)`, []subscriptions.EndpointID{endpoints[0].ID, endpoints[1].ID})
	b.exec(t, `UPDATE posthorn.endpoints SET status = 'disabled' WHERE id = $1`, endpoints[2].ID)
	b.exec(t, `UPDATE posthorn.endpoints SET deleted_at = now() WHERE id = $1`, endpoints[1].ID)
	l := balanced(t, b.Pool)
	if want := (HeldBy{Paused: 1, Disabled: 1, Other: 2}); l.HeldBy != want || l.Deliveries[Held] != 4 || l.OldestUnsent <= 0 {
		t.Errorf("held by %+v, want %+v: %+v", l.HeldBy, want, l)
	}
}

// aged reads the ledger of books whose times were changed.
func aged(t *testing.T, b *bundle) Ledger {
	t.Helper()
	l, err := ReadLedger(t.Context(), b.Pool)
	must(t, err)
	return l
}
