package dispatcher

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// mixed is a day on which everything has happened that keeps an event.
type mixed struct {
	paused                         subscriptions.EndpointID
	delivered, dead, held, retried outbox.EventID
	failing                        *atomic.Bool
	receiver                       *receiver
}

// mix publishes one event that is delivered, one that dies at one of its two
// endpoints, one that is held and one that is to be retried in an hour.
func mix(t *testing.T, b *bundle) mixed {
	t.Helper()
	m := mixed{failing: &atomic.Bool{}}
	m.failing.Store(true)
	m.receiver = newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" && m.failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	b.endpoint(t, m.receiver.URL, "delivered", "dead")
	b.endpoint(t, m.receiver.URL+"/fails", "dead")
	held, _ := b.endpoint(t, m.receiver.URL, "held")
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, held.ID)
	must(t, err)
	m.paused = held.ID
	stop := b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	m.delivered = b.publish(t, outbox.Event{Type: "delivered"})
	m.dead = b.publish(t, outbox.Event{Type: "dead"})
	m.held = b.publish(t, outbox.Event{Type: "held"})
	settled(t, b.Pool)
	stop()
	b.endpoint(t, m.receiver.URL+"/fails", "retried")
	stop = b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{time.Hour} })
	m.retried = b.publish(t, outbox.Event{Type: "retried"})
	eventually(t, b.Pool, "a retry to come", `SELECT count(*) = 1 FROM posthorn.deliveries WHERE status = 'retrying'`)
	stop()
	return m
}

// ofThePast gives the partitions that lie before yesterday, and what is left of such.
func ofThePast(t *testing.T, b *bundle) []string {
	t.Helper()
	return values[string](t, b, `SELECT relname FROM pg_class WHERE relnamespace = 'posthorn'::regnamespace AND relkind = 'r'
		AND relname ~ '^(outbox|routings|deliveries|attempts)_\d{8}' AND substring(relname FROM '\d{8}') < to_char(now() AT TIME ZONE 'UTC' - interval '2 days', 'YYYYMMDD')
		ORDER BY 1`)
}

func TestRetention_WhatIsNeededOutlivesItsDay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := mix(t, b)
	day := oldDay(t, b, 10).Format("20060102")
	b.maintain(t, 24*time.Hour)

	want := fmt.Sprintf("[attempts_%[1]s_to_%[1]s deliveries_%[1]s_to_%[1]s outbox_%[1]s_to_%[1]s routings_%[1]s_to_%[1]s]", day)
	if got := fmt.Sprint(ofThePast(t, b)); got != want {
		t.Errorf("the tables of the day are %s, want %s", got, want)
	}
	events := outbox.NewReader(b.Pool)
	for event, stays := range map[outbox.EventID]bool{m.delivered: false, m.dead: true, m.held: true, m.retried: true} {
		if e, err := events.Get(t.Context(), "", event); (err == nil && len(e.Payload) > 0) != stays {
			t.Errorf("%s: %v", event, err)
		}
	}
	balanced(t, b.Pool)

	log := NewLog(b.Pool)
	dead, _, err := log.DeadLetters(t.Context(), DeadLetterFilter{}, 10)
	must(t, err)
	if len(dead) != 1 || dead[0].EventID != m.dead {
		t.Fatalf("the dead letters are %+v", dead)
	}
	attempts, _, err := log.Attempts(t.Context(), "", dead[0].DeliveryID, 0, 10)
	must(t, err)
	if len(attempts) != 1 || len(attempts[0].RequestBody) == 0 {
		t.Errorf("the dead letter's attempts are %+v", attempts)
	}
	sendAll(t, b, m, dead[0].ID)
	b.maintain(t, 24*time.Hour)
	if left := ofThePast(t, b); len(left) != 0 {
		t.Errorf("nothing is needed any longer, and still there is %v", left)
	}
	balanced(t, b.Pool)
}

