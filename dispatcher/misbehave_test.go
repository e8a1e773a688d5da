package dispatcher

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/outbox"
)

// misbehaviour is what a receiver does and what is to be recorded of it. There
// are no retries: every event gets one attempt.
type misbehaviour struct {
	name   string
	answer func(net.Conn, int)
	status int       // 0: none came
	kind   ErrorKind // "": it counts as delivered
	body   string    // what the log keeps of the answer's body; "-" is not looked at
}

// tenMegabytes of one header line each.
var tenMegabytes = sync.OnceValue(func() string { return strings.Repeat("X-Long: "+strings.Repeat("x", 1014)+"\r\n", 10<<10) })

// quick are those that are over at once. A function: the test binary is also the
// process that is weighed.
func quick() []misbehaviour {
	return []misbehaviour{
		{"ok", says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), 200, "", "ok"},
		{"created", says("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"), 201, "", ""},
		{"no_content", says("HTTP/1.1 204 No Content\r\n\r\n"), 204, "", ""},
		{"early_hints_first", says("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, "", ""},
		{"http_1_0", says("HTTP/1.0 200 OK\r\n\r\nold"), 200, "", "old"},
		{"not_modified", says("HTTP/1.1 304 Not Modified\r\n\r\n"), 304, KindHTTPStatus, ""},
		{"redirect_without_location", says("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), 302, KindHTTPStatus, ""},
		{"redirect_308_to_itself", says("HTTP/1.1 308 Permanent Redirect\r\nLocation: /hook\r\nContent-Length: 0\r\n\r\n"), 308, KindHTTPStatus, ""},
		{"gone", says("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"), 410, KindHTTPStatus, ""},
		{"status_beyond_599", says("HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), 999, KindHTTPStatus, ""},
		{"unasked_authentication", says("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), 401, KindHTTPStatus, ""},
		{"endless_body_after_500", keepsSaying("HTTP/1.1 500 Oops\r\n\r\n", strings.Repeat("y", 4096), 0), 500, KindHTTPStatus, strings.Repeat("y", keptResponseBodyBytes)},
		{"endless_body_after_200", keepsSaying("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("z", 4096), 0), 200, "", strings.Repeat("z", keptResponseBodyBytes)},
		{"endless_chunks", keepsSaying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nwxyz\r\n", 0), 200, "", strings.Repeat("wxyz", keptResponseBodyBytes/4)},
		{"short_content_length", says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"), 200, "", "only this"},
		{"long_content_length", says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore than four"), 200, "", "more"},
		{"broken_chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"), 200, "", "abc"},
		{"long_headers", says("HTTP/1.1 200 OK\r\n" + tenMegabytes() + "\r\n"), 0, KindProtocol, ""},
		{"one_long_line", says("HTTP/1.1 200 " + strings.Repeat("x", 1<<20)), 0, KindProtocol, ""},
		{"flood_of_1xx", keepsSaying("", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", 0), 0, KindProtocol, ""},
		{"not_http", says("SSH-2.0-OpenSSH_9.2\r\n"), 0, KindProtocol, ""},
		{"two_content_lengths", says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 0, KindProtocol, ""},
		{"negative_content_length", says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), 0, KindProtocol, ""},
		{"unknown_transfer_encoding", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\n"), 0, KindProtocol, ""},
		{"closes_at_once", says(""), 0, KindReset, ""},
		{"closes_in_the_status_line", says("HTTP/1.1 20"), 0, KindProtocol, ""},
		{"closes_in_a_header_line", says("HTTP/1.1 200 OK\r\nX-Half"), 0, KindProtocol, ""},
		{"closes_between_the_headers", says("HTTP/1.1 200 OK\r\nX-Whole: yes\r\n"), 0, KindReset, ""},
		{"resets", resets, 0, KindReset, ""},
		{"nul_and_invalid_utf8", says("HTTP/1.1 500 \xff\xfe\r\nX-Odd: a\xffb\r\nContent-Length: 4\r\n\r\n\x00\xff\xfe\x00"), 500, KindHTTPStatus, "\x00\xff\xfe\x00"},
		{"switches_protocols", saysAndHolds("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 101, KindHTTPStatus, ""},
	}
}

// slow are those for which the attempt's time limit must run out.
var slow = []misbehaviour{
	{"never_answers", saysAndHolds(""), 0, KindTimeout, ""},
	{"headers_byte_by_byte", keepsSaying("HTTP/1.1 200 OK\r\nX-Slow: ", "x", 20*time.Millisecond), 0, KindTimeout, ""},
	{"stops_in_the_headers", saysAndHolds("HTTP/1.1 200 OK\r\nX-Slow: "), 0, KindTimeout, ""},
	{"body_byte_by_byte_after_200", keepsSaying("HTTP/1.1 200 OK\r\n\r\n", "x", 20*time.Millisecond), 200, "", "-"},
	{"body_stops_after_200", saysAndHolds("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"), 200, "", "half"},
	{"body_stops_after_503", saysAndHolds("HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\nhalf"), 503, KindHTTPStatus, "half"},
}

func TestMisbehavingReceiver_IsRecordedForWhatItDid(t *testing.T) {
	t.Parallel()
	testMisbehaviour(t, quick(), patience)
}

func TestSlowReceiver_IsCutOffAtTheTimeLimit(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	took := testMisbehaviour(t, slow, limit)
	if took < limit || took > limit+patience {
		t.Errorf("the longest attempt took %s, the limit is %s", took, limit)
	}
}

// testMisbehaviour sends one event to each receiver, through one node, and
// returns how long the longest attempt took.
func testMisbehaviour(t *testing.T, cases []misbehaviour, limit time.Duration) (longest time.Duration) {
	b := setup(t)
	receivers := map[string]*rawReceiver{}
	for _, c := range cases {
		receivers[c.name] = newRawReceiver(t, c.answer)
		b.endpoint(t, receivers[c.name].url(), c.name)
	}
	stop := b.run(t, func(config *Config) {
		config.AttemptTimeout, config.Lease = limit, 2*limit
		config.Retry.Schedule = []time.Duration{}
	})
	for _, c := range cases {
		b.publish(t, outbox.Event{Type: c.name})
	}
	settled(t, b.Pool)
	stop()
	balanced(t, b.Pool)
	for _, c := range cases {
		if _, posts := receivers[c.name].seen(); posts != 1 {
			t.Errorf("%s: %d POSTs, want 1", c.name, posts)
		}
		a := b.onlyAttempt(t, c.name)
		if a.kind != c.kind || a.status != c.status {
			t.Errorf("%s: status %d, kind %q (%s), want %d, %q", c.name, a.status, a.kind, a.message, c.status, c.kind)
		}
		if c.body != "-" && a.body != c.body {
			t.Errorf("%s: the log has a body of %d bytes, %.40q, want %d, %.40q", c.name, len(a.body), a.body, len(c.body), c.body)
		}
		longest = max(longest, a.took)
	}
	return longest
}

// recordedAttempt is what the tables say of the one attempt of an event.
type recordedAttempt struct {
	status  int
	kind    ErrorKind
	message string
	body    string
	took    time.Duration
}

func (b *bundle) onlyAttempt(t *testing.T, eventType string) (a recordedAttempt) {
	t.Helper()
	var attempts int
	var body []byte
	var micros int64
	err := b.Pool.QueryRow(t.Context(), `
		SELECT d.attempts, coalesce(a.response_status, 0), coalesce(a.error_kind, ''), coalesce(a.error, ''), a.response_body, a.duration_us
		FROM posthorn.deliveries d JOIN posthorn.attempts a ON a.delivery_id = d.id
		WHERE d.event_type = $1 AND d.status = CASE WHEN a.error_kind IS NULL THEN 'delivered' WHEN a.response_status = 410 THEN 'held' ELSE 'dead' END`,
		eventType).Scan(&attempts, &a.status, &a.kind, &a.message, &body, &micros)
	if err != nil || attempts != 1 {
		t.Errorf("%s: %d attempts (%v), want 1", eventType, attempts, err)
	}
	a.body, a.took = string(body), time.Duration(micros)*time.Microsecond
	return a
}

func TestRedirect_IsAFailureAndItsTargetIsNeverAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	target := newRawReceiver(t, says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	codes := []int{301, 302, 303, 307, 308}
	for _, code := range codes {
		r := newRawReceiver(t, says(fmt.Sprintf("HTTP/1.1 %d Away\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", code, target.url())))
		b.endpoint(t, r.url(), fmt.Sprintf("redirect.%d", code))
	}
	b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	for _, code := range codes {
		b.publish(t, outbox.Event{Type: fmt.Sprintf("redirect.%d", code)})
	}
	settled(t, b.Pool)
	for _, code := range codes {
		a := b.onlyAttempt(t, fmt.Sprintf("redirect.%d", code))
		if a.status != code || a.kind != KindHTTPStatus || !strings.Contains(a.message, "redirects are not followed") {
			t.Errorf("%d: %+v", code, a)
		}
	}
	if conns, _ := target.seen(); conns != 0 {
		t.Errorf("the redirects' target was connected to %d times", conns)
	}
}

// gzipBomb is 32 MB in 32 kB.
func gzipBomb(t *testing.T) string {
	t.Helper()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 32 {
		_, err := z.Write(zeros)
		must(t, err)
	}
	must(t, z.Close())
	return bomb.String()
}

func TestGzipBomb_StaysAsSmallAsItWasSent(t *testing.T) {
	t.Parallel()
	bomb := gzipBomb(t)
	b := setup(t)
	accepted := make(chan string, 1)
	r := newReceiver(t, func(w http.ResponseWriter, request *http.Request) {
		accepted <- request.Header.Get("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, bomb)
	})
	b.endpoint(t, r.URL, "bomb")
	b.run(t)
	b.publish(t, outbox.Event{Type: "bomb"})
	settled(t, b.Pool)
	if a := b.onlyAttempt(t, "bomb"); a.body != bomb[:min(len(bomb), keptResponseBodyBytes)] {
		t.Errorf("the log keeps %d bytes that are not the first of the %d sent", len(a.body), len(bomb))
	}
	if asked := <-accepted; asked != "" {
		t.Errorf("accept-encoding %q was sent", asked)
	}
}

func TestConnectionRefused_IsAnAttemptWithoutAPOST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	closed := newRawReceiver(t, resets)
	closed.Close()
	b.endpoint(t, closed.url(), "refused")
	secure := httptest.NewUnstartedServer(status(200))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	b.endpoint(t, secure.URL, "selfsigned")
	b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	want := map[string]ErrorKind{"refused": KindConnect, "selfsigned": KindTLS}
	for name := range want {
		b.publish(t, outbox.Event{Type: name})
	}
	settled(t, b.Pool)
	for name, kind := range want {
		if a := b.onlyAttempt(t, name); a.kind != kind || a.status != 0 {
			t.Errorf("%s: %+v, want kind %s", name, a, kind)
		}
	}
}

func TestBlockedAddress_IsNeverConnectedTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newRawReceiver(t, says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	_, port, err := net.SplitHostPort(r.Addr().String())
	must(t, err)
	urls := map[string]string{"plain": r.url(), "name": "http://localhost:" + port, "mapped": "http://[::ffff:127.0.0.1]:" + port}
	for name, url := range urls {
		// The endpoint's URL was allowed when it was registered; what counts is the dial.
		e, _ := b.endpoint(t, r.url(), name)
		_, err := b.Pool.Exec(t.Context(), `UPDATE posthorn.endpoints SET url = $2 WHERE id = $1`, e.ID, url)
		must(t, err)
	}
	b.run(t, func(c *Config) {
		c.Guard = netguard.NewGuard(netguard.Policy{})
		c.Retry.Schedule = []time.Duration{}
	})
	for name := range urls {
		b.publish(t, outbox.Event{Type: name})
	}
	settled(t, b.Pool)
	for name := range urls {
		if a := b.onlyAttempt(t, name); a.kind != KindBlockedAddress || !strings.Contains(a.message, "not on the public internet") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if conns, _ := r.seen(); conns != 0 {
		t.Errorf("%d connections were made", conns)
	}
}
