package dispatcher

import (
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// room is how many more deliveries the process takes on.
func (l *lanes) room() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxInHand - l.inHand
}

// The parts of the process that endpoints of which nobody knows that they answer may
// fill, all together, and that backlogs may. What is left, a quarter, is for what the
// relay hands off to the others.
const (
	suspectShare = 2
	backlogShare = 4
)

// reserve promises room for n deliveries to an endpoint, to be used by take or
// given back by unreserve. It returns false when they would wait: the endpoint is
// held back, fails, is slow or full, or the process is. They belong in its backlog
// then.
func (l *lanes) reserve(sub *subscriptions.Subscription, n int) bool {
	g, _ := l.healths.gate(sub)
	sendable := l.healths.sendable(sub)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.lane(sub)
	if g != gateOpen {
		a.allowed = 1
	}
	switch {
	case l.closed, !sendable, l.inHand+n > l.maxInHand+chunkSize,
		a.suspect && l.suspected+n > l.maxInHand/suspectShare,
		!a.quick(n, l.maxInHand, time.Now()):
		return false
	}
	a.reserved += n
	l.grow(a, n)
	return true
}

// reserveBacklog promises room for as many deliveries of an endpoint's backlog as
// its lane can use, at most most; 0 means none now.
func (l *lanes) reserveBacklog(sub *subscriptions.Subscription, most int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.lane(sub)
	n := min(most, a.appetite()-a.inHand)
	if l.closed || n <= 0 || time.Now().Before(a.waitsUntil) {
		return 0
	}
	room := l.maxInHand/backlogShare - l.backlogged
	if a.suspect {
		room = min(room, l.maxInHand/suspectShare-l.suspected)
	}
	if room <= 0 {
		l.wanting = time.Now()
		return 0
	}
	n = min(n, room)
	a.reserved += n
	l.backlogged += n
	l.grow(a, n)
	return n
}

// unreserveBacklog gives back what reserveBacklog has promised.
func (l *lanes) unreserveBacklog(id subscriptions.EndpointID, n int) {
	l.unreserve(id, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.backlogged -= n
}

// backlogsWant reports whether a backlog has got no room lately.
func (l *lanes) backlogsWant() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.wanting) < 2*ownerTick
}

func (l *lanes) unreserve(id subscriptions.EndpointID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.byEndpoint[id]
	a.reserved -= n
	l.grow(a, -n)
	l.tellFreed()
}

// grow counts n more deliveries in hand, or fewer.
func (l *lanes) grow(a *lane, n int) {
	a.inHand += n
	l.inHand += n
	if a.suspect {
		l.suspected += n
	}
}

// suspect notes whether anybody knows that the endpoint answers.
func (l *lanes) suspect(a *lane, suspect bool) {
	if a.suspect == suspect {
		return
	}
	a.suspect = suspect
	if suspect {
		l.suspected += a.inHand
	} else {
		l.suspected -= a.inHand
	}
}