// sendAll has what a day has left sent, each in its way.
func sendAll(t *testing.T, b *bundle, m mixed, dead DeadLetterID) {
	t.Helper()
	m.failing.Store(false)
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	_, err = redeliverer.Replay(t.Context(), "", dead)
	must(t, err)
	var retrying DeliveryID
	must(t, b.Pool.QueryRow(t.Context(), `SELECT id FROM posthorn.deliveries WHERE event_id = $1`, m.retried).Scan(&retrying))
	must(t, redeliverer.Retry(t.Context(), "", retrying))
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, m.paused)
	must(t, err)
	stop := b.run(t)
	eventually(t, b.Pool, "all that was left is delivered", `SELECT count(*) = 4 AND bool_and(status = 'delivered') FROM posthorn.deliveries`)
	stop()
	balanced(t, b.Pool)
}

// deadDay is a day ago on which one event was delivered and another died.
func deadDay(t *testing.T, b *bundle, ago int) (day time.Time, delivered DeliveryID) {
	t.Helper()
	r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	b.endpoint(t, r.URL, fmt.Sprintf("good.%d", ago))
	b.endpoint(t, r.URL+"/fails", fmt.Sprintf("bad.%d", ago))
	stop := b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	good := b.publish(t, outbox.Event{Type: fmt.Sprintf("good.%d", ago)})
	b.publish(t, outbox.Event{Type: fmt.Sprintf("bad.%d", ago)})
	settled(t, b.Pool)
	stop()
	day = oldDay(t, b, ago)
	must(t, b.Pool.QueryRow(t.Context(), `SELECT id FROM posthorn.deliveries WHERE event_id = $1`, good).Scan(&delivered))
	must(t, (&auditor{pool: b.Pool}).Work(t.Context(), nil))
	return day, delivered
}

const discardSQL = `UPDATE posthorn.dead_letters SET resolved_at = now(), resolution = 'discarded'`

// Years of dead letters must not become thousands of partitions.
func TestRetention_TrimmedDaysAreOnePartition(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, _ := deadDay(t, b, 12)
	b.maintain(t, 24*time.Hour)
	deadDay(t, b, 11)
	last, _ := deadDay(t, b, 10)
	b.maintain(t, 24*time.Hour)
	names := ofThePast(t, b)
	if want := fmt.Sprintf("attempts_%s_to_%s", first.Format("20060102"), last.Format("20060102")); len(names) != 4 || names[0] != want {
		t.Errorf("the tables are %v, want four like %s", names, want)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`); n != 3 {
		t.Errorf("%d events are left of three dead ones", n)
	}
	balanced(t, b.Pool)
	execute(t, b, discardSQL)
	b.maintain(t, 24*time.Hour)
	if names := ofThePast(t, b); len(names) != 0 {
		t.Errorf("%v are left", names)
	}
	balanced(t, b.Pool)
}

func (b *bundle) retention(limit int, at reaching) *retention {
	return &retention{pool: b.Pool, keep: 24 * time.Hour, limit: limit, pause: time.Millisecond, logger: slog.New(slog.DiscardHandler), reaching: at}
}

func TestRetention_ADayOfWhichTooMuchIsNeededStaysWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deadDay(t, b, 10)
	r := b.retention(0, nil)
	must(t, r.run(t.Context()))
	must(t, r.run(t.Context()))
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`); n != 2 {
		t.Errorf("%d events are left of two", n)
	}
	if n := value[int](t, b.Pool, `SELECT sum(needed) FROM posthorn.days_left`); n != 1 {
		t.Errorf("%d are said to be needed", n)
	}
	execute(t, b, discardSQL)
	must(t, r.run(t.Context()))
	if n := value[int](t, b.Pool, `SELECT (SELECT count(*) FROM posthorn.outbox) + (SELECT count(*) FROM posthorn.days_left)`); n != 0 {
		t.Error("it was not dropped once nothing was needed")
	}
	balanced(t, b.Pool)
}

