package outboxotel_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/outbox/outboxotel"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestPublish(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, c := range map[string]struct {
		event outbox.Event
		fails bool
	}{
		"TakesTheSpansContext":   {event: outbox.Event{Type: "order.paid", Payload: []byte(`1`)}},
		"KeepsAGivenContext":     {event: outbox.Event{Type: "order.paid", Payload: []byte(`1`), Traceparent: given}},
		"MarksTheSpanOfARefused": {event: outbox.Event{Type: "order.paid", Payload: []byte(`{`)}, fails: true},
		"ServesEveryTenant":      {event: outbox.Event{Type: "order.paid", Payload: []byte(`1`), TenantID: "shop_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
			var id outbox.EventID
			err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
				id, err = outboxotel.PublishWith(t.Context(), provider, tx, c.event)
				return err
			})
			if errors.Is(err, outbox.ErrInvalid) != c.fails {
				t.Fatal(err)
			}
			ended := spans.Ended()
			if len(ended) != 1 || ended[0].Name() != "publish order.paid" || ended[0].SpanKind() != trace.SpanKindProducer ||
				(ended[0].Status().Code == codes.Error) != c.fails {
				t.Fatalf("spans %v", ended)
			}
			if c.fails {
				return
			}
			want := given
			if sc := ended[0].SpanContext(); c.event.Traceparent == "" {
				want = "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
			}
			stored, err := outbox.NewReader(db.Pool).Get(t.Context(), "", id)
			if err != nil || stored.Traceparent != want {
				t.Errorf("stored %q, want %q; %v", stored.Traceparent, want, err)
			}
		})
	}
}

func TestPublishWithoutTracingSetsNoContext(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var id outbox.EventID
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
		id, err = outboxotel.Publish(t.Context(), tx, outbox.Event{Type: "order.paid", Payload: []byte(`1`)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := outbox.NewReader(db.Pool).Get(t.Context(), "", id)
	if err != nil || stored.Traceparent != "" {
		t.Errorf("stored %q, %v", stored.Traceparent, err)
	}
}
