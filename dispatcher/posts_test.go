package dispatcher

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestClientErrors_AreRetriedOnTheSchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	codes := []int{400, 401, 404, 413, 422, 429, 500, 503}
	receivers := map[int]*receiver{}
	for _, code := range codes {
		receivers[code] = newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "abc")
			w.WriteHeader(code)
		})
		b.endpoint(t, receivers[code].URL)
	}
	b.run(t)
	id := b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	for _, code := range codes {
		if n := receivers[code].counts()[id.String()]; n != 3 {
			t.Errorf("%d: %d POSTs, want 3", code, n)
		}
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`); n != 3*len(codes) {
		t.Errorf("%d attempts were recorded, %d POSTs sent", n, 3*len(codes))
	}
}

func TestReusedConnection_ClosedInTheRequestIsNotSentAgainUnrecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newRawReceiver(t, func(conn net.Conn, post int) {
		if post%2 == 0 { // read, and then closed without an answer
			conn.Close()
			return
		}
		io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
	})
	b.create(t, subscriptions.Draft{URL: r.url(), MaxInFlight: 1})
	b.run(t, func(c *Config) {
		c.Retry.Schedule = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond}
	})
	b.publish(t, outbox.Event{})
	b.publish(t, outbox.Event{})
	settled(t, b.Pool)
	attempts := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`)
	if conns, posts := r.seen(); posts != attempts || attempts != 8 || conns >= posts {
		t.Errorf("%d POSTs on %d connections, %d attempts were recorded of 8", posts, conns, attempts)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts WHERE error_kind = 'reset'`); n != 4 {
		t.Errorf("%d attempts were reset, want 4", n)
	}
}

func TestTransport_KnowsNoProxy(t *testing.T) {
	t.Parallel()
	transport := transportConfig(netguard.NewGuard(loopback), nil, nil).Transport
	if transport.Proxy != nil || transport.DialTLSContext != nil || !transport.DisableCompression {
		t.Error("deliveries could go through a proxy of the environment, around the guard, or be decompressed")
	}
}
