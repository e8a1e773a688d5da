package dispatcher

import (
	"sync"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// lanes are the deliveries in this process's hands, a lane for each endpoint, so
// that a slow endpoint's wait for themselves only. It is safe for concurrent use.
type lanes struct {
	maxInHand int
	healths   *healths
	limiter   *rateLimiter
	send      func(*delivery) result // takes a delivery's turn, in a lane's worker
	results   chan<- result          // to the recorder; full when that can't keep up

	mu         sync.Mutex
	byEndpoint map[subscriptions.EndpointID]*lane
	held       map[int64]*chunk // by River job, one of its chunks; the parts of backlogs are their owners'
	inHand     int              // deliveries reserved or taken on, and not settled
	suspected  int              // of them those of suspect lanes
	backlogged int              // of them those of backlogs
	wanting    time.Time        // when a backlog last got no room
	closed     bool             // shutting down: nothing is taken on any more
	abandoned  chan struct{}    // closed when results are waited for no longer
	abandon    func()           // closes it
	freed      chan struct{}    // told, without waiting, when deliveries were settled
	workers    sync.WaitGroup
}

func newLanes(maxInHand int, healths *healths, limiter *rateLimiter, send func(*delivery) result, results chan<- result) *lanes {
	abandoned := make(chan struct{})
	return &lanes{
		maxInHand: maxInHand, healths: healths, limiter: limiter, send: send, results: results,
		byEndpoint: map[subscriptions.EndpointID]*lane{},
		held:       map[int64]*chunk{},
		freed:      make(chan struct{}, 1),
		abandoned:  abandoned, abandon: sync.OnceFunc(func() { close(abandoned) }),
	}
}

// take puts a chunk, for which room was reserved, into its lane.
func (l *lanes) take(c *chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.byEndpoint[c.endpointID]
	a.reserved -= len(c.deliveries)
	if l.closed { // the job goes back with all others
		l.grow(a, -len(c.deliveries))
		if c.owner != nil {
			l.backlogged -= len(c.deliveries)
			c.owner.untake(c)
		}
		return
	}
	if c.owner == nil {
		l.held[c.jobID] = c
	}
	for i := range c.deliveries {
		a.enqueue(&c.deliveries[i])
	}
	if time.Now().Before(a.waitsUntil) {
		l.giveBack(a)
		return
	}
	l.employ(a)
}

// employ starts as many workers as the lane may have and can use.
func (l *lanes) employ(a *lane) {
	for range min(min(a.allowed, a.limit)-a.workers, len(a.queue)) {
		a.workers++
		l.workers.Add(1)
		go l.work(a)
	}
}

// work sends the lane's deliveries one after the other until none is left.
func (l *lanes) work(a *lane) {
	defer l.workers.Done()
	for {
		if rate, wanted := l.rate(a); rate > 0 && wanted > 0 && !l.limiter.wait(a.id, rate, wanted) {
			l.leave(a)
			return
		}
		d := l.next(a)
		if d == nil {
			return
		}
		res := l.send(d)
		for _, behind := range l.answered(a, d, res) { // before the recorder is waited for: its pace is not the receiver's
			l.record(result{delivery: behind, released: releasedAside})
		}
		l.record(res)
	}
}

func (l *lanes) record(res result) {
	select {
	case l.results <- res:
	case <-l.abandoned:
	}
}

func (l *lanes) rate(a *lane) (perSecond float64, queued int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return a.rate, len(a.queue)
}

// leave ends a worker that has no slot to wait for.
func (l *lanes) leave(a *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.workers--
}

// next gives a worker its next delivery; with nil the worker has left the lane.
func (l *lanes) next(a *lane) *delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(a.queue) == 0 || a.workers > min(a.allowed, a.limit) || time.Now().Before(a.waitsUntil) {
		a.workers--
		return nil
	}
	d := a.queue[0]
	a.queue[0] = nil
	if a.queue = a.queue[1:]; len(a.queue) == 0 {
		a.queue = nil // lets go of the array
	}
	a.underWay[d] = time.Now()
	return d
}

