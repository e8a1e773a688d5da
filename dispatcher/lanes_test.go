package dispatcher

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func anEndpoint(n byte) subscriptions.EndpointID {
	id, err := subscriptions.ParseEndpointID("ep_01k4x3b8v2e0rr8c9kq7m5n4t" + string("0123456789abcdefghjkmnpqrstvwxyz"[n]))
	if err != nil {
		panic(err)
	}
	return id
}

func aChunk(endpoint subscriptions.EndpointID, job int64, n int) *chunk {
	c := &chunk{jobID: job, endpointID: endpoint, deliveries: make([]delivery, n)}
	for i := range c.deliveries {
		c.deliveries[i] = delivery{chunk: c, id: typeid.New[deliveryKind]()}
	}
	return c
}

func TestLanes_RefuseWhatTheProcessHasNoRoomFor(t *testing.T) {
	t.Parallel()
	l := newLanes(16, 200, nil, nil)
	a, b := anEndpoint(1), anEndpoint(2)
	l.lane(a).pace = time.Microsecond
	for range 3 { // one chunk more than fits, so that a full one is never refused for ever
		if _, ok := l.reserve(a, 100); !ok {
			t.Fatal("there is room")
		}
	}
	if wait, ok := l.reserve(b, 1); ok || wait < maxWait {
		t.Errorf("beyond the room: %t, ask again in %s", ok, wait)
	}
	if room := l.room(); room != -100 {
		t.Errorf("room %d", room)
	}
	l.unreserve(a, 100)
	select {
	case <-l.freed:
	default:
		t.Error("the relay is not told that there is room")
	}
	if _, ok := l.reserve(b, 100); !ok {
		t.Error("what was given back is not there")
	}
}

func TestLanes_GiveAnEndpointThatNobodyKnowsAnEighth(t *testing.T) {
	t.Parallel()
	l := newLanes(16, 1600, nil, nil)
	a := anEndpoint(1)
	for range 2 {
		if _, ok := l.reserve(a, 100); !ok {
			t.Fatal("there is room")
		}
	}
	if _, ok := l.reserve(a, 1); ok {
		t.Error("an endpoint that has not answered yet gets more than an eighth of the room")
	}
	l.lane(a).pace = time.Millisecond
	if _, ok := l.reserve(a, 100); !ok {
		t.Error("once it has answered, it does not get more")
	}
}

func TestLanes_RefuseAnEndpointThatHangsAndNotTheOthers(t *testing.T) {
	t.Parallel()
	l := newLanes(1, 1000, nil, nil)
	hangs, fine := anEndpoint(1), anEndpoint(2)
	l.lane(hangs).underWay[&delivery{}] = time.Now().Add(-3 * time.Second)
	if wait, ok := l.reserve(hangs, 1); ok || wait < 3*time.Second {
		t.Errorf("the endpoint that hangs: %t, ask again in %s", ok, wait)
	}
	if _, ok := l.reserve(fine, 100); !ok {
		t.Error("the other endpoint is refused")
	}
	l.lane(fine).pace = time.Second
	if wait, ok := l.reserve(fine, 1); ok || wait < 100*time.Second {
		t.Errorf("a hundred at a second each: %t, ask again in %s", ok, wait)
	}
}

func TestLanes_ForgetIdleOnesOnly(t *testing.T) {
	t.Parallel()
	l := newLanes(1, 1000, nil, nil)
	idle, reserved, busy, recent := anEndpoint(1), anEndpoint(2), anEndpoint(3), anEndpoint(4)
	for _, id := range []subscriptions.EndpointID{idle, reserved, busy, recent} {
		l.lane(id).usedAt = time.Now().Add(-time.Hour)
	}
	l.lane(reserved).reserved = 1
	l.lane(busy).workers = 1
	l.lane(recent).usedAt = time.Now()
	l.forgetIdle(time.Now().Add(-time.Minute))
	for id, want := range map[subscriptions.EndpointID]bool{idle: false, reserved: true, busy: true, recent: true} {
		if l.byEndpoint[id] != nil != want {
			t.Errorf("%s is kept: %t", id, !want)
		}
	}
}

func TestLanes_WhenClosedSendNothingThatIsQueued(t *testing.T) {
	t.Parallel()
	results := make(chan result, 10)
	begun, release := make(chan *delivery, 10), make(chan struct{})
	l := newLanes(2, 1000, func(d *delivery) result {
		begun <- d
		<-release
		return result{delivery: d}
	}, results)
	c := aChunk(anEndpoint(1), 1, 10)
	l.reserve(c.endpointID, 10)
	l.take(c)
	<-begun
	<-begun
	l.close()
	if _, ok := l.reserve(anEndpoint(2), 1); ok {
		t.Error("closed lanes take on more")
	}
	close(release)
	l.workers.Wait()
	if len(begun) != 0 || len(results) != 2 {
		t.Errorf("%d results, %d begun after the close; want the 2 under way", len(results), len(begun))
	}
}

