package dispatcher

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestEndpointChange_AnEndpointCreatedBeforeAnEventGetsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.run(t)
	committed := map[string]bool{}
	for round := range 50 {
		eventType := fmt.Sprintf("round.n%d", round)
		b.endpoint(t, r.URL, eventType)
		committed[b.publish(t, outbox.Event{Type: eventType}).String()] = true
	}
	settled(t, b.Pool)
	r.check(t, committed, 0)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 50 {
		t.Errorf("%+v", l)
	}
}

func TestEndpointChange_TheNextAttemptGoesToTheNewURL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	moved := make(chan struct{})
	before := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		<-moved
		w.WriteHeader(500)
	})
	after := newReceiver(t, nil)
	e, _ := b.endpoint(t, before.URL)
	b.run(t, func(c *Config) { c.AttemptTimeout, c.Lease = patience, 10*patience }) // no renewal refreshes meanwhile
	id := b.publish(t, outbox.Event{})
	before.next(t)
	_, err := b.store.Update(t.Context(), subscriptions.Scope{}, e.ID, subscriptions.Update{URL: &after.URL})
	must(t, err)
	close(moved)
	if got := after.next(t); got.eventID() != id.String() {
		t.Errorf("%s came, want %s", got.eventID(), id)
	}
	settled(t, b.Pool)
	if n := before.counts()[id.String()]; n != 1 {
		t.Errorf("the old URL got %d POSTs, want 1", n)
	}
	if urls := value[[]string](t, b.Pool, `SELECT array_agg(v.url ORDER BY a.number) FROM posthorn.attempts a
		JOIN posthorn.endpoint_versions v ON v.version = a.endpoint_version`); len(urls) != 2 || urls[0] != before.URL || urls[1] != after.URL {
		t.Errorf("the log has attempts at %s", urls)
	}
}

// A node that relays nothing for a while has an old copy of the subscriptions.
func TestEndpointChange_AnIdleNodeDoesNotTakeANewEndpointForADeletedOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	idle := b.stillNode(t)
	other := b.stillNode(t, func(c *Config) { c.NoHandoff = true })
	b.endpoint(t, nowhere)
	b.publish(t, outbox.Event{})
	other.relayAll(t)
	idle.work(t)
	d := idle.take(t, 1)[0]
	if got := idle.sender.turn(d); got.outcome.status == Cancelled {
		t.Errorf("%+v", got.outcome)
	}
}

// work has the node's worker take the one deliver job there is, as River would.
func (n *stillNode) work(t *testing.T) {
	t.Helper()
	job := &river.Job[deliverArgs]{JobRow: &rivertype.JobRow{}}
	must(t, n.config.Pool.QueryRow(t.Context(), `UPDATE river.river_job
		SET state = 'running', attempted_by = array[$1] WHERE kind = 'deliver' AND args->>'node' IS NULL RETURNING id, args`, n.config.NodeName).Scan(&job.ID, &job.Args))
	c := n.config
	w := &worker{pool: c.Pool, directory: c.Directory, lanes: n.lanes, node: c.NodeName, lease: c.Lease}
	must(t, w.Work(t.Context(), job))
}

func TestEndpointDeletion_CancelsWaitingRetriesWithoutAPOST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	e, _ := b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{2 * time.Second} })
	id := b.publish(t, outbox.Event{})
	r.next(t)
	eventually(t, b.Pool, "a retry waits", `SELECT EXISTS (SELECT FROM posthorn.deliveries WHERE status = 'retrying')`)
	must(t, b.store.Delete(t.Context(), subscriptions.Scope{}, e.ID))
	settled(t, b.Pool)
	if s := value[string](t, b.Pool, `SELECT concat_ws(', ', status, attempts, last_error, last_response_status) FROM posthorn.deliveries`); s != "cancelled, 1, the endpoint was deleted, 500" {
		t.Error(s)
	}
	if n := r.counts()[id.String()]; n != 1 {
		t.Errorf("%d POSTs, want 1", n)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Cancelled] != 1 || l.DeadLetters != 0 {
		t.Errorf("%+v", l)
	}
}
