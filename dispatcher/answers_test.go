package dispatcher

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/subscriptions"
	"github.com/posthorn/posthorn/webhook"
)

// lab makes attempts without a database, at whatever answers.
type lab struct {
	*sender
	signer *webhook.Signer
}

func newLab(t *testing.T, limit time.Duration, roots *x509.CertPool, resolver *net.Resolver) *lab {
	t.Helper()
	telemetry, err := newTelemetry(nil, nil, &clock{})
	must(t, err)
	signer, err := webhook.NewSigner(webhook.NewSecret())
	must(t, err)
	transport := resolvingTransport(netguard.NewGuard(loopback), resolver, &tls.Config{RootCAs: roots})
	t.Cleanup(transport.Close)
	return &lab{&sender{transport: transport, userAgent: "Posthorn/test", timeout: limit, telemetry: telemetry}, signer}
}

// attempt makes one, and holds what every attempt is held to.
func (l *lab) attempt(t *testing.T, url string) *attempt {
	t.Helper()
	sub := &subscriptions.Subscription{Endpoint: subscriptions.Endpoint{URL: url, PayloadFormat: subscriptions.Raw}}
	payload := []byte(`{"order_id": 17}`)
	a := l.post(&delivery{event: &event{publicID: "evt_1", payload: payload}}, sub, l.signer, payload)
	if len(a.responseBody) > keptResponseBodyBytes || len(a.responseHeaders) > keptHeaderBytes {
		t.Errorf("%d bytes of the body and %d of the headers are kept", len(a.responseBody), len(a.responseHeaders))
	}
	if a.duration > l.timeout+patience/2 {
		t.Errorf("the attempt took %s, its limit is %s", a.duration, l.timeout)
	}
	return a
}

func TestAnswer_410SaysGoneAndWhatFollows(t *testing.T) {
	t.Parallel()
	r := newRawReceiver(t, says("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"))
	v := newLab(t, patience, nil, nil).attempt(t, r.url()).verdict
	if !v.Gone || v.Delivered || v.RetryAfter != 0 || v.Message != "the receiver answered 410 Gone: the endpoint is disabled until it is resumed" {
		t.Errorf("%+v", v)
	}
}

func TestAnswer_413TellsTheSize(t *testing.T) {
	t.Parallel()
	r := newRawReceiver(t, says("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"))
	v := newLab(t, patience, nil, nil).attempt(t, r.url()).verdict
	if v.Gone || v.Kind != KindHTTPStatus || v.Message != "the receiver answered 413 Request Entity Too Large: the body of 16 bytes is too large for it" {
		t.Errorf("%+v", v)
	}
}

func TestAnswer_RetryAfterHoldsBack(t *testing.T) {
	t.Parallel()
	text := func(s string) func() string { return func() string { return s } }
	in := func(d time.Duration, form string) func() string {
		return func() string { return time.Now().UTC().Add(d).Format(form) }
	}
	for name, c := range map[string]struct {
		value func() string // when it answers
		want  time.Duration // about
	}{
		"120": {text("120"), 2 * time.Minute}, "0": {text("0"), 0}, "-5": {text("-5"), 0},
		"1.5": {text("1.5"), 0}, "abc": {text("abc"), 0}, "9223372037": {text("9223372037"), 24 * time.Hour},
		"several lines": {text("60\r\nRetry-After: 120"), 0},
		"a past date":   {in(-time.Hour, http.TimeFormat), 0},
		"IMF-fixdate":   {in(time.Hour, http.TimeFormat), time.Hour},
		"RFC 850":       {in(time.Hour, "Monday, 02-Jan-06 15:04:05 GMT"), time.Hour},
		"asctime":       {in(time.Hour, time.ANSIC), time.Hour},
		"in 1,000 days": {in(24000*time.Hour, http.TimeFormat), 24 * time.Hour},
	} {
		for _, status := range []int{429, 503, 500, 413} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				t.Parallel()
				r := newRawReceiver(t, func(conn net.Conn, post int) {
					says(fmt.Sprintf("HTTP/1.1 %d No\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", status, c.value()))(conn, post)
				})
				v := newLab(t, patience, nil, nil).attempt(t, r.url()).verdict
				want := c.want
				if status != 429 && status != 503 {
					want = 0
				}
				if v.Kind != KindHTTPStatus || v.RetryAfter > want || v.RetryAfter < want-patience || want > 0 && v.RetryAfter == 0 {
					t.Errorf("%+v, want about %s", v, want)
				}
				if strings.Contains(v.Message, "asks not to be sent to") != (want > 0) {
					t.Errorf("%q", v.Message)
				}
			})
		}
	}
}

