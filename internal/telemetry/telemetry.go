package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config is what Start needs besides the OTEL_* variables.
type Config struct {
	// Version is the resource attribute service.version. Empty leaves it out.
	Version string

	// NodeName tells this process from the others of the service: the resource
	// attribute service.instance.id. Empty means a random one at each start.
	NodeName string

	// LogOutput receives the log lines, each in one Write. Nil means standard
	// error.
	LogOutput io.Writer

	// LogFormat is the form of the log lines. Empty means FormatText.
	LogFormat Format

	// LogLevel bounds what is logged and exported from below; it may change while
	// in use. Nil means slog.LevelInfo.
	LogLevel slog.Leveler
}

// Telemetry is the set-up of one process. It is safe for concurrent use.
type Telemetry struct {
	tracerProvider trace.TracerProvider
	meterProvider  *sdkmetric.MeterProvider
	propagator     propagation.TextMapPropagator
	metricsHandler http.Handler
	logger         *slog.Logger
	local          *slog.Logger // writes to LogOutput alone
	tracing        bool

	// shutdowns flush and end what Start began; run by shutdownOnce.
	shutdowns    []func(context.Context) error
	shutdownOnce sync.Once
	shutdownErr  error
}

// Start makes the providers and the logger. It touches nothing global; see
// Install. An error names the OTEL_* variable that is malformed. The caller
// ends it with Shutdown.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	on, err := readSignals(os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t := &Telemetry{
		tracerProvider: noop.NewTracerProvider(),
		propagator:     newPropagator(os.Getenv("OTEL_PROPAGATORS")),
	}
	if err := t.start(ctx, cfg, on); err != nil {
		// What has begun must not keep its goroutines and listeners.
		return nil, fmt.Errorf("telemetry: %w", errors.Join(err, t.Shutdown(ctx)))
	}
	return t, nil
}

func (t *Telemetry) start(ctx context.Context, cfg Config, on signals) error {
	res, err := newResource(ctx, cfg)
	if err != nil {
		return err
	}
	if on.traces {
		if err := t.startTraces(ctx, res); err != nil {
			return err
		}
	}
	if err := t.startMetrics(ctx, res, on.metrics); err != nil {
		return err
	}
	if err := runtime.Start(runtime.WithMeterProvider(t.meterProvider)); err != nil {
		return fmt.Errorf("Go runtime metrics: %w", err)
	}
	return t.startLogs(ctx, res, cfg, on.logs)
}

// Install makes the providers and the propagator those that instrumentation
// libraries find when they are given none, and logs what the SDK itself
// reports, such as an export that failed. It is for main, once: the places are
// global.
func (t *Telemetry) Install() {
	otel.SetTracerProvider(t.tracerProvider)
	otel.SetMeterProvider(t.meterProvider)
	otel.SetTextMapPropagator(t.propagator)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.reportSDKError))
	otel.SetLogger(logr.FromSlogHandler(t.local.Handler()))
}

// reportSDKError logs to LogOutput alone: the report of a failed log export
// must not become the next log record to be exported.
func (t *Telemetry) reportSDKError(err error) {
	t.local.Warn("OpenTelemetry reports an error", "error", err)
}

// TracerProvider makes tracers. When TracingEnabled is false its spans record
// nothing, but still carry on a trace that the context brings.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracerProvider }

// TracingEnabled reports whether spans go anywhere. Hot paths ask it once, at
// their start, and make no spans at all when it is false: even a span that
// records nothing costs an allocation.
func (t *Telemetry) TracingEnabled() bool { return t.tracing }

// MeterProvider makes meters. Their metrics appear in MetricsHandler.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meterProvider }

// Propagator reads and writes the W3C headers traceparent, tracestate and
// baggage, or those that OTEL_PROPAGATORS names.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return t.propagator }

// MetricsHandler serves /metrics: the metrics of the MeterProvider and those of
// the Go runtime, in the Prometheus text formats.
func (t *Telemetry) MetricsHandler() http.Handler { return t.metricsHandler }

// Logger writes to LogOutput, and exports when logs have an exporter. A line
// that is logged with a context (InfoContext and so on) carries the trace_id
// and span_id of the context's span.
func (t *Telemetry) Logger() *slog.Logger { return t.logger }

// Shutdown sends what is still waiting and ends the exporters, all at the same
// time, so that one which hangs costs the others nothing of ctx. Calls after
// the first wait for it and return what it returned. The logger goes on writing
// to LogOutput.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.shutdownOnce.Do(func() {
		errs := make([]error, len(t.shutdowns))
		var wg sync.WaitGroup
		for i, shutdown := range t.shutdowns {
			wg.Go(func() { errs[i] = shutdown(ctx) })
		}
		wg.Wait()
		t.shutdownErr = errors.Join(errs...)
	})
	return t.shutdownErr
}

// newResource describes this process. What the environment says wins over the
// Config: a deployment knows better.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(serviceAttributes(cfg)...),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return res, nil
}
