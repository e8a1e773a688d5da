package dispatcher

import (
	"fmt"
	"net/http"
	"slices"
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

// anEnabled is an endpoint that takes up to inFlight requests at once.
func anEnabled(n byte, inFlight int) *subscriptions.Subscription {
	return &subscriptions.Subscription{Endpoint: subscriptions.Endpoint{
		ID: anEndpoint(n), Status: subscriptions.Enabled, MaxInFlight: inFlight}}
}

func someLanes(maxInHand int, send func(*delivery) result, results chan<- result) *lanes {
	return newLanes(maxInHand, newHealths(&clock{}), newRateLimiter(nil, nil), send, results)
}

func aChunk(endpoint subscriptions.EndpointID, job int64, n int) *chunk {
	c := &chunk{jobID: job, endpointID: endpoint, deliveries: make([]delivery, n), lease: newLease(time.Now(), time.Hour)}
	(&parcel{}).pack(c)
	for i := range c.deliveries {
		c.deliveries[i] = delivery{chunk: c, id: typeid.New[deliveryKind]()}
	}
	return c
}

// An endpoint that was quick begins to hang with much in its queue: that is given
// back, so that the others have the room.
func TestLanes_GiveBackTheQueueOfAnEndpointThatBeginsToHang(t *testing.T) {
	t.Parallel()
	results := make(chan result, 200)
	hang := make(chan struct{})
	l := someLanes(1600, func(d *delivery) result {
		<-hang
		return result{delivery: d}
	}, results)
	sub := anEnabled(1, 2)
	answers(l, sub, time.Microsecond)
	c := aChunk(sub.ID, 1, 100)
	l.reserve(sub, 100)
	l.take(c)
	a := l.lane(sub)
	l.mu.Lock()
	for len(a.underWay) < 2 { // both of its workers are at it
		l.mu.Unlock()
		l.mu.Lock()
	}
	for d := range a.underWay {
		a.underWay[d] = time.Now().Add(-2 * hanging)
	}
	l.mu.Unlock()
	l.watch(time.Now().Add(-time.Hour))
	for range 98 {
		if res := <-results; res.released != releasedAside {
			t.Errorf("released %q", res.released)
		}
	}
	if l.reserve(sub, 1) || l.reserveBacklog(sub, 100) != 0 {
		t.Error("it gets more")
	}
	close(hang)
	l.workers.Wait()
}

// What the receiver says holds from the moment at which it says so.
func TestLanes_SendNothingMoreOnceTheReceiverWantsNoMore(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]Verdict{"gone": {Gone: true}, "a pause": {RetryAfter: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results := make(chan result, 200)
			l := someLanes(1600, func(d *delivery) result {
				return result{delivery: d, attempt: &attempt{verdict: v}, outcome: outcome{status: Retrying}}
			}, results)
			sub := anEnabled(1, 4)
			answers(l, sub, time.Microsecond)
			c, late := aChunk(sub.ID, 1, 100), aChunk(sub.ID, 2, 50)
			l.reserve(sub, 100)
			l.reserve(sub, 50) // by a relay whose transaction is under way still
			l.take(c)
			l.workers.Wait()
			l.take(late)
			l.workers.Wait()
			close(results)
			if len(results) != 150 {
				t.Errorf("%d of 150 are settled", len(results))
			}
			sent := 0
			for res := range results {
				if res.attempt != nil {
					sent++
				}
			}
			if sent > 4 || len(results) != 0 {
				t.Errorf("%d were sent, want what was under way, 4 at most", sent)
			}
			if l.reserve(sub, 1) || l.reserveBacklog(sub, 100) != 0 {
				t.Error("it gets more")
			}
		})
	}
}

