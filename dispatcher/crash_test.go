package dispatcher

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// publishSome commits n events, and rolls back as many again.
func (b *bundle) publishSome(t *testing.T, n int) map[string]bool {
	t.Helper()
	committed := map[string]bool{}
	for i := range n {
		committed[b.publish(t, outbox.Event{OrderingKey: fmt.Sprint(i % 7), Payload: json.RawMessage(fmt.Sprintf(`{"n": %d, "key": %d}`, i, i%7))}).String()] = true
		tx, err := b.Pool.Begin(t.Context())
		must(t, err)
		_, err = outbox.Publish(t.Context(), tx, outbox.Event{Type: "order.undone", Payload: json.RawMessage(`{}`)})
		must(t, err)
		must(t, tx.Rollback(t.Context()))
	}
	return committed
}

// check compares the receiver's journal with what was committed.
func (r *receiver) check(t *testing.T, committed map[string]bool, maxDuplicates int) {
	t.Helper()
	duplicates := 0
	counts := r.counts()
	for id := range committed {
		if counts[id] == 0 {
			t.Errorf("%s was lost", id)
		}
		duplicates += max(0, counts[id]-1)
	}
	for id := range counts {
		if !committed[id] {
			t.Errorf("%s was sent and never committed", id)
		}
	}
	if duplicates > maxDuplicates {
		t.Errorf("%d duplicates, at most %d were in flight", duplicates, maxDuplicates)
	}
}

// checkOrder finds the events of a key that came first after a later one of theirs.
func (r *receiver) checkOrder(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[int]int{}
	seen := map[string]bool{}
	for _, rec := range r.journal {
		var body struct{ Data struct{ N, Key int } }
		must(t, json.Unmarshal([]byte(rec.body), &body))
		if seen[rec.eventID()] {
			continue // a repetition may come late
		}
		seen[rec.eventID()] = true
		if before, any := last[body.Data.Key]; any && body.Data.N < before {
			t.Errorf("key %d: event %d came after %d", body.Data.Key, body.Data.N, before)
		}
		last[body.Data.Key] = body.Data.N
	}
}

// events is how many a crash test publishes; more than one node has in flight.
const events = 40

func TestCrash_AtEveryCommitPointLosesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at        commitPoint
		after     int32
		noHandoff bool
		inOrder   bool
		nothing   bool // nothing can have been sent
	}{
		{at: relayClaimed, after: 1, nothing: true},
		{at: relayCommitted, after: 1, nothing: true},
		{at: senderBeforePost, after: 1},
		{at: senderAfterPost, after: 5},
		{at: recorderBefore, after: 1},
		{at: recorderUncommitted, after: 1},
		{at: recorderCommitted, after: 1},
		{at: recorderCommitted, after: 2},
		{at: workerFetched, after: 1, noHandoff: true, nothing: true},
		{at: workerHandedOver, after: 1, noHandoff: true},
		{at: backlogFetched, after: 1, inOrder: true, nothing: true},
		{at: backlogHandedOver, after: 1, inOrder: true},
		{at: senderAfterPost, after: 5, inOrder: true},
		{at: recorderUncommitted, after: 1, inOrder: true},
		{at: recorderCommitted, after: 1, inOrder: true},
	} {
		t.Run(fmt.Sprintf("%s %d in order %t", c.at, c.after, c.inOrder), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			if c.inOrder {
				b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
			} else {
				b.endpoint(t, r.URL)
			}
			n := 5 * events
			if c.after > 1 && c.at == recorderCommitted {
				n = maxBatch + events // more than one batch
			}
			committed := b.publishSome(t, n)
			startNode(t, nodeOrder{URL: b.URL, KillAt: c.at, KillAfter: c.after, NoHandoff: c.noHandoff, Grace: time.Minute}).killed(t)
			balanced(t, b.Pool)
			r.Server.CloseClientConnections() // what the dead node had written is read by now, or never
			inFlight := r.posts() - value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`)
			if c.nothing && inFlight > 0 {
				t.Errorf("%d requests were sent before anything was to be", inFlight)
			}
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, inFlight)
			if l := balanced(t, b.Pool); l.Deliveries[Delivered] != int64(n) {
				t.Errorf("%+v", l)
			}
			if c.inOrder {
				r.checkOrder(t)
			}
		})
	}
}

func TestCrash_OfTheReaperLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{reaperUncommitted, reaperCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

// Small chunks of several endpoints are one job. Whoever takes it over gives each
// endpoint its own.
func TestCrash_OfTheSplitOfAParcelLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{splitUncommitted, splitCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			const endpoints = 20
			receivers := make([]*receiver, endpoints)
			for i := range receivers {
				receivers[i] = newReceiver(t, nil)
				b.endpoint(t, receivers[i].URL)
			}
			tx, err := b.Pool.Begin(t.Context()) // both events come in one batch
			must(t, err)
			committed := map[string]bool{}
			for range 2 {
				id, err := outbox.Publish(t.Context(), tx, outbox.Event{Type: "order.paid", Payload: json.RawMessage(`{}`)})
				must(t, err)
				committed[id.String()] = true
			}
			must(t, tx.Commit(t.Context()))
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE kind = 'deliver'`); n != 1 {
				t.Errorf("%d jobs for two deliveries to each of %d endpoints, want 1", n, endpoints)
			}
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			b.run(t)
			settled(t, b.Pool)
			for _, r := range receivers {
				r.check(t, committed, 0)
			}
			if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 2*endpoints {
				t.Errorf("%+v", l)
			}
		})
	}
}

