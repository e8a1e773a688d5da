package dispatcher

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	  subscriptions/match.go    decides which endpoints want it
//	> dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/subscriptions"
	"github.com/posthorn/posthorn/webhook"
)

// sender makes attempts. It holds no transaction and no connection while a
// request is under way.
type sender struct {
	pool      *pgxpool.Pool
	directory *subscriptions.Directory
	healths   *healths
	transport *http.Transport
	userAgent string
	timeout   time.Duration
	retry     RetryPolicy
	telemetry *telemetry
	reaching  reaching
	logger    *slog.Logger
	told      sync.Map // endpoints of which the log says that they can't be signed for
}

// turn takes a delivery's turn: it makes the next attempt, or finds why not.
func (s *sender) turn(d *delivery) result {
	sub := s.directory.Get(d.chunk.endpointID)
	if res, settled := s.withoutAttempt(d, sub); settled {
		return res
	}
	payload, err := s.payload(d.event)
	if err != nil {
		s.logger.Error("a payload could not be read; its delivery waits", "delivery", d.id, "error", err)
		return result{delivery: d, released: releasedLater}
	}
	signer, err := sub.Signer(time.Now())
	if err != nil {
		if _, told := s.told.LoadOrStore(sub.ID, true); !told {
			s.logger.Error("an endpoint can't be signed for, its deliveries wait: was its secret encrypted with another keyset?",
				"endpoint", sub.ID, "error", err)
		}
		return result{delivery: d, released: releasedLater}
	}
	s.reaching.at(senderBeforePost)
	if !d.chunk.lease.held() {
		return result{delivery: d, released: releasedLost}
	}
	a := s.post(d, sub, signer, payload)
	s.reaching.at(senderAfterPost)
	s.telemetry.attempted(d, a)
	return result{delivery: d, attempt: a,
		outcome: decide(a.verdict, d.attempts+1-d.scheduleStart, s.retry, rand.Float64())}
}

// withoutAttempt settles a turn in which nothing is to be sent.
func (s *sender) withoutAttempt(d *delivery, sub *subscriptions.Subscription) (result, bool) {
	switch {
	case !d.chunk.lease.held():
		return result{delivery: d, released: releasedLost}, true
	case sub == nil:
		return result{delivery: d, outcome: outcome{status: Cancelled, reason: endpointDeleted}}, true
	case d.event.gone:
		return result{delivery: d, outcome: outcome{status: Cancelled, reason: "the event is no longer stored"}}, true
	case sub.Status != subscriptions.Enabled:
		return result{delivery: d, outcome: outcome{status: Held}}, true
	}
	if g, _ := s.healths.gate(sub); g != gateOpen && !d.probe {
		return result{delivery: d, released: releasedAside}, true
	}
	return result{}, false
}

// endpointDeleted is why a delivery is cancelled.
const endpointDeleted = "the endpoint was deleted"

const payloadSQL = `SELECT payload FROM posthorn.outbox WHERE id = $1 AND created_at = $2`

