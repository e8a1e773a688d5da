package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthorn/posthorn/outbox"
)

// late commits an event whose transaction began some time ago.
func (b *bundle) late(t testing.TB, ago time.Duration) {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload, created_at)
		VALUES ('order.paid', '{}', now() - $1::interval)`, ago)
	must(t, err)
}

func TestAudit_AccountsForMinutesThatAreOverAndNoOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	n.recorder.record(t.Context(), []result{n.answered(b.relayed(t, n, 3)[0], 200)})
	b.past(t, 10*time.Minute)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	before := balanced(t, b.Pool)
	b.audit(t)
	after := balanced(t, b.Pool)
	if before.Events != 4 || after.Events != 4 || after.Deliveries[Delivered] != 1 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	now := value[time.Time](t, b.Pool, `SELECT now()`)
	if age := now.Sub(after.AuditedTo); age < auditAge || age > auditAge+time.Minute+patience {
		t.Errorf("audited up to %s ago", age)
	}
	if n := value[int](t, b.Pool, `SELECT sum(events) FROM posthorn.ledger_minutes`); n != 3 {
		t.Errorf("%d events are accounted for, want the 3 old ones", n)
	}
	if n := value[int](t, b.Pool, `SELECT sum(deliveries) FROM posthorn.ledger_minutes`); n != 3 {
		t.Errorf("%d deliveries are accounted for, want the 3 old ones", n)
	}
}

func TestAudit_CountsAMinuteAgainWhenAnEventOfItComesLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.relayed(t, n, 2)
	b.past(t, 10*time.Minute)
	b.audit(t)
	balanced(t, b.Pool)
	for _, stage := range []struct {
		name    string
		do      func()
		unheard int64 // events
		notes   int
	}{
		{"committed", func() { b.late(t, 10*time.Minute); b.late(t, 20*time.Minute) }, 2, 0},
		{"counted while pending", func() { b.audit(t) }, 2, 0},
		{"routed", func() { n.relayAll(t) }, 0, 2},
		{"counted again", func() { b.audit(t) }, 0, 0},
	} {
		stage.do()
		l := balanced(t, b.Pool)
		if l.Events != 4 || l.Unrouted != stage.unheard || l.Expected != 4-stage.unheard {
			t.Errorf("%s: %+v", stage.name, l)
		}
		if notes := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.ledger_recounts`); notes != stage.notes {
			t.Errorf("%s: %d notes, want %d", stage.name, notes, stage.notes)
		}
	}
	if n := value[int](t, b.Pool, `SELECT sum(made) FROM posthorn.ledger_minutes`); n != 4 {
		t.Errorf("%d deliveries are accounted for, want 4", n)
	}
}

func TestAudit_LeavesNoNoteOfEventsThatAreInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.late(t, lateAge-30*time.Second)
	n.relayAll(t)
	b.late(t, lateAge+time.Second)
	n.relayAll(t)
	if notes := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.ledger_recounts`); notes != 1 {
		t.Errorf("%d notes, want one", notes)
	}
	balanced(t, b.Pool)
}

func TestAudit_SeesWhatWasPutRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.relayed(t, n, 2)
	b.past(t, 10*time.Minute)
	b.exec(t, `CREATE TABLE taken AS SELECT * FROM posthorn.routings LIMIT 1`)
	b.exec(t, `DELETE FROM posthorn.routings WHERE event_id = (SELECT event_id FROM taken)`)
	b.audit(t)
	if l := exact(t, b.Pool); l.Unaccounted != 1 {
		t.Errorf("with a routing taken away: %+v", l)
	}
	b.audit(t)
	if l := exact(t, b.Pool); l.Unaccounted != 1 {
		t.Errorf("audited again: %+v", l)
	}
	b.exec(t, `INSERT INTO posthorn.routings SELECT * FROM taken`)
	b.audit(t)
	balanced(t, b.Pool)
}

func TestAudit_LeavesTheRowToWhoHasIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.Pool.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // the test's end
	_, err = tx.Exec(t.Context(), `SELECT FROM posthorn.ledger_state FOR UPDATE`)
	must(t, err)
	before := value[time.Time](t, b.Pool, `SELECT audited_to FROM posthorn.ledger_state`)
	b.audit(t)
	if at := value[time.Time](t, b.Pool, `SELECT audited_to FROM posthorn.ledger_state`); !at.Equal(before) {
		t.Errorf("two audits at once: from %s to %s", before, at)
	}
}

// Events come late, are routed, sent, retried and given up while minutes are counted
// and counted again: whoever reads the books finds them exact.
func TestLedger_IsExactInTheMiddleOfEverything(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.endpoint(t, newReceiver(t, nil).URL)
	b.endpoint(t, newReceiver(t, status(500)).URL)
	b.run(t)
	working, finish := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		for working.Err() == nil {
			_, _, err := (&auditor{pool: b.Pool}).step(t.Context(), 16*time.Minute)
			var pg *pgconn.PgError
			if err != nil && !(errors.As(err, &pg) && pg.Code == "40001") { // the node's own audit came first
				t.Error(err)
				return
			}
		}
	})
	busy.Go(func() {
		for working.Err() == nil {
			balanced(t, b.Pool)
		}
	})
	const published = 300
	for i := range published {
		b.late(t, time.Duration(i%20)*time.Minute)
	}
	settled(t, b.Pool)
	finish()
	busy.Wait()
	if l := balanced(t, b.Pool); l.Events != published || l.Deliveries[Delivered] != published || l.Deliveries[Dead] != published {
		t.Errorf("%+v", l)
	}
	b.audit(t)
	balanced(t, b.Pool)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.ledger_recounts, posthorn.ledger_state WHERE minute < audited_to`); n != 0 {
		t.Errorf("%d notes are left", n)
	}
}

func TestRetention_TheDaysMinutesGoWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 2)
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 200), n.answered(ds[1], 200)})
	oldDay(t, b, 10)
	b.audit(t)
	if l := balanced(t, b.Pool); l.Events != 2 || l.Deliveries[Delivered] != 2 {
		t.Errorf("accounted for: %+v", l)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.ledger_minutes`); n == 0 {
		t.Error("no minute is accounted for")
	}
	b.maintain(t, 9*24*time.Hour)
	if l := balanced(t, b.Pool); l.Events != 0 || l.Deliveries[Delivered] != 0 {
		t.Errorf("dropped: %+v", l)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.ledger_minutes`); n != 0 {
		t.Errorf("%d minutes are left", n)
	}
	b.exec(t, `UPDATE posthorn.ledger_state SET audited_to = now() - interval '40 days'`)
	oldDay(t, b, 12)
	b.maintain(t, 11*24*time.Hour)
	want := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -11)
	if at := balanced(t, b.Pool).AuditedTo; at.Before(want) {
		t.Errorf("the audit stands at %s, in what was dropped", at)
	}
}

func TestSpans_JoinMinutesThatFollowEachOther(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	got := spans([]time.Time{at(1), at(2), at(3), at(7), at(9), at(10)})
	if want := []span{{at(1), at(4)}, {at(7), at(8)}, {at(9), at(11)}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := spans(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
