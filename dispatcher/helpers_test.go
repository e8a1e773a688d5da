package dispatcher

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

// stillNode is a node that does only what a test has it do: nothing in it runs
// by itself, and what its lanes would send is kept for the test to answer.
type stillNode struct {
	*Dispatcher
	taken chan *delivery
}

func (b *bundle) stillNode(t *testing.T, change ...func(*Config)) *stillNode {
	t.Helper()
	config := b.config(t, b.Pool)
	for _, f := range change {
		f(&config)
	}
	d, err := New(config)
	must(t, err)
	n := &stillNode{d, make(chan *delivery, 50_000)}
	d.lanes.send = func(x *delivery) result {
		n.taken <- x
		return result{delivery: x}
	}
	d.lanes.results = make(chan result, cap(n.taken)) // the test's own go to the recorder
	must(t, d.start(t.Context()))
	t.Cleanup(func() { d.node.conn.Close(context.Background()) })
	return n
}

// relayAll routes and hands off every event there is.
func (n *stillNode) relayAll(t *testing.T) {
	t.Helper()
	for {
		routed, err := n.relay.step(t.Context())
		must(t, err)
		if routed == 0 {
			return
		}
	}
}

// take gives the next deliveries that the lanes would send.
func (n *stillNode) take(t *testing.T, count int) []*delivery {
	t.Helper()
	var taken []*delivery
	for range count {
		select {
		case d := <-n.taken:
			taken = append(taken, d)
		case <-time.After(patience):
			t.Fatalf("%d deliveries were handed off, want %d", len(taken), count)
		}
	}
	return taken
}

// nowhere is a URL that nothing is sent to, or that nobody listens at.
const nowhere = "http://127.0.0.1:65530/"

// relayed publishes events to one new endpoint and gives their deliveries as the lanes got them.
func (b *bundle) relayed(t *testing.T, n *stillNode, events int) []*delivery {
	t.Helper()
	b.endpoint(t, nowhere)
	for range events {
		b.publish(t, outbox.Event{})
	}
	n.relayAll(t)
	return n.take(t, events)
}

// answered is the result of an attempt that got the given status.
func (n *stillNode) answered(d *delivery, status int) result {
	v := Classify(status, nil)
	a := &attempt{startedAt: time.Now(), duration: time.Millisecond, endpointVersion: 1,
		requestHeaders: "content-type: application/json\n", status: status, verdict: v, healthEpoch: 1}
	return result{delivery: d, attempt: a, outcome: decide(v, d.attempts+1-d.scheduleStart, n.config.Retry, .5)}
}

// rawReceiver is a receiver that speaks HTTP by hand, so that it can speak it
// badly. It counts the POSTs that it has read whole.
type rawReceiver struct {
	net.Listener
	answer func(conn net.Conn, post int)

	mu    sync.Mutex
	conns []net.Conn
	posts int
}

func newRawReceiver(t *testing.T, answer func(conn net.Conn, post int)) *rawReceiver {
	t.Helper()
	return newRawReceiverOn(t, listen(t), answer)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

func newRawReceiverOn(t *testing.T, l net.Listener, answer func(conn net.Conn, post int)) *rawReceiver {
	t.Helper()
	r := &rawReceiver{Listener: l, answer: answer}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, conn)
			r.mu.Unlock()
			serving.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, conn := range r.conns {
			conn.Close()
		}
		r.mu.Unlock()
		serving.Wait()
	})
	return r
}

func (r *rawReceiver) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		r.mu.Lock()
		r.posts++
		post := r.posts
		r.mu.Unlock()
		r.answer(conn, post)
	}
}

func (r *rawReceiver) url() string { return "http://" + r.Addr().String() + "/hook" }

// seen is how many connections were made and how many POSTs came.
func (r *rawReceiver) seen() (conns, posts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns), r.posts
}

// says answers with the text, and closes the connection.
func says(text string) func(net.Conn, int) {
	return func(conn net.Conn, _ int) {
		io.WriteString(conn, text) //nolint:errcheck // the sender may have had enough
		conn.Close()
	}
}

// keepsSaying writes first and then more, over and over, until the other side
// goes away; with a pause it waits so long before each.
func keepsSaying(first, more string, pause time.Duration) func(net.Conn, int) {
	return func(conn net.Conn, _ int) {
		_, err := io.WriteString(conn, first)
		for err == nil {
			if pause > 0 && goneWithin(conn, pause) {
				return
			}
			_, err = io.WriteString(conn, more)
		}
	}
}

// saysAndHolds writes the text and leaves the connection open until the other
// side goes away.
func saysAndHolds(text string) func(net.Conn, int) {
	return func(conn net.Conn, _ int) {
		io.WriteString(conn, text) //nolint:errcheck // the sender may have had enough
		goneWithin(conn, 0)
	}
}

// goneWithin reports whether the other side closes the connection within d, or
// waits for that without limit when d is 0.
func goneWithin(conn net.Conn, d time.Duration) bool {
	if d > 0 {
		conn.SetReadDeadline(time.Now().Add(d))
		defer conn.SetReadDeadline(time.Time{})
	}
	_, err := conn.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// resets closes the connection with a TCP reset.
func resets(conn net.Conn, _ int) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}