func TestCrash_OfTheSweepLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{sweepUncommitted, sweepCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			_, err := b.Pool.Exec(t.Context(), `DELETE FROM river.river_job`)
			must(t, err)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: 200 * time.Millisecond}).killed(t)
			b.run(t, func(c *Config) { c.SweepGrace = 200 * time.Millisecond })
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfTheAuditLeavesTheBooksExact(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{auditUncommitted, auditCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			before := balanced(t, b.Pool).AuditedTo
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			if l := balanced(t, b.Pool); l.AuditedTo.After(before) != (at == auditCommitted) {
				t.Errorf("audited from %s to %s", before, l.AuditedTo)
			}
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfATrimLosesNothingThatIsNeeded(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{trimStaged, trimUncommitted, trimCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			day, _ := deadDay(t, b, 10)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute, Retention: 24 * time.Hour}).killed(t)
			if trimmed := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`) == 1; trimmed != (at == trimCommitted) {
				t.Errorf("the day is trimmed: %t", trimmed)
			}
			balanced(t, b.Pool)
			must(t, b.retention(mostNeeded, nil).run(t.Context()))
			names := ofThePast(t, b)
			if want := fmt.Sprintf("attempts_%s_to_%[1]s", day.Format("20060102")); len(names) != 4 || names[0] != want {
				t.Errorf("the tables are %v, want four like %s", names, want)
			}
			if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.dead_letters l JOIN posthorn.attempts a USING (delivery_id)
				JOIN posthorn.outbox o ON o.id = l.event_id`); n != 1 {
				t.Error("the dead letter's event or attempt is gone")
			}
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfARetryByHand(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{redeliverWritten, redeliverCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, status(500))
			b.endpoint(t, r.URL)
			stop := b.run(t)
			id := b.publish(t, outbox.Event{})
			settled(t, b.Pool)
			stop()
			r.become(nil)
			delivery := value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries`)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Retry: delivery.String()}).killed(t)
			l := balanced(t, b.Pool)
			if committed := at == redeliverCommitted; (l.DeadLetters == 0) != committed || (l.Deliveries[Retrying] == 1) != committed {
				t.Errorf("%+v", l)
			}
			b.run(t)
			settled(t, b.Pool)
			balanced(t, b.Pool)
			if want := map[commitPoint]int{redeliverWritten: 3, redeliverCommitted: 4}[at]; r.counts()[id.String()] != want {
				t.Errorf("%d POSTs, want %d", r.counts()[id.String()], want)
			}
		})
	}
}

// TestCrash_CoversEveryCommitPoint keeps the list and the tests together.
func TestCrash_CoversEveryCommitPoint(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("crash_test.go")
	must(t, err)
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	names := map[commitPoint]string{
		relayClaimed: "relayClaimed", relayCommitted: "relayCommitted", senderBeforePost: "senderBeforePost",
		senderAfterPost: "senderAfterPost", recorderBefore: "recorderBefore", recorderUncommitted: "recorderUncommitted",
		recorderCommitted: "recorderCommitted", workerFetched: "workerFetched", workerHandedOver: "workerHandedOver",
		splitUncommitted: "splitUncommitted", splitCommitted: "splitCommitted",
		backlogFetched: "backlogFetched", backlogHandedOver: "backlogHandedOver",
		reaperUncommitted: "reaperUncommitted", reaperCommitted: "reaperCommitted", sweepUncommitted: "sweepUncommitted",
		sweepCommitted: "sweepCommitted", auditUncommitted: "auditUncommitted", auditCommitted: "auditCommitted",
		trimStaged: "trimStaged", trimUncommitted: "trimUncommitted", trimCommitted: "trimCommitted", redeliverWritten: "redeliverWritten", redeliverCommitted: "redeliverCommitted",
	}
	for _, p := range commitPoints {
		if names[p] == "" || strings.Count(string(source), names[p]) < 2 {
			t.Errorf("no crash test kills at %s", p)
		}
		if !strings.Contains(string(doc), string(p)) {
			t.Errorf("the package's documentation does not say what follows from %s", p)
		}
	}
}
