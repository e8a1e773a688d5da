package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

func TestLanes_RefuseWhatTheProcessHasNoRoomFor(t *testing.T) {
	t.Parallel()
	l := someLanes(200, nil, nil)
	var subs []*subscriptions.Subscription
	for n := range byte(4) {
		subs = append(subs, anEnabled(n, 16))
		answers(l, subs[n], time.Microsecond)
	}
	for _, sub := range subs[:3] { // one chunk more than fits, so that a full one is never refused for ever
		if !l.reserve(sub, 100) {
			t.Fatal("there is room")
		}
	}
	if l.reserve(subs[3], 1) {
		t.Error("more is taken on than there is room for")
	}
	if room := l.room(); room != -100 {
		t.Errorf("room %d", room)
	}
	l.unreserve(subs[0].ID, 100)
	select {
	case <-l.freed:
	default:
		t.Error("the relay is not told that there is room")
	}
	if !l.reserve(subs[3], 100) {
		t.Error("what was given back is not there")
	}
}

func answers(l *lanes, sub *subscriptions.Subscription, pace time.Duration) {
	a := l.lane(sub)
	a.pace = pace
	l.suspect(a, false)
}

func TestLanes_GiveAnEndpointThatNobodyKnowsAnEighth(t *testing.T) {
	t.Parallel()
	l := someLanes(1600, nil, nil)
	a := anEnabled(1, 16)
	for range 2 {
		if !l.reserve(a, 100) {
			t.Fatal("there is room")
		}
	}
	if l.reserve(a, 1) {
		t.Error("an endpoint that has not answered yet gets more than an eighth of the room")
	}
	answers(l, a, time.Millisecond)
	if !l.reserve(a, 100) {
		t.Error("once it has answered, it does not get more")
	}
}

func TestLanes_GiveAllThatNobodyKnowsHalf(t *testing.T) {
	t.Parallel()
	l := someLanes(1600, nil, nil)
	taken := 0
	for n := range byte(20) {
		if l.reserve(anEnabled(n, 16), 100) {
			taken++
		}
	}
	known := anEnabled(21, 16)
	answers(l, known, time.Millisecond)
	if taken != 8 || !l.reserve(known, 100) {
		t.Errorf("%d hundreds of endpoints that have not answered are in hand, want 8 and room for one that answers", taken)
	}
}

func TestLanes_RefuseAnEndpointThatHangsAndNotTheOthers(t *testing.T) {
	t.Parallel()
	l := someLanes(1000, nil, nil)
	hangs, fine := anEnabled(1, 1), anEnabled(2, 1)
	l.lane(hangs).underWay[&delivery{}] = time.Now().Add(-3 * time.Second)
	if l.reserve(hangs, 1) {
		t.Error("the endpoint that hangs gets more")
	}
	answers(l, fine, time.Millisecond)
	if !l.reserve(fine, 100) {
		t.Error("the other endpoint is refused")
	}
	l.lane(fine).pace = time.Second
	if l.reserve(fine, 1) {
		t.Error("a hundred wait already, a second each, and one more is taken on")
	}
}

func TestLanes_RefuseAnEndpointThatIsHeldBack(t *testing.T) {
	t.Parallel()
	l := someLanes(1000, nil, nil)
	open, failing, fine := anEnabled(1, 8), anEnabled(2, 8), anEnabled(3, 8)
	l.healths.learn(map[subscriptions.EndpointID]health{
		open.ID:    {version: 1, breaker: BreakerOpen, until: time.Now().Add(time.Minute)},
		failing.ID: {version: 1, failures: doubtfulFailures},
	})
	if l.reserve(open, 1) || l.reserve(failing, 1) {
		t.Error("endpoints that fail are handed off to")
	}
	if !l.reserve(fine, 1) {
		t.Error("the one that does not is refused")
	}
	if got := l.reserveBacklog(open, 100); got != 1 {
		t.Errorf("after trouble an endpoint begins with %d requests at once, want 1", got)
	}
	if got := l.reserveBacklog(failing, 100); got != 8 {
		t.Errorf("its backlog gets %d, want what may be under way", got)
	}
}

func TestLanes_LeaveAQuarterToTheBacklogs(t *testing.T) {
	t.Parallel()
	l := someLanes(1600, nil, nil)
	got := 0
	for n := range byte(20) {
		sub := anEnabled(n, 100)
		answers(l, sub, time.Millisecond)
		got += l.reserveBacklog(sub, 100)
	}
	if got != 400 || !l.backlogsWant() {
		t.Errorf("the backlogs got %d, and others want room: %t", got, l.backlogsWant())
	}
	l.unreserveBacklog(anEndpoint(0), 100)
	if got := l.reserveBacklog(anEnabled(1, 300), 300); got != 100 {
		t.Errorf("of the hundred given back another got %d", got)
	}
}
