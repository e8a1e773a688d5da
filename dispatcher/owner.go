package dispatcher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// owner works one endpoint's backlog off, for as long as this node has the
// backlog's job. Only the owner sends what the backlog holds, so that deliveries
// of one ordering key can be kept in order without asking anybody.
type owner struct {
	*feeder
	endpointID  subscriptions.EndpointID
	jobID       int64
	lease       *lease
	order       *order // of the deliveries with ordering keys; the run loop's alone
	since       time.Time
	unorderedAt time.Time       // when unordered deliveries were last looked for
	fruitless   int             // looks in a row that found nothing to load though something is due
	before      <-chan struct{} // closed when the owner before this one, in this process, is through
	ended       chan struct{}   // closed when this one is

	again chan struct{} // told to look again

	mu       sync.Mutex
	inHand   map[DeliveryID]bool
	recorded []recordedDelivery // since the run loop last looked
}

// recordedDelivery is what the order must know of a delivery that left the hand.
type recordedDelivery struct {
	key   string
	delay time.Duration // until its next attempt; 0: it is through, or was given back
}

func newOwner(f *feeder, endpoint subscriptions.EndpointID, jobID int64, held *lease) *owner {
	return &owner{feeder: f, endpointID: endpoint, jobID: jobID, lease: held, order: newOrder(), since: time.Now(),
		ended: make(chan struct{}),
		again: make(chan struct{}, 1), inHand: map[DeliveryID]bool{}}
}

func (o *owner) poke() {
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// The owner's looks at the database when nothing tells it to look: deliveries that
// other nodes add, and due times.
const (
	ownerTick   = 500 * time.Millisecond
	orderedTick = 100 * time.Millisecond
	// laneTick is how soon an owner looks whether its lane has room.
	laneTick = 50 * time.Millisecond
	// ownerPatience is how long an owner with nothing to send stays, where others
	// may add to the backlog at any moment: coming back means reading it anew.
	ownerPatience = 30 * time.Second
	// ownerTurn is how long a backlog is worked off at least, while others want the room.
	ownerTurn = 2 * time.Second
	// ownersAtOnce is how many owners use the database at once.
	ownersAtOnce = 3
	// failedPause is the pause after a database's error.
	failedPause = time.Second
)

// run feeds the lane until the backlog has ended, is parked, or is another's.
func (o *owner) run() {
	for o.lease.held() {
		next, err := o.takeTurn()
		switch {
		case err != nil:
			o.logger.Error("a backlog will be looked at again", "endpoint", o.endpointID, "error", err)
			o.rest(failedPause)
		case next == stepEnd:
			return
		case next == stepWait:
			o.rest(o.tick())
		case next == stepSoon:
			o.rest(laneTick)
		}
	}
}

// takeTurn takes a step when not too many owners are at theirs.
func (o *owner) takeTurn() (next, error) {
	o.turns <- struct{}{}
	defer func() { <-o.turns }()
	if !o.lease.held() {
		return stepAgain, nil // it was lost while it waited
	}
	return o.step()
}

// drop waits, after the backlog was lost, until nothing of it is in hand: the next
// owner in this process must not load what may be under way.
func (o *owner) drop() {
	for o.catchUp() {
		select {
		case <-o.lanes.abandoned:
			return
		case <-o.again:
		}
	}
}

func (o *owner) tick() time.Duration {
	if o.order.tracking() {
		return orderedTick
	}
	return ownerTick
}

func (o *owner) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.again:
	case <-timer.C:
	}
}

// next says what a step leads to.
type next int

const (
	stepAgain next = iota
	stepWait
	stepSoon
	stepEnd
)

// step looks at what the endpoint is and may get now, and does the next thing.
func (o *owner) step() (next, error) {
	busy := o.catchUp()
	sub := o.directory.Get(o.endpointID)
	switch {
	case o.isClosing():
		return o.whenIdle(busy, func() error { return o.park(time.Time{}) })
	case sub == nil:
		return o.whenIdle(busy, func() error { return o.settleAll(Cancelled, endpointDeleted) })
	case sub.Status != subscriptions.Enabled:
		return o.whenIdle(busy, func() error { return o.settleAll(Held, "") })
	}
	switch gate, _ := o.healths.gate(sub); gate {
	case gateClosed:
		return o.whenIdle(busy, func() error { return o.parkHeldBack(sub) })
	case gateProbe:
		if busy {
			return stepWait, nil
		}
		return o.probe(sub)
	}
	return o.feed(sub, busy)
}

