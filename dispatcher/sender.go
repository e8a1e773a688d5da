package dispatcher

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	  subscriptions/match.go    decides which endpoints want it
//	> dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

import (
	"context"
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

	"github.com/posthorn/posthorn/internal/exchange"
	"github.com/posthorn/posthorn/subscriptions"
	"github.com/posthorn/posthorn/webhook"
)

// sender makes attempts. It holds no transaction and no connection while a
// request is under way.
type sender struct {
	pool      *pgxpool.Pool
	directory *subscriptions.Directory
	healths   *healths
	transport *exchange.Client
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

// post makes one attempt: one POST, whatever comes back. Its time limit is its own:
// shutdown lets it finish.
func (s *sender) post(d *delivery, sub *subscriptions.Subscription, signer *webhook.Signer, payload []byte) *attempt {
	ctx, span := s.telemetry.startAttempt(d, sub)
	a := &attempt{startedAt: time.Now(), endpointVersion: sub.Version, healthEpoch: sub.HealthEpoch}
	body := d.event.body(sub.PayloadFormat, payload)
	header := s.header(ctx, d, sub, signer, a.startedAt, body)
	a.requestHeaders = fieldLines(header)

	var progress exchange.Progress
	response, err := s.exchange(sub.URL, header, body, a.startedAt.Add(s.timeout), &progress)
	seen := evidence{err: err, at: time.Now(), bodySize: len(body), limit: s.timeout, reached: progress.Step()}
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

// header signs the body and gives the request's header.
func (s *sender) header(ctx context.Context, d *delivery, sub *subscriptions.Subscription,
	signer *webhook.Signer, at time.Time, body []byte) []exchange.Field {
	unix := at.Unix()
	var scratch [256]byte
	fields := []exchange.Field{
		{Name: "Content-Type", Value: ContentType(sub.PayloadFormat)},
		{Name: "User-Agent", Value: s.userAgent},
		{Name: "Webhook-Id", Value: d.event.publicID},
		{Name: "Webhook-Timestamp", Value: strconv.FormatInt(unix, 10)},
		{Name: "Webhook-Signature", Value: string(signer.AppendSignature(scratch[:0], d.event.publicID, unix, body))},
		{Name: "Traceparent", Value: s.telemetry.traceparent(ctx, d.event)},
	}
	if fields[len(fields)-1].Value == "" {
		return fields[:len(fields)-1]
	}
	return fields
}

// fieldLines writes the header as the log keeps it: lines "name: value", the names in
// lower case.
func fieldLines(fields []exchange.Field) string {
	var lines strings.Builder
	lines.Grow(400)
	for _, f := range fields {
		appendLine(&lines, f.Name, f.Value)
	}
	return lines.String()
}

func appendLine(b *strings.Builder, name, value string) {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	b.WriteString(": ")
	b.WriteString(value)
	b.WriteByte('\n')
}

// exchange sends the request and waits for the answer's status and headers.
func (s *sender) exchange(to string, header []exchange.Field, body []byte, deadline time.Time, p *exchange.Progress) (*http.Response, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	return s.transport.Post(&exchange.Request{URL: target, Header: header, Body: body}, deadline, p)
}

// readBody reads the body to its bound, or until the attempt's deadline, and
// returns the first part of it. The status line has decided already: whatever
// goes wrong here changes nothing. What it holds meanwhile is about as much as
// came: a thousand bodies that drip or stop cost little.
func readBody(body io.ReadCloser) []byte {
	defer body.Close()
	if body == http.NoBody {
		return nil
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
			appendLine(&b, name, value)
		}
	}
	return storable(b.String())
}

// storable replaces what a PostgreSQL text can't hold.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
