package dispatcher

import (
	"net/http"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

func TestNode_ASecondOneTakesOverWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hang := make(chan struct{})
	r := newReceiver(t, func(_ http.ResponseWriter, request *http.Request) {
		select {
		case <-hang:
		case <-request.Context().Done():
		}
	})
	b.endpoint(t, r.URL)
	committed := b.publishSome(t, events)
	victim := startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute})
	for range 16 { // as many as a lane has in flight
		r.next(t)
	}
	b.run(t)
	eventually(t, b.Pool, "two nodes", `SELECT count(*) = 2 FROM posthorn.nodes`)
	r.become(nil)
	begin := time.Now()
	must(t, victim.cmd.Process.Kill())
	settled(t, b.Pool)
	took := time.Since(begin)
	t.Logf("the takeover took %s", took)
	if took > 3*time.Second { // a tenth of that where nothing else runs
		t.Error("it is to take three seconds at most")
	}
	close(hang)
	r.check(t, committed, 16)
	balanced(t, b.Pool)
}

func TestNode_GivesEverythingBackWhenItStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	committed := b.publishSome(t, events)
	stop := b.run(t)
	for range 16 {
		r.next(t)
	}
	stopped := inBackground(stop)
	r.become(nil)
	close(release)
	<-stopped
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.nodes`); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE kind = 'deliver' AND state <> 'available'`); n != 0 {
		t.Errorf("%d jobs were not given back", n)
	}
	balanced(t, b.Pool)
	b.run(t)
	settled(t, b.Pool)
	r.check(t, committed, 0)
	balanced(t, b.Pool)
}

func TestNode_NoTransactionIsOpenDuringARequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	b.run(t)
	b.publish(t, outbox.Event{})
	r.next(t)
	// The relay's and River's transactions last milliseconds: one that began
	// before now and is still there after they are over would be held for the request.
	now := value[time.Time](t, b.Pool, `SELECT clock_timestamp()`)
	eventually(t, b.Pool, "no transaction older than the request", `SELECT NOT EXISTS (
		SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		  AND xact_start IS NOT NULL AND xact_start <= $1 AND backend_type = 'client backend')`, now)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE status = 'pending'`); n != 1 {
		t.Errorf("the request is over: %d pending", n)
	}
	close(release)
	settled(t, b.Pool)
}
