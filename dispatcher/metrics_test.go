package dispatcher

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/posthorn/posthorn/outbox"
)

// measured reads every metric, as "name{label=value}"; of a histogram the count.
func measured(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	must(t, reader.Collect(context.Background(), &data))
	got := map[string]float64{}
	name := func(m metricdata.Metrics, set attribute.Set) string {
		var labels []string
		for _, kv := range set.ToSlice() {
			labels = append(labels, string(kv.Key)+"="+kv.Value.String())
		}
		if labels == nil {
			return m.Name
		}
		return m.Name + "{" + strings.Join(labels, ",") + "}"
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					got[name(m, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					got[name(m, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					got[name(m, p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					got[name(m, p.Attributes)] = float64(p.Count)
					if low, ok := p.Min.Value(); !ok || low < 0 || p.Sum > 2*patience.Seconds()*float64(p.Count) {
						t.Errorf("%s: %d from %v, sum %v s", m.Name, p.Count, low, p.Sum)
					}
				}
			default:
				t.Errorf("%s is of a kind that this test does not know", m.Name)
			}
		}
	}
	return got
}

// attempt takes the turn of the next count deliveries and records the results.
func (n *stillNode) attempt(t *testing.T, count int) {
	t.Helper()
	var batch []result
	for _, d := range n.take(t, count) {
		batch = append(batch, n.sender.turn(d))
	}
	n.recorder.record(t.Context(), batch)
}

func TestMetrics_CountWhatHappened(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reader := metric.NewManualReader()
	n := b.stillNode(t, func(c *Config) {
		c.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
		c.Retry.Schedule = c.Retry.Schedule[:1]
	})
	b.endpoint(t, newReceiver(t, nil).URL)
	b.endpoint(t, newReceiver(t, status(500)).URL)
	b.publish(t, outbox.Event{})
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	n.attempt(t, 4)
	n.work(t)
	n.attempt(t, 2)
	b.publish(t, outbox.Event{})
	for name, want := range map[string]float64{
		"posthorn.attempts{error_kind=none}":        2,
		"posthorn.attempts{error_kind=http_status}": 4,
		"posthorn.attempt.duration":                 6,
		"posthorn.delivery.lag":                     2,
		"posthorn.deliveries{outcome=delivered}":    2,
		"posthorn.deliveries{outcome=retrying}":     2,
		"posthorn.deliveries{outcome=dead}":         2,
		"posthorn.events.routed":                    2,
		"posthorn.backlog.events":                   1,
		"posthorn.backlog.deliveries":               0,
	} {
		if got := measured(t, reader); got[name] != want {
			t.Errorf("%s is %v, want %v; all: %v", name, got[name], want, got)
		}
	}
	if got := measured(t, reader)["posthorn.backlog.oldest"]; got <= 0 || got > 3*patience.Seconds() {
		t.Errorf("the oldest is %v s old", got)
	}
}

func TestMetrics_CountResultsThatCameTooLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reader := metric.NewManualReader()
	n := b.stillNode(t, func(c *Config) { c.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test") })
	d := b.relayed(t, n, 1)[0]
	n.recorder.record(t.Context(), []result{n.answered(d, 200)})
	n.recorder.record(t.Context(), []result{n.answered(late(d), 200)})
	if got := measured(t, reader)["posthorn.results.fenced"]; got != 1 {
		t.Errorf("%v results were fenced, want 1", got)
	}
}

func TestMetrics_MayBeReadByTwoReadersAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, other := metric.NewManualReader(), metric.NewManualReader()
	b.stillNode(t, func(c *Config) {
		c.Meter = metric.NewMeterProvider(metric.WithReader(one), metric.WithReader(other)).Meter("test")
	})
	done := inBackground(func() {
		if err := one.Collect(context.Background(), &metricdata.ResourceMetrics{}); err != nil {
			t.Error(err)
		}
	})
	must(t, other.Collect(t.Context(), &metricdata.ResourceMetrics{}))
	<-done
}

func TestTrace_LeadsFromTheProducerToTheReceiver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(503))
	b.endpoint(t, r.URL)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	n := b.stillNode(t, func(c *Config) { c.Tracer = provider.Tracer("test") })
	const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	b.publish(t, outbox.Event{Traceparent: "00-" + traceID + "-" + parentID + "-01"})
	n.relayAll(t)
	n.attempt(t, 1)
	b.publish(t, outbox.Event{Type: "untraced"})
	n.relayAll(t)
	n.attempt(t, 1)

	byName := map[string]tracetest.SpanStub{}
	batches := 0
	for _, s := range spans.GetSpans() {
		byName[s.Name] = s
		if s.Name == "relay batch" {
			batches++
		}
	}
	if batches != 2 {
		t.Errorf("%d relay batches, want 2", batches)
	}
	traced, untraced := byName["attempt order.paid"], byName["attempt untraced"]
	if traced.SpanContext.TraceID().String() != traceID || traced.Parent.SpanID().String() != parentID {
		t.Errorf("the attempt is %s of trace %s, a child of %s", traced.Name, traced.SpanContext.TraceID(), traced.Parent.SpanID())
	}
	if !untraced.SpanContext.IsValid() || untraced.SpanContext.TraceID().String() == traceID {
		t.Errorf("the untraced event's attempt is of trace %s", untraced.SpanContext.TraceID())
	}
	for _, span := range []tracetest.SpanStub{traced, untraced} {
		want := "00-" + span.SpanContext.TraceID().String() + "-" + span.SpanContext.SpanID().String() + "-01"
		if got := r.next(t).header.Get("traceparent"); got != want {
			t.Errorf("the receiver got traceparent %s, want %s", got, want)
		}
		if span.Status.Code != codes.Error || !strings.Contains(span.Status.Description, "503") {
			t.Errorf("%s has status %+v", span.Name, span.Status)
		}
		attributes := attribute.NewSet(span.Attributes...)
		if code, _ := attributes.Value("http.response.status_code"); code.AsInt64() != 503 {
			t.Errorf("%s has attributes %v", span.Name, span.Attributes)
		}
	}
}