// answered notes how long a delivery's turn took and what came of it. It returns
// the deliveries of the same ordering key that must wait for its next attempt.
func (l *lanes) answered(a *lane, d *delivery, res result) (behind []*delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	a.usedAt = now
	if res.attempt != nil {
		a.pace += (now.Sub(a.underWay[d]) - a.pace) / 8
		l.suspect(a, !res.attempt.verdict.Delivered)
		if res.attempt.verdict.Delivered && a.allowed < a.limit {
			a.allowed++
		}
		if res.attempt.verdict.wantsNoMore() {
			// At once; for all nodes, and for as long as it says, as soon as it is recorded.
			a.allowed, a.waitsUntil = 1, now.Add(recordingTime)
			l.giveBack(a)
		}
	}
	delete(a.underWay, d)
	if d.position != 0 {
		behind = a.afterKeyed(d, res)
	}
	l.employ(a)
	return behind
}

// lane gives the endpoint's lane, a new one at need, with the endpoint's limits of now.
func (l *lanes) lane(sub *subscriptions.Subscription) *lane {
	a := l.byEndpoint[sub.ID]
	if a == nil {
		a = &lane{id: sub.ID, allowed: sub.MaxInFlight, suspect: true,
			underWay: map[*delivery]time.Time{}, keys: map[string][]*delivery{}, usedAt: time.Now()}
		l.byEndpoint[sub.ID] = a
	}
	if a.limit != sub.MaxInFlight {
		a.limit, a.allowed = sub.MaxInFlight, max(a.allowed, min(sub.MaxInFlight, subscriptions.DefaultMaxInFlight))
	}
	a.rate = sub.RateLimitPerSecond
	return a
}

// settle notes that the results of n of the chunk's deliveries are committed,
// or that they were let go; last says that nothing is left of its parcel.
func (l *lanes) settle(c *chunk, n int, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.byEndpoint[c.endpointID]; a != nil {
		l.grow(a, -n)
	}
	if c.owner != nil {
		l.backlogged -= n
	}
	if held := l.held[c.jobID]; last && held != nil && held.parcel == c.parcel { // a lost one's job may have come back as another
		delete(l.held, c.jobID)
	}
	l.tellFreed()
}

func (l *lanes) tellFreed() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// leases are those of the River jobs whose chunks are in this process's hands.
func (l *lanes) leases() map[int64]*lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	leases := make(map[int64]*lease, len(l.held))
	for id, c := range l.held {
		leases[id] = c.lease
	}
	return leases
}

// close stops taking on chunks and gives back what is queued; requests under way
// go on.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var queued []*delivery
	for _, a := range l.byEndpoint {
		queued = append(queued, a.clear()...)
	}
	l.workers.Go(func() {
		for _, d := range queued {
			l.record(result{delivery: d, released: releasedAside})
		}
	})
}

// flush gives back what is queued for an endpoint that is held back or paused now.
func (l *lanes) flush(id subscriptions.EndpointID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.byEndpoint[id]
	if a == nil || l.closed {
		return
	}
	a.allowed = 1
	l.giveBack(a)
}

// giveBack gives back what a lane has queued, beside its caller, which may be the
// recorder.
func (l *lanes) giveBack(a *lane) {
	if l.closed {
		return // close has given it back
	}
	queued := a.clear()
	if queued == nil {
		return
	}
	l.workers.Go(func() {
		for _, d := range queued {
			l.record(result{delivery: d, released: releasedAside})
		}
	})
}

// lose marks everything in hand as another's: what is not sent yet is let go.
func (l *lanes) lose() {
	for _, held := range l.leases() {
		held.lose()
	}
}

// watch marks the lanes whose requests hang, and drops those that have been empty
// since before.
func (l *lanes) watch(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for id, a := range l.byEndpoint {
		if a.hangs(now) {
			l.suspect(a, true)
			l.giveBack(a) // nothing of it would be sent soon
		}
		l.employ(a) // workers may have left while it was to wait
		if a.inHand+a.workers == 0 && a.usedAt.Before(before) {
			delete(l.byEndpoint, id)
			l.limiter.forget(id)
		}
	}
}

// holds gives a chunk of a River job that is in this process's hands, or nil.
func (l *lanes) holds(jobID int64) *chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[jobID]
}
