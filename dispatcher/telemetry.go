package dispatcher

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/subscriptions"
)

// telemetry is the dispatcher's spans and metrics. Their names and units are
// listed in docs/telemetry.md, and a test compares the two.
type telemetry struct {
	tracer trace.Tracer // nil: no tracing
	clock  *clock

	attempts   metric.Int64Counter     // by error kind
	duration   metric.Float64Histogram // of attempts
	lag        metric.Float64Histogram // commit to received
	deliveries metric.Int64Counter     // by outcome
	routed     metric.Int64Counter     // events
	fenced     metric.Int64Counter     // results that came too late
	recovered  metric.Int64Counter     // jobs by cause
	breakers   metric.Int64Counter     // changes of breakers by their new state

	byKind    map[ErrorKind]metric.MeasurementOption
	byOutcome map[Status]metric.MeasurementOption
}

// lagBuckets are seconds, from a wake-up to the last retry.
var lagBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600, 86400}

func newTelemetry(tracer trace.Tracer, meter metric.Meter, clock *clock) (*telemetry, error) {
	if meter == nil {
		meter = metricnoop.Meter{}
	}
	t := &telemetry{tracer: tracer, clock: clock, byKind: map[ErrorKind]metric.MeasurementOption{}, byOutcome: map[Status]metric.MeasurementOption{}}
	var err error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, e := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		err = firstError(err, e)
		return c
	}
	histogram := func(name, description string) metric.Float64Histogram {
		h, e := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(lagBuckets...))
		err = firstError(err, e)
		return h
	}
	t.attempts = counter("posthorn.attempts", "{attempt}", "Attempts by error_kind; none for those that succeeded.")
	t.duration = histogram("posthorn.attempt.duration", "How long attempts took.")
	t.lag = histogram("posthorn.delivery.lag", "From the event's transaction to the receiver's 2xx.")
	t.deliveries = counter("posthorn.deliveries", "{delivery}", "Deliveries by outcome: delivered, dead, cancelled, held; retrying once per failed attempt.")
	t.routed = counter("posthorn.events.routed", "{event}", "Events that the relay matched against the endpoints.")
	t.fenced = counter("posthorn.results.fenced", "{result}", "Results not counted because another node's came first.")
	t.recovered = counter("posthorn.jobs.recovered", "{job}", "Jobs taken back, by cause: dead_node or sweep.")
	t.breakers = counter("posthorn.breaker.changes", "{change}", "Changes of endpoints' breakers by their new state: open or closed.")
	for _, kind := range []ErrorKind{"", KindTimeout, KindDNS, KindConnect, KindTLS, KindReset, KindBlockedAddress, KindProtocol, KindHTTPStatus} {
		label := string(kind)
		if kind == "" {
			label = "none"
		}
		t.byKind[kind] = metric.WithAttributeSet(attribute.NewSet(attribute.String("error_kind", label)))
	}
	for _, status := range Statuses {
		t.byOutcome[status] = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", string(status))))
	}
	return t, err
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// attempted counts an attempt.
func (t *telemetry) attempted(d *delivery, a *attempt) {
	ctx := context.Background()
	t.attempts.Add(ctx, 1, t.byKind[a.verdict.Kind])
	t.duration.Record(ctx, a.duration.Seconds())
	if a.verdict.Delivered {
		t.lag.Record(ctx, t.clock.Now().Sub(d.event.createdAt).Seconds())
	}
}

// startAttempt begins the span of one POST, as a child of the event's trace.
func (t *telemetry) startAttempt(d *delivery, sub *subscriptions.Subscription) (context.Context, trace.Span) {
	ctx := context.Background()
	if t.tracer == nil {
		return ctx, nil
	}
	return t.tracer.Start(remoteContext(ctx, d.event.traceparent), "attempt "+d.event.eventType,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("posthorn.event.id", d.event.publicID),
			attribute.String("posthorn.event.type", d.event.eventType),
			attribute.String("posthorn.delivery.id", d.id.String()),
			attribute.String("posthorn.endpoint.id", sub.ID.String()),
			attribute.Int("posthorn.attempt.number", d.attempts+1),
			attribute.String("http.request.method", "POST"),
		))
}