func (o *owner) isClosing() bool {
	select {
	case <-o.closing:
		return true
	default:
		return false
	}
}

// whenIdle does what ends the ownership, once nothing is in hand.
func (o *owner) whenIdle(busy bool, end func() error) (next, error) {
	if busy {
		return stepWait, nil
	}
	if err := end(); err != nil {
		return stepWait, err
	}
	return stepEnd, nil
}

// catchUp takes over what has been recorded and reports whether anything is in hand.
func (o *owner) catchUp() (busy bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.recorded {
		o.order.recorded(r, time.Now())
	}
	o.recorded = o.recorded[:0]
	return len(o.inHand) > 0
}

// feed loads what the lane can use. With nothing left it ends the backlog; after its
// turn it leaves it when others want the room, and comes back behind the smaller ones.
func (o *owner) feed(sub *subscriptions.Subscription, busy bool) (next, error) {
	if time.Since(o.since) > ownerTurn && o.lanes.backlogsWant() {
		return o.whenIdle(busy, func() error { return o.park(time.Time{}) })
	}
	room := o.lanes.reserveBacklog(sub, maxAppetite)
	if room == 0 {
		if !busy && o.lanes.backlogsWant() { // the process is full of others' deliveries
			return o.whenIdle(false, func() error { return o.park(o.healths.clock.Now().Add(ownerTick)) })
		}
		return stepSoon, nil // the lane is at what was handed off to it
	}
	n, err := o.load(room, false)
	o.lanes.unreserveBacklog(o.endpointID, room-n)
	switch {
	case err != nil:
		return stepWait, err
	case n == room:
		return stepWait, nil // told when there is room again
	case n > 0 || busy:
		return stepWait, nil
	}
	return o.finish()
}

// probe sends one delivery to see whether the endpoint answers again, unless
// another node does.
func (o *owner) probe(sub *subscriptions.Subscription) (next, error) {
	if o.lanes.reserveBacklog(sub, 1) == 0 {
		return o.whenIdle(false, func() error { return o.park(o.healths.clock.Now().Add(ownerTick)) })
	}
	n, err := o.load(1, true)
	o.lanes.unreserveBacklog(o.endpointID, 1-n)
	switch {
	case errors.Is(err, errProbeTaken):
		return stepWait, nil
	case err != nil:
		return stepWait, err
	case n == 0:
		return o.finish()
	}
	return stepWait, nil
}

// load loads up to most deliveries into the lane and returns how many. A probe is
// claimed only when there is something to send.
func (o *owner) load(most int, probe bool) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	c, err := o.pick(ctx, most)
	if err != nil || c == nil {
		return 0, err
	}
	if probe {
		claimed, err := o.healths.claimProbe(ctx, o.pool, o.endpointID, o.probeTime)
		if err == nil && !claimed {
			err = errProbeTaken
		}
		if err != nil {
			return 0, err
		}
		c.deliveries[0].probe = true
	}
	o.mu.Lock()
	for i := range c.deliveries {
		o.inHand[c.deliveries[i].id] = true
	}
	o.mu.Unlock()
	o.order.taken(c)
	o.fruitless = 0
	o.lanes.take(c)
	o.reaching.at(backlogHandedOver)
	return len(c.deliveries), nil
}

// settled is told by the recorder of results that are committed, or let go of.
func (o *owner) settled(batch []result) {
	o.mu.Lock()
	for _, res := range batch {
		delete(o.inHand, res.delivery.id)
		if d := res.delivery; d.position != 0 {
			r := recordedDelivery{key: d.key}
			if res.retries() {
				r.delay = res.outcome.delay
			}
			o.recorded = append(o.recorded, r)
		}
	}
	o.mu.Unlock()
	o.poke()
}

// untake takes a chunk back that the lanes did not accept.
func (o *owner) untake(c *chunk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range c.deliveries {
		delete(o.inHand, c.deliveries[i].id)
	}
}
