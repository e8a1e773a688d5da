package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// Two nodes are restarted one after the other while events flow, to endpoints that
// are quick, in order, and behind a backlog.
func TestShutdown_ARollingRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	quick, ordered, limited := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, func(http.ResponseWriter, *http.Request) {
		<-time.After(5 * time.Millisecond) // a receiver with work to do: requests are under way at every moment
	})
	b.endpoint(t, quick.URL)
	b.create(t, subscriptions.Draft{URL: ordered.URL, Ordering: subscriptions.ByKey})
	b.create(t, subscriptions.Draft{URL: limited.URL, MaxInFlight: 2})
	old := []*process{startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute}), startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute})}
	eventually(t, b.Pool, "two nodes", `SELECT count(*) = 2 FROM posthorn.nodes`)

	publishing, enough := context.WithCancel(t.Context())
	committed := make(chan map[string]bool, 1)
	go func() {
		ids := map[string]bool{}
		pace := time.NewTicker(2 * time.Millisecond) // a little more than the slow receiver takes
		defer pace.Stop()
		for n := 0; publishing.Err() == nil; n++ {
			<-pace.C
			id := b.publish(t, outbox.Event{OrderingKey: string(rune('a' + n%7)), Payload: numbered(n)})
			ids[id.String()] = true
		}
		committed <- ids
	}()
	for range 200 {
		quick.next(t)
	}
	for _, p := range old {
		must(t, p.cmd.Process.Signal(syscall.SIGTERM))
		startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute})
		select {
		case <-p.exited:
		case <-time.After(patience):
			t.Fatal("a node does not end")
		}
		if !p.cmd.ProcessState.Success() {
			t.Errorf("a node ended with %v", p.cmd.ProcessState)
		}
		for range 100 {
			quick.next(t)
		}
	}
	enough()
	ids := <-committed
	settled(t, b.Pool)
	for _, r := range []*receiver{quick, ordered, limited} {
		r.check(t, ids, 0)
	}
	ordered.checkOrder(t)
	balanced(t, b.Pool)
	t.Logf("%d events; the longest pause at the quick receiver was %s", len(ids), quick.longestPause())
}

func numbered(n int) []byte { return fmt.Appendf(nil, `{"n": %d, "key": %d}`, n, n%7) }

// longestPause is the longest time between two POSTs.
func (r *receiver) longestPause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var longest time.Duration
	for i := 1; i < len(r.journal); i++ {
		longest = max(longest, r.journal[i].at.Sub(r.journal[i-1].at))
	}
	return longest
}

// What is not under way is the others' at once, although a request hangs.
func TestShutdown_TheRestIsGivenBackWhileARequestHangs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.create(t, subscriptions.Draft{URL: r.URL, MaxInFlight: 1})
	committed := b.publishSome(t, events)
	stop := b.run(t, func(c *Config) { c.AttemptTimeout, c.Lease = 2*patience, 3*patience })
	r.next(t) // and hangs
	stopped := inBackground(stop)
	r.become(nil)
	b.run(t)
	eventually(t, b.Pool, "the other node has sent the rest", `SELECT count(*) = $1 FROM posthorn.deliveries WHERE status = 'delivered'`, events-1)
	select {
	case <-stopped:
		t.Error("the first node did not wait for its request")
	default:
	}
	close(release)
	<-stopped
	settled(t, b.Pool)
	r.check(t, committed, 0)
	balanced(t, b.Pool)
}
