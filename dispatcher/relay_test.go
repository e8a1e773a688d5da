package dispatcher

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// What is not committed may be rolled back, and would have been sent all the same.
func TestRelay_HandsOffWhatIsCommitted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var n *stillNode
	seen := map[commitPoint]string{}
	n = b.stillNode(t, func(c *Config) {
		c.reaching = func(p commitPoint) { // on the test's goroutine: nothing runs by itself here
			seen[p] = fmt.Sprintf("%s, %d chunks in hand", value[string](t, b.Pool, `SELECT concat(
				(SELECT count(*) FROM posthorn.outbox_pending), ' pending, ', (SELECT count(*) FROM posthorn.routings), ' routed, ',
				(SELECT count(*) FROM posthorn.deliveries), ' deliveries, ', (SELECT count(*) FROM river.river_job), ' jobs')`), len(n.lanes.leases()))
		}
	})
	b.relayed(t, n, 1)
	want := map[commitPoint]string{
		relayClaimed:   "1 pending, 0 routed, 0 deliveries, 0 jobs, 0 chunks in hand",
		relayCommitted: "0 pending, 1 routed, 1 deliveries, 1 jobs, 0 chunks in hand",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("what others see, and this process has (-want +got):\n%s", diff)
	}
}

// Producers are anybody's programs, and send no notification.
func TestRelay_FindsWhatNobodyTellsItOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	b.run(t)
	for range 3 { // the relay has found nothing in between
		b.exec(t, `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', '{}')`)
		r.next(t)
		settled(t, b.Pool)
	}
}

func TestRelay_HoldsWhatAPausedEndpointWouldGet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	e, _ := b.endpoint(t, nowhere)
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, e.ID)
	must(t, err)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	if l := balanced(t, b.Pool); l.Deliveries[Held] != 1 || len(n.lanes.leases()) != 0 {
		t.Errorf("%d chunks in hand, %+v", len(n.lanes.leases()), l)
	}
}

// The endpoint was paused when the delivery was in hand already.
func TestPause_HoldsWhatIsInHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, d.chunk.endpointID)
	must(t, err)
	_, err = n.config.Directory.Refresh(t.Context(), b.Pool)
	must(t, err)
	n.recorder.record(t.Context(), []result{n.sender.turn(d)})
	b.wantRow(t, d, "held 0 0 dead letters")
	balanced(t, b.Pool)
}
