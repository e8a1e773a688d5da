package dispatcher

import (
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// lane is one endpoint's queue in this process. Its fields are guarded by lanes.mu.
type lane struct {
	id       subscriptions.EndpointID
	queue    []*delivery             // what may be sent now, in order
	keys     map[string][]*delivery  // by ordering key that is in the queue or under way: what comes behind
	underWay map[*delivery]time.Time // since when
	reserved int                     // promised to chunks that are about to come
	inHand   int                     // reserved, queued, under way, or not recorded yet
	workers  int                     // at most allowed and limit
	limit    int                     // the endpoint's own
	allowed  int                     // after trouble it begins with one and grows with each success
	rate     float64                 // requests per second; 0: no limit
	pace     time.Duration           // moving average of how long a request takes
	// waitsUntil is set when the receiver wants no more, until that is recorded.
	waitsUntil time.Time
	suspect    bool // it has not answered yet, its last answer was a failure, or it hangs
	usedAt     time.Time
}

const (
	// maxWait is how long a delivery may be expected to queue in a lane. Beyond, it
	// is left to the backlog: so a slow endpoint's deliveries fill the database and
	// not the process.
	maxWait = 2 * time.Second

	// hanging is the age from which a request under way counts as slow, so that a
	// receiver that hangs is slow before its first answer, and a pause of this
	// process is not.
	hanging        = time.Second
	soonestHanging = 300 * time.Millisecond

	// recordingTime is by when an answer is recorded, and known as the endpoint's health.
	recordingTime = 2 * time.Second

	// doubtfulFailures is how many failures in a row make an endpoint one that is
	// not handed off to.
	doubtfulFailures = 3

	// unprovenShare is the part of the process that an endpoint may fill that has not
	// answered yet.
	unprovenShare = 8

	// maxAppetite is how much of a backlog is in hand at most; backlogAhead is how
	// much time's work that is.
	maxAppetite  = 500
	backlogAhead = 500 * time.Millisecond
)

// quick reports whether n more deliveries would be sent soon.
func (a *lane) quick(n, maxInHand int, now time.Time) bool {
	switch {
	case now.Before(a.waitsUntil), a.hangs(now),
		a.pace == 0 && a.inHand+n > max(chunkSize, maxInHand/unprovenShare):
		return false
	}
	return a.expectedWait(n, now) <= maxWait
}

// expectedWait is how long the last of n more deliveries would queue.
func (a *lane) expectedWait(n int, now time.Time) time.Duration {
	pace := a.pace
	if age := a.oldest(now); age > hanging {
		pace = max(pace, age)
	}
	ahead := len(a.queue) + a.reserved + n
	wait := time.Duration(ahead) * pace / time.Duration(max(1, min(a.allowed, a.limit)))
	if a.rate > 0 {
		wait = max(wait, time.Duration(float64(ahead-1)/a.rate*float64(time.Second)))
	}
	return wait
}

// hangs reports whether all that may be under way is, one of it for too long.
func (a *lane) hangs(now time.Time) bool {
	return len(a.underWay) >= min(a.allowed, a.limit) && a.oldest(now) > a.hangingAfter()
}

// hangingAfter is the age from which a request under way says that the receiver hangs:
// sooner where it has been quick.
func (a *lane) hangingAfter() time.Duration {
	if a.pace == 0 {
		return hanging
	}
	return min(hanging, max(soonestHanging, 100*a.pace))
}

// oldest is the age of the oldest request under way.
func (a *lane) oldest(now time.Time) time.Duration {
	var oldest time.Duration
	for _, since := range a.underWay {
		oldest = max(oldest, now.Sub(since))
	}
	return oldest
}

// appetite is how many deliveries of its backlog the lane can use in hand: what it
// sends in a moment, and at least what it may have under way.
func (a *lane) appetite() int {
	wide := min(a.allowed, a.limit)
	n := wide
	if a.pace > 0 && !a.suspect {
		n = max(wide, int(min(maxAppetite, int64(wide)*int64(backlogAhead)/int64(a.pace))))
	}
	if a.rate > 0 {
		n = min(n, max(1, int(a.rate*maxWait.Seconds())))
	}
	return min(n, maxAppetite)
}

// enqueue puts a delivery at the end, behind those of its ordering key.
func (a *lane) enqueue(d *delivery) {
	if d.position != 0 {
		behind, busy := a.keys[d.key]
		if busy {
			a.keys[d.key] = append(behind, d)
			return
		}
		a.keys[d.key] = nil
	}
	a.queue = append(a.queue, d)
}

// afterKeyed lets the next of a delivery's ordering key go, or, when the delivery
// is not through with its attempts, gives back those behind it.
func (a *lane) afterKeyed(d *delivery, res result) (behind []*delivery) {
	behind = a.keys[d.key]
	if len(behind) == 0 || !res.finished() {
		delete(a.keys, d.key)
		return behind
	}
	a.queue, a.keys[d.key] = append(a.queue, behind[0]), behind[1:]
	return nil
}

// clear takes out all that is not under way.
func (a *lane) clear() []*delivery {
	queued := a.queue
	a.queue = nil
	for _, d := range queued {
		if d.position != 0 {
			queued = append(queued, a.keys[d.key]...)
			delete(a.keys, d.key)
		}
	}
	for key, behind := range a.keys { // of those under way
		queued = append(queued, behind...)
		a.keys[key] = nil
	}
	return queued
}