func TestAnswer_ABodyWithoutEndIsLetGoAtItsBound(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(net.Conn, int){
		"fast":           keepsSaying("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1000), 0),
		"declared":       keepsSaying("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", strings.Repeat("x", 1000), 0),
		"in tiny chunks": keepsSaying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 0),
		"slow":           keepsSaying("HTTP/1.1 200 OK\r\n\r\n", "x", 10*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			r := newRawReceiver(t, func(conn net.Conn, post int) {
				answer(conn, post)
				close(gone)
			})
			limit := patience
			if name == "slow" {
				limit = 300 * time.Millisecond
			}
			if a := newLab(t, limit, nil, nil).attempt(t, r.url()); !a.verdict.Delivered || a.responseBody[0] != 'x' {
				t.Errorf("%+v", a.verdict)
			}
			select {
			case <-gone:
			case <-time.After(patience):
				t.Error("the connection is still open")
			}
		})
	}
}

func TestAnswer_HeadersAreKeptUpToABound(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "X-Number-%03d: %060d\r\n", i, i) // 7.7 kB
	}
	r := newRawReceiver(t, says("HTTP/1.1 200 OK\r\n"+lines.String()+"Content-Length: 0\r\n\r\n"))
	a := newLab(t, patience, nil, nil).attempt(t, r.url())
	if !a.verdict.Delivered || !strings.HasPrefix(a.responseHeaders, "content-length: 0\nx-number-000: 0") {
		t.Errorf("%+v, %.80q", a.verdict, a.responseHeaders)
	}
}

func TestTimeout_SaysWhereTheTimeRanOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, during string }{
		"waiting":   {newRawReceiver(t, saysAndHolds("")).url(), "waiting for the answer"},
		"answering": {newRawReceiver(t, keepsSaying("HTTP/1.1 200 OK\r\nX: ", "x", 10*time.Millisecond)).url(), "in the middle of the answer's headers"},
		"handshake": {"https://" + silentListener(t), "in the TLS handshake"},
		"resolving": {"http://silent.example.:8080/", "looking up the host name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newLab(t, 300*time.Millisecond, nil, nameServer(t)).attempt(t, c.url)
			checkVerdict(t, a.verdict, KindTimeout, "no answer within 300ms: the time ran out "+c.during)
		})
	}
}

func TestTLS_NamesTheCertificatesFault(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		host    string
		until   time.Duration
		trusted bool
		message string
	}{
		"expired":       {"127.0.0.1", -time.Hour, true, "the receiver's TLS certificate expired on 2"},
		"not yet valid": {"127.0.0.1", 3 * day, true, "the receiver's TLS certificate is not valid before 2"},
		"self-signed":   {"127.0.0.1", day, false, "the receiver's TLS certificate is self-signed"},
		"wrong host":    {"shop.example", day, true, "the receiver's TLS certificate is not for 127.0.0.1, it is for shop.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, roots := tlsReceiver(t, c.host, time.Now().Add(c.until), nil)
			if !c.trusted {
				roots = x509.NewCertPool()
			}
			checkVerdict(t, newLab(t, patience, roots, nil).attempt(t, url).verdict, KindTLS, c.message)
		})
	}
}

// http2Receiver answers over HTTP/2 and returns its URL and who to trust.
func http2Receiver(t *testing.T, answer http.HandlerFunc) (string, *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	certificate := selfSigned(t, "127.0.0.1", time.Now().Add(time.Hour))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, trusting(certificate)
}

func TestHTTP2_IsHeldToTheSameBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		kind   ErrorKind
	}{
		"ok": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }, 200, ""},
		"endless body": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, strings.Repeat("x", 4096))
			}
		}, 200, ""},
		"long headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 64<<10)) }, 0, KindProtocol},
		"flood of 1xx": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", strings.Repeat("x", 1000))
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}, 0, KindProtocol},
		"abort": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, KindReset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts, others int
			url, roots := http2Receiver(t, func(w http.ResponseWriter, r *http.Request) {
				if posts++; r.ProtoMajor != 2 {
					others++
				}
				c.answer(w, r)
			})
			a := newLab(t, patience, roots, nil).attempt(t, url)
			if a.status != c.status || a.verdict.Kind != c.kind || posts != 1 || others != 0 {
				t.Errorf("status %d, %+v; %d POSTs, %d of them not over HTTP/2", a.status, a.verdict, posts, others)
			}
		})
	}
}