func TestLanes_HoldAChunkUntilItsLastResult(t *testing.T) {
	t.Parallel()
	l := newLanes(1, 1000, func(d *delivery) result { return result{delivery: d} }, make(chan result, 10))
	c := aChunk(anEndpoint(1), 17, 3)
	l.reserve(c.endpointID, 3)
	l.take(c)
	l.workers.Wait()
	l.settle(c, 2, false)
	if l.holds(17) != c || len(l.heldJobs()) != 1 || l.room() != 999 {
		t.Error("the chunk is not held while a delivery is left")
	}
	again := aChunk(c.endpointID, 17, 3) // the job came back, as another chunk
	l.reserve(c.endpointID, 3)
	l.take(again)
	l.settle(c, 1, true)
	if l.holds(17) != again {
		t.Error("the old chunk's end lets go of the new one")
	}
	l.workers.Wait()
	l.settle(again, 3, true)
	if l.holds(17) != nil || l.room() != 1000 {
		t.Error("the chunk is held for ever")
	}
}

// The recorder here settles each result; deliveries of many chunks and endpoints
// run at once.
func TestLanes_SendEachDeliveryOnceWithinTheBound(t *testing.T) {
	t.Parallel()
	const takers, rounds, size, inFlight = 8, 50, 20, 3
	var busy [takers / 2]atomic.Int32
	var mu sync.Mutex
	sent := map[*delivery]int{}
	results := make(chan result)
	l := newLanes(inFlight, takers*rounds*size, func(d *delivery) result {
		lane := &busy[d.event.createdAt.Unix()]
		if n := lane.Add(1); n > inFlight {
			t.Errorf("%d in flight to one endpoint, at most %d are allowed", n, inFlight)
		}
		mu.Lock()
		sent[d]++
		mu.Unlock()
		lane.Add(-1)
		return result{delivery: d}
	}, results)
	recorded := inBackground(func() {
		for res := range results {
			c := res.delivery.chunk
			c.settled++
			l.settle(c, 1, c.settled == len(c.deliveries))
		}
	})
	var taking sync.WaitGroup
	for taker := range takers {
		taking.Go(func() {
			endpoint := taker % len(busy)
			for round := range rounds {
				c := aChunk(anEndpoint(byte(endpoint)), int64(taker*rounds+round), size)
				for i := range c.deliveries {
					c.deliveries[i].event = &event{createdAt: time.Unix(int64(endpoint), 0)}
				}
				for { // a lane that is behind refuses for a while
					if _, ok := l.reserve(c.endpointID, size); ok {
						break
					}
				}
				if round%5 == 0 {
					l.unreserve(c.endpointID, size)
					continue
				}
				l.take(c)
			}
		})
	}
	taking.Wait()
	l.workers.Wait()
	close(results)
	<-recorded
	if want := takers * rounds * size * 4 / 5; len(sent) != want {
		t.Errorf("%d deliveries were sent, want %d", len(sent), want)
	}
	for d, n := range sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", d.id, n)
		}
	}
	if l.inHand != 0 || len(l.held) != 0 {
		t.Errorf("%d deliveries of %d chunks are in hand at the end", l.inHand, len(l.held))
	}
	for id, a := range l.byEndpoint {
		if a.reserved != 0 || a.workers != 0 || len(a.queue) != 0 || len(a.underWay) != 0 {
			t.Errorf("%s: %d reserved, %d workers, %d queued, %d under way", id, a.reserved, a.workers, len(a.queue), len(a.underWay))
		}
	}
}

func TestLanes_RequestsToOneEndpointStayWithinMaxInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const bound, n = 5, 60
	var inFlight, most atomic.Int32
	full := make(chan struct{})
	var once sync.Once
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		now := inFlight.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		if now == bound {
			once.Do(func() { close(full) })
		}
		<-full // so that the bound is reached if anything reaches it
		inFlight.Add(-1)
	})
	b.endpoint(t, r.URL)
	for range n {
		b.publish(t, outbox.Event{})
	}
	b.run(t, func(c *Config) { c.MaxInFlight = bound })
	settled(t, b.Pool)
	if got := most.Load(); got != bound {
		t.Errorf("%d requests at once, want %d", got, bound)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != n {
		t.Errorf("%+v", l)
	}
}

func TestLanes_AHangingEndpointDelaysNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	hangs := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	fine := newReceiver(t, nil)
	b.endpoint(t, hangs.URL)
	b.endpoint(t, fine.URL)
	b.run(t, func(c *Config) { c.AttemptTimeout, c.Lease = 2*patience, 3*patience })
	ids := map[string]bool{}
	for i := range 120 {
		ids[b.publish(t, outbox.Event{Payload: fmt.Appendf(nil, `{"n": %d}`, i)}).String()] = true
	}
	for range ids {
		fine.next(t)
	}
	if n := len(hangs.counts()); n != 16 {
		t.Errorf("%d requests hang, want 16", n)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE status = 'delivered' AND endpoint_id =
		(SELECT id FROM posthorn.endpoints WHERE url = $1)`, hangs.URL); n != 0 {
		t.Errorf("the hanging endpoint has %d deliveries", n)
	}
	close(release)
	settled(t, b.Pool)
	fine.check(t, ids, 0)
	hangs.check(t, ids, 0)
	balanced(t, b.Pool)
}