// answers makes an endpoint one that is known to answer at that pace.
func TestLanes_AfterTroubleAnEndpointGrowsWithItsSuccesses(t *testing.T) {
	t.Parallel()
	l := someLanes(1000, nil, nil)
	sub := anEnabled(1, 5)
	a := l.lane(sub)
	a.allowed = 1
	for want := 2; want < 8; want++ {
		d := &delivery{}
		a.underWay[d] = time.Now()
		l.answered(a, d, result{delivery: d, attempt: &attempt{verdict: Verdict{Delivered: true}}})
		if a.allowed != min(want, 5) {
			t.Errorf("allowed %d, want %d", a.allowed, min(want, 5))
		}
	}
}

func TestLanes_ForgetIdleOnesOnly(t *testing.T) {
	t.Parallel()
	l := someLanes(1000, nil, nil)
	idle, reserved, busy, recent := anEnabled(1, 1), anEnabled(2, 1), anEnabled(3, 1), anEnabled(4, 1)
	for _, sub := range []*subscriptions.Subscription{idle, reserved, busy, recent} {
		l.lane(sub).usedAt = time.Now().Add(-time.Hour)
	}
	l.lane(reserved).inHand = 1
	l.lane(busy).workers = 1
	l.lane(recent).usedAt = time.Now()
	l.watch(time.Now().Add(-time.Minute))
	for sub, want := range map[*subscriptions.Subscription]bool{idle: false, reserved: true, busy: true, recent: true} {
		if l.byEndpoint[sub.ID] != nil != want {
			t.Errorf("%s is kept: %t", sub.ID, !want)
		}
	}
}

func TestLanes_WhenClosedGiveBackWhatIsQueued(t *testing.T) {
	t.Parallel()
	results := make(chan result, 10)
	begun, release := make(chan *delivery, 10), make(chan struct{})
	l := someLanes(1000, func(d *delivery) result {
		begun <- d
		<-release
		return result{delivery: d}
	}, results)
	sub := anEnabled(1, 2)
	c := aChunk(sub.ID, 1, 10)
	l.reserve(sub, 10)
	l.take(c)
	<-begun
	<-begun
	l.close()
	if l.reserve(anEnabled(2, 2), 1) || l.reserveBacklog(anEnabled(2, 2), 1) != 0 {
		t.Error("closed lanes take on more")
	}
	aside := 0
	for range 8 { // while two are under way still
		if res := <-results; res.released == releasedAside {
			aside++
		}
	}
	close(release)
	l.workers.Wait()
	if len(begun) != 0 || aside != 8 {
		t.Errorf("%d given back, %d begun after the close", aside, len(begun))
	}
}

