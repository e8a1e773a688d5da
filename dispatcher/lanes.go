package dispatcher

import (
	"sync"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// lanes are the deliveries in this process's hands, a lane for each endpoint, so
// that a slow endpoint's wait for themselves only. It is safe for concurrent use.
type lanes struct {
	maxInFlight int
	maxInHand   int
	send        func(*delivery) result // takes a delivery's turn, in a lane's worker
	results     chan<- result          // to the recorder; full when that can't keep up

	mu         sync.Mutex
	byEndpoint map[subscriptions.EndpointID]*lane
	held       map[int64]*chunk // by River job
	inHand     int              // deliveries reserved or taken on, and not settled
	closed     bool             // shutting down: nothing is taken on any more
	abandoned  chan struct{}    // closed when results are waited for no longer
	freed      chan struct{}    // told, without waiting, when deliveries were settled
	workers    sync.WaitGroup
}

// lane is one endpoint's queue. Its fields are guarded by lanes.mu.
type lane struct {
	queue    []*delivery
	reserved int                     // promised to chunks that are about to come
	underWay map[*delivery]time.Time // since when
	workers  int                     // at most maxInFlight
	pace     time.Duration           // moving average of how long a request takes
	usedAt   time.Time
}

func newLanes(maxInFlight, maxInHand int, send func(*delivery) result, results chan<- result) *lanes {
	return &lanes{
		maxInFlight: maxInFlight, maxInHand: maxInHand, send: send, results: results,
		byEndpoint: map[subscriptions.EndpointID]*lane{},
		held:       map[int64]*chunk{},
		freed:      make(chan struct{}, 1),
		abandoned:  make(chan struct{}),
	}
}

// maxWait is how long a delivery may be expected to queue in a lane. Beyond, a
// chunk is left to its River job, which comes back later: so a slow endpoint's
// deliveries fill the database and not the process.
const maxWait = 2 * time.Second

// room is how many more deliveries the process takes on.
func (l *lanes) room() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxInHand - l.inHand
}

// reserve promises room for n deliveries to an endpoint, to be used by take or
// given back by unreserve. If the endpoint is too slow or the process too full
// it returns false and how long to wait before asking again.
func (l *lanes) reserve(id subscriptions.EndpointID, n int) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, false
	}
	a := l.lane(id)
	if a.pace == 0 && len(a.queue)+a.reserved+len(a.underWay)+n > max(chunkSize, l.maxInHand/8) {
		return maxWait, false // nobody knows yet whether it answers
	}
	wait = a.expectedWait(n, l.maxInFlight, time.Now())
	if wait > maxWait || l.inHand+n > l.maxInHand+chunkSize {
		return max(wait, maxWait), false
	}
	a.reserved += n
	l.inHand += n
	return 0, true
}

func (l *lanes) unreserve(id subscriptions.EndpointID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lane(id).reserved -= n
	l.inHand -= n
	l.tellFreed()
}

// take puts a chunk, for which room was reserved, into its lane.
func (l *lanes) take(c *chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.lane(c.endpointID)
	a.reserved -= len(c.deliveries)
	if l.closed { // the job goes back with all others
		l.inHand -= len(c.deliveries)
		return
	}
	l.held[c.jobID] = c
	for i := range c.deliveries {
		a.queue = append(a.queue, &c.deliveries[i])
	}
	for range min(l.maxInFlight-a.workers, len(a.queue)) {
		a.workers++
		l.workers.Add(1)
		go l.work(a)
	}
}

// work sends the lane's deliveries one after the other until none is left.
func (l *lanes) work(a *lane) {
	defer l.workers.Done()
	for d := l.next(a); d != nil; d = l.next(a) {
		res := l.send(d)
		l.answered(a, d) // before the recorder is waited for: its pace is not the receiver's
		select {
		case l.results <- res:
		case <-l.abandoned:
		}
	}
}

// next gives a worker its next delivery; with nil the worker has left the lane.
func (l *lanes) next(a *lane) *delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(a.queue) == 0 {
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

// answered notes how long a delivery's turn took.
func (l *lanes) answered(a *lane, d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.usedAt = time.Now()
	a.pace += (a.usedAt.Sub(a.underWay[d]) - a.pace) / 8
	delete(a.underWay, d)
}

// lane gives the endpoint's lane, a new one at need.
func (l *lanes) lane(id subscriptions.EndpointID) *lane {
	a := l.byEndpoint[id]
	if a == nil {
		a = &lane{underWay: map[*delivery]time.Time{}, usedAt: time.Now()}
		l.byEndpoint[id] = a
	}
	return a
}

// hanging is the age from which a request under way counts as slow, so that a
// receiver that hangs is slow before its first answer, and a pause of this
// process is not.
const hanging = time.Second

// expectedWait is how long the last of n more deliveries would queue.
func (a *lane) expectedWait(n, maxInFlight int, now time.Time) time.Duration {
	pace := a.pace
	for _, since := range a.underWay {
		if age := now.Sub(since); age > hanging {
			pace = max(pace, age)
		}
	}
	return time.Duration(len(a.queue)+a.reserved+n) * pace / time.Duration(maxInFlight)
}

// settle notes that the results of n of the chunk's deliveries are committed,
// or that they were let go; last says that these were all that were left.
func (l *lanes) settle(c *chunk, n int, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inHand -= n
	if last && l.held[c.jobID] == c { // a lost chunk's job may have come back as another
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

// heldJobs are the River jobs whose chunks are in this process's hands.
func (l *lanes) heldJobs() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	jobs := make([]int64, 0, len(l.held))
	for id := range l.held {
		jobs = append(jobs, id)
	}
	return jobs
}

// close stops taking on chunks and drops what is queued; requests under way go
// on. The dropped deliveries are unfinished in the database, where their jobs
// are given back.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, a := range l.byEndpoint {
		a.queue = nil
	}
}

// lose marks everything in hand as another's: what is not sent yet is let go.
func (l *lanes) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.held {
		c.lost.Store(true)
	}
}

// forgetIdle drops the lanes that have been empty for a while.
func (l *lanes) forgetIdle(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.byEndpoint {
		if len(a.queue)+a.reserved+a.workers == 0 && a.usedAt.Before(before) {
			delete(l.byEndpoint, id)
		}
	}
}

// holds gives the chunk of a River job that is in this process's hands, or nil.
func (l *lanes) holds(jobID int64) *chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[jobID]
}
