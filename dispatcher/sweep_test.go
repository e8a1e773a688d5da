package dispatcher

import (
	"net/http"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), sql, args...)
	must(t, err)
}

func (n *stillNode) sweeper(t *testing.T, grace time.Duration) *sweeper {
	t.Helper()
	jobs, err := newInserter(n.config.Pool)
	must(t, err)
	counters, err := newTelemetry(nil, nil, &clock{})
	must(t, err)
	return &sweeper{pool: n.config.Pool, jobs: jobs, grace: grace, counters: counters}
}

func TestSweep_RiversTablesEmptiedLoseNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	// The retries wait for longer than it takes to empty the tables.
	slow := func(c *Config) {
		c.Retry.Schedule = []time.Duration{5 * time.Second, time.Millisecond}
		c.SweepGrace = 200 * time.Millisecond
	}
	stop := b.run(t, slow)
	committed := b.publishSome(t, events)
	eventually(t, b.Pool, "all retries wait", `SELECT count(*) = $1 FROM posthorn.deliveries WHERE status = 'retrying'`, events)
	stop()
	r.become(nil)
	b.exec(t, `TRUNCATE river.river_job`)
	if ledger, err := ReadLedger(t.Context(), b.Pool); err != nil || ledger.Unaccounted != events {
		t.Errorf("%d deliveries without a job make %d unaccounted (%v)", events, ledger.Unaccounted, err)
	}
	// What is due is swept; nobody waits five seconds for that here.
	b.exec(t, `UPDATE posthorn.deliveries SET next_attempt_at = now() - interval '1 second'`)
	b.run(t, slow)
	settled(t, b.Pool)
	for id := range committed {
		if n := r.counts()[id]; n != 2 {
			t.Errorf("%s came %d times, want the first attempt and one retry", id, n)
		}
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != events {
		t.Errorf("%+v", l)
	}
}

func TestSweep_GivesEachLostDeliveryOneOwner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	for range 2 {
		b.endpoint(t, nowhere)
	}
	const published = chunkSize + 7 // more than one chunk of each
	for range published {
		b.publish(t, outbox.Event{})
	}
	n.relayAll(t)
	n.recorder.record(t.Context(), []result{n.answered(n.take(t, 1)[0], 500)}) // one is a retry
	b.exec(t, `TRUNCATE river.river_job`)
	b.exec(t, `UPDATE posthorn.deliveries SET next_attempt_at = now() - interval '1 second'`)
	s := n.sweeper(t, time.Millisecond)
	if adopted, err := s.adopt(t.Context()); err != nil || adopted != 2*published {
		t.Errorf("%d of %d were adopted (%v)", adopted, 2*published, err)
	}
	if again, err := s.adopt(t.Context()); err != nil || again != 0 {
		t.Errorf("%d were adopted twice (%v)", again, err)
	}
	balanced(t, b.Pool)
	if owned := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries d
		JOIN posthorn.backlogs b ON b.job_id = d.job_id AND b.endpoint_id = d.endpoint_id
		JOIN river.river_job j ON j.id = b.job_id AND j.state = 'available'`); owned != 2*published {
		t.Errorf("%d of %d belong to their endpoints' backlogs", owned, 2*published)
	}
}

func TestSweep_LeavesAloneWhatHasAJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.SweepGrace, c.SweepInterval = 50*time.Millisecond, time.Second })
	id := b.publish(t, outbox.Event{})
	r.next(t)
	owner := value[int64](t, b.Pool, `SELECT job_id FROM posthorn.deliveries`)
	// The request is under way for longer than the grace, so that the row is marked.
	eventually(t, b.Pool, "the sweep has looked at it", `SELECT next_attempt_at IS NOT NULL FROM posthorn.deliveries`)
	swept := value[time.Time](t, b.Pool, `SELECT swept_to FROM posthorn.sweep_state`)
	eventually(t, b.Pool, "the sweep has run again", `SELECT swept_to > $1 FROM posthorn.sweep_state`, swept)
	if now := value[int64](t, b.Pool, `SELECT job_id FROM posthorn.deliveries`); now != owner {
		t.Errorf("the delivery went from job %d to %d", owner, now)
	}
	close(release)
	settled(t, b.Pool)
	if n := r.counts()[id.String()]; n != 1 {
		t.Errorf("%d POSTs, want 1", n)
	}
	balanced(t, b.Pool)
}

func TestSweep_MarksWhatIsUnfinishedAfterTheGraceAndMovesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 3)
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 200)})
	waiting := func() int {
		return value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE next_attempt_at IS NOT NULL`)
	}
	before := value[time.Time](t, b.Pool, `SELECT swept_to FROM posthorn.sweep_state`)
	must(t, n.sweeper(t, time.Hour).mark(t.Context()))
	if got := waiting(); got != 0 {
		t.Errorf("%d are marked within the grace", got)
	}
	if at := value[time.Time](t, b.Pool, `SELECT swept_to FROM posthorn.sweep_state`); !at.Equal(before) {
		t.Errorf("swept_to went from %s to %s", before, at)
	}
	// Two milliseconds, because ids are as exact as one.
	eventually(t, b.Pool, "the grace has passed", `SELECT max(created_at) < clock_timestamp() - interval '2 ms' FROM posthorn.deliveries`)
	must(t, n.sweeper(t, time.Millisecond).mark(t.Context()))
	if got := waiting(); got != 2 {
		t.Errorf("%d are marked, want the 2 unfinished", got)
	}
	if at := value[time.Time](t, b.Pool, `SELECT swept_to FROM posthorn.sweep_state`); !at.After(before) {
		t.Errorf("swept_to stays at %s", at)
	}
}

// All nodes were away as the endpoint was resumed, and for days after.
func TestSweep_FindsWhatIsHeldForAnEndpointResumedLongAgo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	for range 3 {
		b.endpoint(t, nowhere)
	}
	e, _ := b.endpoint(t, nowhere, "order.*")
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	_, err = b.store.Resume(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	b.exec(t, `UPDATE posthorn.endpoints SET updated_at = now() - interval '9 days'`)
	must(t, n.sweeper(t, time.Hour).align(t.Context()))
	if got := value[string](t, b.Pool, `SELECT string_agg(args->>'endpoint', ',') FROM river.river_job WHERE kind = 'align'`); got != e.ID.String() {
		t.Errorf("aligned %q, want %s", got, e.ID)
	}
}
