package dispatcher

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

// A node that loses its session is dead to the others and goes on living: what it
// has not sent yet must not be sent by both.
func TestNode_ThatLosesItsSessionSendsNothingMoreOfWhatItHad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	committed := b.publishSome(t, 2*events)
	b.run(t, func(c *Config) { c.NodeName = "first" })
	for range 16 { // as many as a lane has in flight
		r.next(t)
	}
	b.run(t, func(c *Config) { c.NodeName = "second" })
	eventually(t, b.Pool, "two nodes", `SELECT count(*) = 2 FROM posthorn.nodes`)
	before := value[int64](t, b.Pool, `SELECT number FROM posthorn.nodes WHERE name = 'first'`)
	if n := value[int](t, b.Pool, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'posthorn node first'`); n != 1 {
		t.Fatalf("%d sessions of the first node", n)
	}
	eventually(t, b.Pool, "the first node registers anew", `SELECT count(*) = 1 FROM posthorn.nodes WHERE name = 'first' AND number > $1`, before)
	r.become(nil)
	close(release)
	settled(t, b.Pool)
	r.check(t, committed, 16)
	balanced(t, b.Pool)
}

func TestNode_StopsInTimeWhenNothingCanBeRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	tx, err := b.Pool.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), `LOCK TABLE posthorn.attempts IN ACCESS EXCLUSIVE MODE`)
	must(t, err)
	const n = 5000
	stop := b.run(t, func(c *Config) { c.ShutdownTimeout, c.MaxInHand = 500*time.Millisecond, 8*n })
	_, err = b.Pool.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) SELECT 'a', '{}' FROM generate_series(1, $1)`, n)
	must(t, err)
	for range 2*maxBatch + 20 { // as many results as wait for the recorder: the senders wait too
		r.next(t)
	}
	stopped := inBackground(stop)
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	must(t, tx.Rollback(t.Context()))
	balanced(t, b.Pool)
	b.run(t)
	settled(t, b.Pool)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != n {
		t.Errorf("%+v", l)
	}
}

// The outbox can't hold ids of the producers' own unique over its partitions.
func TestDelivery_TwoEventsOfOneIDKeepTheirPayloads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	b.run(t)
	id := b.publish(t, outbox.Event{Payload: []byte(`{"n":1}`)})
	b.publish(t, outbox.Event{Payload: []byte(`{"n":2}`), ID: id})
	settled(t, b.Pool)
	bodies := map[string]int{}
	for range r.posts() {
		bodies[dataOf(t, r.next(t).body, "")]++
	}
	if len(bodies) != 2 || bodies[`{"n":1}`] != 3 || bodies[`{"n":2}`] != 3 {
		t.Errorf("three attempts of each: %v", bodies)
	}
	balanced(t, b.Pool)
}

// What is due waits for nobody: River's scheduler looks every five seconds only.
func TestRedeliver_LeavesAJobThatCanBeFetchedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	stop := b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	stop()
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	must(t, redeliverer.Retry(t.Context(), "", value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries`)))
	if !value[bool](t, b.Pool, `SELECT j.state = 'available' AND j.scheduled_at <= clock_timestamp()
		FROM posthorn.deliveries d JOIN river.river_job j ON j.id = d.job_id`) {
		t.Error("the job waits for River's scheduler")
	}
}

// A reaper may act on a list of nodes that is no longer true: the name it has read
// may have registered anew, under another number.
func TestNode_ReapsNoneThatHasRegisteredAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	register := func(name string) *node {
		telemetry, err := newTelemetry(nil, nil, &clock{})
		must(t, err)
		n := &node{pool: b.Pool, name: name, logger: slog.New(slog.DiscardHandler), counters: telemetry, lose: func() {}}
		must(t, n.register(t.Context()))
		t.Cleanup(func() { n.conn.Close(context.Background()) })
		return n
	}
	reaper, back := register("reaper"), register("back")
	execute(t, b, `INSERT INTO river.river_job (kind, queue, state, args, max_attempts, scheduled_at)
		VALUES ('deliver', 'deliver', 'scheduled', '{"node":"back"}', 9, now() + interval '1 hour')`)
	must(t, reaper.reapOne(t.Context(), back.number+1000, back.name)) // a number that nobody holds any more
	must(t, reaper.reapOne(t.Context(), back.number, back.name))      // and one that is held
	if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE state = 'scheduled'`); n != 1 {
		t.Error("the work of a living node was released")
	}
	must(t, back.conn.Close(t.Context()))
	eventually(t, b.Pool, "the lock is free", `SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	must(t, reaper.reapOne(t.Context(), back.number, back.name))
	if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE state = 'available'`); n != 1 {
		t.Error("the work of a dead node was not released")
	}
}

func TestNode_EachBeatReleasesWhatADeadOneHad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dead, living := b.stillNode(t), b.stillNode(t)
	b.relayed(t, dead, 1)
	must(t, living.node.beat(t.Context()))
	b.wantJob(t, "scheduled") // its node lives
	must(t, dead.node.conn.Close(t.Context()))
	eventually(t, b.Pool, "the lock is free", `SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid = $1)`, dead.node.number)
	must(t, living.node.beat(t.Context()))
	b.wantJob(t, "available")
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.nodes`); n != 1 {
		t.Errorf("%d nodes, want 1", n)
	}
}

func TestNode_ThatLeavesReleasesWhatItHad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.relayed(t, n, 1)
	must(t, n.node.leave(t.Context()))
	b.wantJob(t, "available")
	balanced(t, b.Pool)
}

// wantJob checks the state of the one deliver job there is, and that it is due when available.
func (b *bundle) wantJob(t *testing.T, state string) {
	t.Helper()
	got := value[string](t, b.Pool, `SELECT CASE WHEN state = 'available' AND scheduled_at > now() THEN 'leased' ELSE state::text END
		FROM river.river_job WHERE kind = 'deliver'`)
	if got != state {
		t.Errorf("the job is %s, want %s", got, state)
	}
}