func (t *telemetry) endAttempt(span trace.Span, a *attempt) {
	if span == nil {
		return
	}
	if a.status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", a.status))
	}
	if !a.verdict.Delivered {
		span.SetAttributes(attribute.String("error.type", string(a.verdict.Kind)))
		span.SetStatus(codes.Error, a.verdict.Message)
	}
	span.End()
}

// startBatch begins the span of one relay batch.
func (t *telemetry) startBatch(ctx context.Context) (context.Context, trace.Span) {
	if t.tracer == nil {
		return ctx, trace.SpanFromContext(context.Background()) // a span that records nothing
	}
	return t.tracer.Start(ctx, "relay batch", trace.WithSpanKind(trace.SpanKindConsumer))
}

// traceparent is the header for the receiver: the attempt's span where there is
// one, or what the producer gave.
func (t *telemetry) traceparent(ctx context.Context, e *event) string {
	if t.tracer == nil {
		return e.traceparent
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// remoteContext continues the trace of a traceparent; "" begins one.
func remoteContext(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// observe has the meter ask for the backlog whenever it is read, at most once
// every few seconds so that readers cost the database nothing.
func (t *telemetry) observe(meter metric.Meter, backlog func(context.Context) (Backlog, error)) error {
	if meter == nil {
		return nil
	}
	pending, err := meter.Int64ObservableGauge("posthorn.backlog.events", metric.WithUnit("{event}"),
		metric.WithDescription("Committed events not routed yet."))
	if err != nil {
		return err
	}
	waiting, err := meter.Int64ObservableGauge("posthorn.backlog.deliveries", metric.WithUnit("{delivery}"),
		metric.WithDescription("Deliveries that wait for a retry or for a slow endpoint."))
	if err != nil {
		return err
	}
	oldest, err := meter.Float64ObservableGauge("posthorn.backlog.oldest", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest committed event not routed yet."))
	if err != nil {
		return err
	}
	var mu sync.Mutex // each of the meter's readers calls back on its own
	var last Backlog
	var readAt time.Time
	_, err = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(readAt) > 5*time.Second {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			b, err := backlog(ctx)
			if err != nil {
				return err
			}
			last, readAt = b, time.Now()
		}
		o.ObserveInt64(pending, last.Events)
		o.ObserveInt64(waiting, last.Deliveries)
		o.ObserveFloat64(oldest, last.Oldest.Seconds())
		return nil
	}, pending, waiting, oldest)
	return err
}

// recorded counts committed results by their states, and those of all that came
// too late to count.
func (t *telemetry) recorded(counted map[Status]int64, all int) {
	ctx := context.Background()
	late := int64(all)
	for status, n := range counted {
		t.deliveries.Add(ctx, n, t.byOutcome[status])
		late -= n
	}
	if late > 0 {
		t.fenced.Add(ctx, late)
	}
}

// breaker counts a breaker's change.
func (t *telemetry) breaker(to BreakerState) {
	t.breakers.Add(context.Background(), 1, metric.WithAttributes(attribute.String("state", string(to))))
}

// settled counts deliveries that came to an outcome without an attempt.
func (t *telemetry) settled(status Status, n int64) {
	if n > 0 {
		t.deliveries.Add(context.Background(), n, t.byOutcome[status])
	}
}

// recoveredJobs counts jobs taken back from a dead node, or deliveries that the
// sweep gave a new job.
func (t *telemetry) recoveredJobs(ctx context.Context, n int64, cause string) {
	if n > 0 {
		t.recovered.Add(ctx, n, metric.WithAttributes(attribute.String("cause", cause)))
	}
}