// payload gives the event's, from the database when it was too large to keep.
func (s *sender) payload(e *event) ([]byte, error) {
	if e.payload != nil {
		return e.payload, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	var payload []byte
	err := s.pool.QueryRow(ctx, payloadSQL, e.id, e.createdAt).Scan(&payload)
	return payload, err
}

// post makes one attempt: one POST, whatever comes back.
func (s *sender) post(d *delivery, sub *subscriptions.Subscription, signer *webhook.Signer, payload []byte) *attempt {
	ctx, span := s.telemetry.startAttempt(d, sub)
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // of its own: shutdown lets it finish
	defer cancel()
	a := &attempt{startedAt: time.Now(), endpointVersion: sub.Version, healthEpoch: sub.HealthEpoch}
	body := d.event.body(sub.PayloadFormat, payload)
	var header http.Header
	header, a.requestHeaders = s.header(ctx, d, sub, signer, a.startedAt, body)

	var progress progress
	response, err := s.exchange(progress.watch(ctx), sub.URL, header, body)
	seen := evidence{err: err, at: time.Now(), bodySize: len(body), limit: s.timeout, reached: progress.step()}
	if response != nil {
		seen.status, seen.header = response.StatusCode, response.Header
		a.status = response.StatusCode
		a.responseHeaders = headerLines(response.Header)
	}
	a.verdict = judge(seen)
	if response != nil {
		// As a map the headers are many times their size; the body may take a while.
		response.Header, seen.header = nil, nil
		a.responseBody = readBody(response.Body)
	}
	a.duration = time.Since(a.startedAt)
	s.telemetry.endAttempt(span, a)
	return a
}

// requestHeaders are the names of what every attempt sends, in lower case as the
// log keeps them, and as net/http wants them.
var requestHeaders = [...]struct{ name, canonical string }{
	{"content-type", "Content-Type"}, {"user-agent", "User-Agent"},
	{webhook.HeaderID, "Webhook-Id"}, {webhook.HeaderTimestamp, "Webhook-Timestamp"},
	{webhook.HeaderSignature, "Webhook-Signature"}, {"traceparent", "Traceparent"},
}

// header signs the body and gives the request's headers, and the same as lines.
func (s *sender) header(ctx context.Context, d *delivery, sub *subscriptions.Subscription,
	signer *webhook.Signer, at time.Time, body []byte) (http.Header, string) {
	unix := at.Unix()
	var scratch [256]byte
	values := []string{
		ContentType(sub.PayloadFormat), s.userAgent, d.event.publicID, strconv.FormatInt(unix, 10),
		string(signer.AppendSignature(scratch[:0], d.event.publicID, unix, body)), s.telemetry.traceparent(ctx, d.event),
	}
	h := make(http.Header, len(values))
	var lines strings.Builder
	lines.Grow(400)
	for i, header := range requestHeaders {
		if values[i] != "" {
			h[header.canonical] = values[i : i+1 : i+1]
			appendLine(&lines, header.name, values[i])
		}
	}
	return h, lines.String()
}

func appendLine(b *strings.Builder, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	b.WriteString(value)
	b.WriteByte('\n')
}

// exchange sends the request and waits for the answer's status and headers. The
// body can't be rewound (no GetBody), so that the transport never sends a request
// a second time on its own.
func (s *sender) exchange(ctx context.Context, to string, header http.Header, body []byte) (*http.Response, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	request := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	response, err := s.transport.RoundTrip(request)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(context.DeadlineExceeded, err) // the transport's own words for the deadline
	}
	return response, err
}

// readBody reads the body to its bound, or until the attempt's deadline, and
// returns the first part of it. The status line has decided already: whatever
// goes wrong here changes nothing. What it holds meanwhile is about as much as
// came: a thousand bodies that drip or stop cost little.
func readBody(body io.ReadCloser) []byte {
	defer body.Close()
	if _, connection := body.(io.Writer); connection || body == http.NoBody {
		return nil // a 101's is the connection itself, whose reading no deadline ends
	}
	var kept []byte
	for len(kept) < keptResponseBodyBytes {
		if len(kept) == cap(kept) {
			kept = append(make([]byte, 0, min(max(1<<10, 4*len(kept)), keptResponseBodyBytes)), kept...)
		}
		n, err := body.Read(kept[len(kept):min(cap(kept), keptResponseBodyBytes)])
		kept = kept[:len(kept)+n]
		if err != nil {
			break
		}
	}
	if len(kept) == keptResponseBodyBytes {
		dropRest(body, maxResponseBodyBytes-keptResponseBodyBytes)
	}
	return kept
}

var dropBuffers = sync.Pool{New: func() any { return new([1 << 10]byte) }}

// dropRest reads on to the body's end, for the connection's sake, or until the
// bound is reached.
func dropRest(body io.Reader, bound int) {
	buffer := dropBuffers.Get().(*[1 << 10]byte)
	defer dropBuffers.Put(buffer)
	for bound > 0 {
		n, err := body.Read(buffer[:min(bound, len(buffer))])
		if bound -= n; err != nil {
			return
		}
	}
}

// headerLines writes an answer's headers as lines "name: value", lower-case and in
// order, to at most keptHeaderBytes, and as text that PostgreSQL takes.
func headerLines(h http.Header) string {
	var few [16]string // most answers have no more; spares the heap
	names := few[:0]
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		for _, value := range h[name] {
			if b.Len()+len(name)+len(value)+3 > keptHeaderBytes {
				return storable(b.String())
			}
			appendLine(&b, strings.ToLower(name), value)
		}
	}
	return storable(b.String())
}

// storable replaces what a PostgreSQL text can't hold.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