// Between the copying and the exchange everybody goes on: what was copied is attempted
// again, and somebody retries what was finished by hand.
func TestRetention_WhatHappensMeanwhileIsNotLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, delivered := deadDay(t, b, 10)
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	var staged int
	r := b.retention(mostNeeded, func(p commitPoint) {
		if p != trimStaged {
			return
		}
		if staged++; staged == 1 {
			must(t, redeliverer.Retry(t.Context(), "", delivered))
			return
		}
		execute(t, b, `UPDATE posthorn.deliveries SET status = 'retrying', attempts = 2, next_attempt_at = now() WHERE id = $1`, delivered)
		execute(t, b, `INSERT INTO posthorn.attempts SELECT delivery_id, 2, started_at, duration_us, endpoint_version, request_headers
			FROM posthorn.attempts WHERE delivery_id = $1`, delivered)
	})
	must(t, r.run(t.Context()))
	if staged != 2 {
		t.Errorf("it was staged %d times; the retry by hand asks for a second", staged)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries d JOIN posthorn.attempts a ON a.delivery_id = d.id
		WHERE d.status = 'retrying' AND d.attempts = 2`); n != 2 {
		t.Errorf("%d attempts are left of two", n)
	}
	if len(ofThePast(t, b)) != 4 {
		t.Errorf("the tables are %v", ofThePast(t, b))
	}
	balanced(t, b.Pool)
}

// Whoever reads for long keeps the day, and nobody else waits for either.
func TestRetention_GivesWayToALongTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deadDay(t, b, 10)
	long, err := b.Pool.Begin(t.Context())
	must(t, err)
	defer long.Rollback(t.Context()) //nolint:errcheck // it is through
	_, err = long.Exec(t.Context(), `SELECT count(*) FROM posthorn.deliveries`)
	must(t, err)

	r := newReceiver(t, nil)
	b.endpoint(t, r.URL, "new")
	stop := b.run(t)
	gaveUp := inBackground(func() {
		if err := b.retention(mostNeeded, nil).run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for trying := true; trying; {
		b.publish(t, outbox.Event{Type: "new"})
		r.next(t) // it is delivered, while the day is wanted and had by another
		select {
		case <-gaveUp:
			trying = false
		default:
		}
	}
	settled(t, b.Pool)
	stop()
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox WHERE event_type LIKE 'good.%'`); n != 1 {
		t.Error("the day was dropped under a transaction that had read it")
	}
	must(t, long.Rollback(t.Context()))
	must(t, b.retention(mostNeeded, nil).run(t.Context()))
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox WHERE event_type LIKE 'good.%'`); n != 0 {
		t.Error("the day was not dropped when the transaction was over")
	}
	balanced(t, b.Pool)
}

// What was routed late has its deliveries in another day than its event.
func TestRetention_KeepsAnEventForADeliveryOfALaterDay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deadDay(t, b, 10)
	later := oldDay(t, b, 8).Add(12 * time.Hour)
	dead, id := value[DeliveryID](t, b.Pool, `SELECT delivery_id FROM posthorn.dead_letters`), typeid.NewAt[deliveryKind](later)
	execute(t, b, `UPDATE posthorn.routings r SET routed_at = $2 FROM posthorn.deliveries d WHERE d.id = $1 AND r.event_id = d.event_id`, dead, later)
	for _, table := range []string{"deliveries SET id", "attempts SET delivery_id", "dead_letters SET delivery_id"} {
		execute(t, b, fmt.Sprintf(`UPDATE posthorn.%s = $2 WHERE %s = $1`, table, strings.Fields(table)[2]), dead, id)
	}
	execute(t, b, `UPDATE posthorn.ledger_state SET audited_to = now() - interval '11 days'`)
	execute(t, b, `DELETE FROM posthorn.ledger_minutes`)
	balanced(t, b.Pool)
	b.maintain(t, 24*time.Hour)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries d JOIN posthorn.attempts a ON a.delivery_id = d.id
		JOIN posthorn.outbox o ON o.id = d.event_id AND o.created_at = d.event_created_at WHERE d.id = $1`, id); n != 1 {
		t.Error("the dead letter has lost its event, or its attempt")
	}
	balanced(t, b.Pool)
	execute(t, b, discardSQL)
	b.maintain(t, 24*time.Hour)
	if left := ofThePast(t, b); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	balanced(t, b.Pool)
}
