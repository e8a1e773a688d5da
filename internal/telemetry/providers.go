package telemetry

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// serviceName is service.name unless OTEL_SERVICE_NAME says otherwise.
const serviceName = "posthorn"

func serviceAttributes(cfg Config) []attribute.KeyValue {
	instance := cfg.NodeName
	if instance == "" {
		instance = uuid.NewString()
	}
	attributes := []attribute.KeyValue{semconv.ServiceName(serviceName), semconv.ServiceInstanceID(instance)}
	if cfg.Version != "" {
		attributes = append(attributes, semconv.ServiceVersion(cfg.Version))
	}
	return attributes
}

// startTraces makes the tracer provider. The SDK reads the sampler, the limits
// and the batch sizes from the environment.
func (t *Telemetry) startTraces(ctx context.Context, res *resource.Resource) error {
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return fmt.Errorf("OTEL_TRACES_EXPORTER: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	t.tracerProvider, t.tracing = provider, true
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	return nil
}

// startMetrics makes the meter provider, with an exporter that is pulled and,
// if export is true, one that sends.
func (t *Telemetry) startMetrics(ctx context.Context, res *resource.Resource, export bool) error {
	// A registry of our own, so that no library adds to our /metrics unasked.
	registry := prometheus.NewRegistry()
	// Without scope labels: every series would carry three of them, and no two of
	// our scopes share a metric's name.
	pulled, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("Prometheus exporter: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(pulled)}
	if export {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return fmt.Errorf("OTEL_METRICS_EXPORTER: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	t.meterProvider = sdkmetric.NewMeterProvider(options...)
	t.metricsHandler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	t.shutdowns = append(t.shutdowns, t.meterProvider.Shutdown)
	return nil
}

// newPropagator understands the list of OTEL_PROPAGATORS, which checkPropagators
// has found to be good.
func newPropagator(list string) propagation.TextMapPropagator {
	if list == "" {
		list = "tracecontext,baggage"
	}
	var all []propagation.TextMapPropagator
	for name := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(name) {
		case "tracecontext":
			all = append(all, propagation.TraceContext{})
		case "baggage":
			all = append(all, propagation.Baggage{})
		}
	}
	return propagation.NewCompositeTextMapPropagator(all...)
}
