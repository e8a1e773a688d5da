package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestLease_IsRenewedForWhatIsInHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 3)[0]
	_, err := b.Pool.Exec(t.Context(), `UPDATE river.river_job SET scheduled_at = now() + interval '1 ms' WHERE id = $1`, d.chunk.jobID)
	must(t, err)
	d.chunk.lease.extend(time.Now(), time.Millisecond)
	must(t, (&keeper{Dispatcher: n.Dispatcher}).renew(t.Context()))
	if left := value[float64](t, b.Pool, `SELECT extract(epoch FROM scheduled_at - now())::float8 FROM river.river_job WHERE id = $1`,
		d.chunk.jobID); left < n.config.Lease.Seconds()/2 {
		t.Errorf("the lease ends in %v s", left)
	}
	if !d.chunk.lease.held() {
		t.Error("the chunk counts as lost")
	}
}

func TestLease_LostToAnotherNodeLetsGoOfWhatIsNotSent(t *testing.T) {
	t.Parallel()
	for name, theft := range map[string]string{
		"handed off by another's relay": `UPDATE river.river_job SET args = jsonb_set(args, '{node}', '"another"') WHERE id = $1`,
		"fetched by another's River":    `UPDATE river.river_job SET attempted_by = '{another}', state = 'running', attempted_at = now() WHERE id = $1`,
		"finished by another":           `DELETE FROM river.river_job WHERE id = $1`,
		"released":                      `UPDATE river.river_job SET state = 'available', scheduled_at = now() WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := b.stillNode(t)
			ds := b.relayed(t, n, 2)
			_, err := b.Pool.Exec(t.Context(), theft, ds[0].chunk.jobID)
			must(t, err)
			must(t, (&keeper{Dispatcher: n.Dispatcher}).renew(t.Context()))
			var batch []result
			for _, d := range ds {
				res := n.sender.turn(d)
				if res.released != releasedLost || res.attempt != nil {
					t.Errorf("%+v: it was sent although it is another's", res)
				}
				batch = append(batch, res)
			}
			n.recorder.record(t.Context(), batch)
			b.wantRow(t, ds[0], "pending 0 0 dead letters")
			if n.lanes.room() != n.lanes.maxInHand || len(n.lanes.leases()) != 0 {
				t.Error("the lost chunk is in hand still")
			}
			if name == "fetched by another's River" && value[string](t, b.Pool, `SELECT state::text FROM river.river_job`) != "running" {
				t.Error("the other node's job was touched")
			}
		})
	}
}

// A process that was stopped for longer than its lease does not know that the work is
// another's by now; the clock tells it, before anybody can.
func TestLease_ThatHasEndedLetsGoOfWhatIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	d.chunk.lease.extend(time.Now().Add(-time.Minute), 59*time.Second)
	if res := n.sender.turn(d); res.released != releasedLost || res.attempt != nil {
		t.Errorf("%+v: it was sent although the lease has ended", res)
	}
}

// The process may be stopped between the load and the POST, too.
func TestLease_IsLookedAtJustBeforeThePOST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var d *delivery
	n := b.stillNode(t, func(c *Config) {
		c.reaching = func(p commitPoint) {
			if p == senderBeforePost {
				d.chunk.lease.lose()
			}
		}
	})
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	d = n.take(t, 1)[0]
	if res := n.sender.turn(d); res.released != releasedLost || res.attempt != nil || r.posts() != 0 {
		t.Errorf("%+v and %d POSTs: it was sent although it is another's", res, r.posts())
	}
}

// A backlog's owner waits longer than a lease for a retry of what is in order.
func TestLease_IsRenewedForAsLongAsTheNodeRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
	b.run(t, func(c *Config) { c.Retry.Schedule = slicesOf(1, time.Hour) })
	b.publish(t, outbox.Event{OrderingKey: "a"})
	r.next(t)
	const leasedBacklog = ` FROM river.river_job WHERE kind = 'backlog' AND state = 'scheduled' AND attempted_at IS NOT NULL`
	eventually(t, b.Pool, "the backlog is leased", `SELECT EXISTS (SELECT`+leasedBacklog+`)`)
	ends := value[time.Time](t, b.Pool, `SELECT scheduled_at`+leasedBacklog)
	fetched := value[time.Time](t, b.Pool, `SELECT attempted_at FROM river.river_job WHERE kind = 'backlog'`)
	eventually(t, b.Pool, "it is leased for longer, and not fetched again", `SELECT scheduled_at > $1::timestamptz + interval '1 second'
		AND attempted_at = $2 FROM river.river_job WHERE kind = 'backlog'`, ends, fetched)
}

// What goes back to the backlog of a job that another node has by now stays that node's.
func TestLease_LostToAnotherNodeSetsNothingAside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	b.exec(t, `UPDATE river.river_job SET args = jsonb_set(args, '{node}', '"another"')`)
	n.recorder.record(t.Context(), []result{{delivery: d, released: releasedAside}})
	if owner := value[int64](t, b.Pool, `SELECT job_id FROM posthorn.deliveries`); owner != d.chunk.jobID {
		t.Errorf("the delivery went from job %d, another node's, to %d", d.chunk.jobID, owner)
	}
	balanced(t, b.Pool)
}

func TestConfig_RefusesALeaseThatEndsWithinAnAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	config := b.config(t, b.Pool)
	config.Lease = config.AttemptTimeout
	if _, err := New(config); err == nil {
		t.Error("it is accepted")
	}
}

func TestNode_RegistersAnewWhenItsSessionIsKilled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.NodeName = "phoenix" })
	eventually(t, b.Pool, "the node is registered", `SELECT EXISTS (SELECT FROM posthorn.nodes WHERE name = 'phoenix')`)
	old := value[int64](t, b.Pool, `SELECT number FROM posthorn.nodes WHERE name = 'phoenix'`)
	first := b.publish(t, outbox.Event{})
	r.next(t)
	if killed := value[int](t, b.Pool, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name = 'posthorn node phoenix' AND datname = current_database()`); killed != 1 {
		t.Fatalf("%d sessions were killed, want 1", killed)
	}
	eventually(t, b.Pool, "the node is registered anew and holds its lock", `SELECT EXISTS (SELECT FROM posthorn.nodes n
		JOIN pg_locks l ON l.locktype = 'advisory' AND l.classid = $2 AND l.objid = n.number AND l.granted
		WHERE n.name = 'phoenix' AND n.number > $1)`, old, lockClass)
	second := b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	r.check(t, map[string]bool{first.String(): true, second.String(): true}, 0)
	balanced(t, b.Pool)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.nodes`); n != 1 {
		t.Errorf("%d nodes, want 1", n)
	}
}

// Somebody else's lock on a job's row, such as a recorder's that waits, costs no lease.
func TestLease_OfALockedJobIsNotLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	locking, err := b.Pool.Begin(t.Context())
	must(t, err)
	_, err = locking.Exec(t.Context(), `SELECT FROM river.river_job WHERE id = $1 FOR UPDATE`, d.chunk.jobID)
	must(t, err)
	must(t, (&keeper{Dispatcher: n.Dispatcher}).renew(t.Context()))
	if !d.chunk.lease.held() {
		t.Error("the lease counts as lost")
	}
	must(t, locking.Rollback(t.Context()))
}
