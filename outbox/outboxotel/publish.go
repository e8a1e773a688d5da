// Package outboxotel publishes events within a span of OpenTelemetry and hands
// its trace context on to the receivers. It stands apart from package outbox so
// that producers without OpenTelemetry need not depend on it.
package outboxotel

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/outbox"
)

const scope = "github.com/posthorn/posthorn/outbox/outboxotel"

// Publish is outbox.Publish in a producer span named "publish <event type>", made
// by the global tracer provider. Unless the event brings a Traceparent, it gets
// the span's, so that the trace goes on at the receivers; where nothing is
// traced, it gets none.
func Publish(ctx context.Context, tx pgx.Tx, e outbox.Event) (outbox.EventID, error) {
	return PublishWith(ctx, otel.GetTracerProvider(), tx, e)
}

// PublishWith is Publish with a tracer provider of the caller's.
func PublishWith(ctx context.Context, provider trace.TracerProvider, tx pgx.Tx, e outbox.Event) (outbox.EventID, error) {
	tenant := e.TenantID
	if tenant == "" {
		tenant = outbox.DefaultTenant
	}
	ctx, span := provider.Tracer(scope).Start(ctx, "publish "+e.Type,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "posthorn"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", "posthorn.outbox"),
			attribute.String("posthorn.event.type", e.Type),
			attribute.String("posthorn.tenant.id", tenant),
		))
	defer span.End()
	if e.Traceparent == "" {
		e.Traceparent = traceparent(ctx)
	}
	id, err := outbox.Publish(ctx, tx, e)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return id, err
	}
	span.SetAttributes(attribute.String("posthorn.event.id", id.String()))
	return id, nil
}

// traceparent is the context's span in the W3C form, or empty without one.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}