func TestLanes_HoldAChunkUntilItsLastResult(t *testing.T) {
	t.Parallel()
	l := someLanes(1000, func(d *delivery) result { return result{delivery: d} }, make(chan result, 10))
	sub := anEnabled(1, 1)
	c := aChunk(sub.ID, 17, 3)
	l.reserve(sub, 3)
	l.take(c)
	l.workers.Wait()
	l.settle(c, 2, false)
	if l.holds(17) != c || len(l.leases()) != 1 || l.room() != 999 {
		t.Error("the chunk is not held while a delivery is left")
	}
	again := aChunk(sub.ID, 17, 3) // the job came back, as another chunk
	l.reserve(sub, 3)
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

// One key's next is sent when the one before it is through; when that has failed,
// those behind it are given back.
func TestLanes_SendTheDeliveriesOfAKeyOneAfterTheOther(t *testing.T) {
	t.Parallel()
	results := make(chan result, 20)
	var mu sync.Mutex
	busy := map[string]bool{}
	var sent []int64
	l := someLanes(1000, func(d *delivery) result {
		mu.Lock()
		if busy[d.key] {
			t.Errorf("two of key %s at once", d.key)
		}
		busy[d.key] = true
		sent = append(sent, d.position)
		mu.Unlock()
		defer func() { mu.Lock(); busy[d.key] = false; mu.Unlock() }()
		if d.key == "fails" && d.position == 12 {
			return result{delivery: d, outcome: outcome{status: Retrying}}
		}
		return result{delivery: d, outcome: outcome{status: Delivered}}
	}, results)
	sub := anEnabled(1, 16)
	c := aChunk(sub.ID, 1, 10)
	for i := range c.deliveries {
		d := &c.deliveries[i]
		d.key, d.position = "works", int64(i+1)
		if i >= 5 {
			d.key, d.position = "fails", int64(i+6) // 11 to 15
		}
	}
	l.reserve(sub, 10)
	l.take(c)
	l.workers.Wait()
	close(results)
	aside := 0
	for res := range results {
		if res.released == releasedAside {
			aside++
		}
	}
	slices.Sort(sent)
	if want := []int64{1, 2, 3, 4, 5, 11, 12}; !slices.Equal(sent, want) || aside != 3 {
		t.Errorf("sent %v and gave %d back; want %v and 3", sent, aside, want)
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
	l := someLanes(2*takers*rounds*size, func(d *delivery) result {
		lane := &busy[d.event.createdAt.Unix()]
		if n := lane.Add(1); n > inFlight {
			t.Errorf("%d in flight to one endpoint, at most %d are allowed", n, inFlight)
		}
		mu.Lock()
		sent[d]++
		mu.Unlock()
		lane.Add(-1)
		return result{delivery: d, attempt: &attempt{verdict: Verdict{Delivered: true}}}
	}, results)
	recorded := inBackground(func() {
		for res := range results {
			c := res.delivery.chunk
			c.parcel.settled++
			l.settle(c, 1, c.parcel.settled == c.parcel.size)
		}
	})
	var taking sync.WaitGroup
	for taker := range takers {
		taking.Go(func() {
			endpoint := taker % len(busy)
			sub := anEnabled(byte(endpoint), inFlight)
			for round := range rounds {
				c := aChunk(sub.ID, int64(taker*rounds+round), size)
				for i := range c.deliveries {
					c.deliveries[i].event = &event{createdAt: time.Unix(int64(endpoint), 0)}
				}
				for !l.reserve(sub, size) { // a lane that is behind refuses for a while
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
	if l.inHand != 0 || len(l.held) != 0 || l.suspected != 0 {
		t.Errorf("%d deliveries of %d chunks are in hand at the end, %d of suspects", l.inHand, len(l.held), l.suspected)
	}
	for id, a := range l.byEndpoint {
		if a.reserved != 0 || a.workers != 0 || len(a.queue) != 0 || len(a.underWay) != 0 {
			t.Errorf("%s: %d reserved, %d workers, %d queued, %d under way", id, a.reserved, a.workers, len(a.queue), len(a.underWay))
		}
	}
}

func TestLanes_EmployNoMoreWorkersThanMaxInFlight(t *testing.T) {
	t.Parallel()
	const bound, n = 5, 60
	release := make(chan struct{})
	var busy, most atomic.Int32
	l := someLanes(1000, func(d *delivery) result {
		now := busy.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-release
		busy.Add(-1)
		return result{delivery: d, attempt: &attempt{verdict: Verdict{Delivered: true}}}
	}, make(chan result, n))
	sub := anEnabled(1, bound)
	for range 3 {
		if !l.reserve(sub, n/3) {
			t.Fatal("there is room")
		}
		l.take(aChunk(sub.ID, 1, n/3))
	}
	l.mu.Lock()
	if workers := l.byEndpoint[sub.ID].workers; workers != bound {
		t.Errorf("%d workers for %d deliveries, want %d", workers, n, bound)
	}
	l.mu.Unlock()
	close(release)
	l.workers.Wait()
	if got := most.Load(); got > bound {
		t.Errorf("%d requests at once, want at most %d", got, bound)
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
	b.create(t, subscriptions.Draft{URL: r.URL, MaxInFlight: bound})
	for range n {
		b.publish(t, outbox.Event{})
	}
	b.run(t)
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
