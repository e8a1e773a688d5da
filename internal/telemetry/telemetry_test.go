package telemetry

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"go.uber.org/goleak"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestWithoutConfigurationNothingIsExported(t *testing.T) {
	setenv(t, nil)
	ignore := goleak.IgnoreCurrent()
	tel := start(t, Config{})
	if tel.TracingEnabled() {
		t.Error("tracing is enabled")
	}
	// No exporter means nobody in the background who could send.
	goleak.VerifyNone(t, ignore)

	ctx := tel.Propagator().Extract(t.Context(), propagation.MapCarrier{"traceparent": traceparent})
	ctx, span := tel.TracerProvider().Tracer("test").Start(ctx, "off")
	defer span.End()
	if span.IsRecording() {
		t.Error("a span is recorded")
	}
	carrier := propagation.MapCarrier{}
	tel.Propagator().Inject(ctx, carrier)
	if carrier["traceparent"] != traceparent {
		t.Errorf("the trace goes on as %q", carrier["traceparent"])
	}
}

func TestSDKDisabledWinsOverEverything(t *testing.T) {
	c := newCollector(t)
	setenv(t, map[string]string{
		"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": c.url, "OTEL_LOGS_EXPORTER": "otlp"})
	tel := start(t, Config{})
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "off")
	span.End()
	tel.Logger().Info("hello")
	if err := shutdown(tel); err != nil {
		t.Fatal(err)
	}
	if traces, metrics, logs := c.received(); traces+metrics+logs != 0 {
		t.Errorf("received %d, %d, %d requests", traces, metrics, logs)
	}
}

func TestShutdownSendsSpansMetricsAndLogs(t *testing.T) {
	c := newCollector(t)
	setenv(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.url,
		// Long enough that only the shutdown can have sent them.
		"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_BLRP_SCHEDULE_DELAY": "3600000",
		"OTEL_METRIC_EXPORT_INTERVAL": "3600000",
	})
	tel := start(t, Config{Version: "1.2.3", NodeName: "node-7"})
	if !tel.TracingEnabled() {
		t.Error("tracing is not enabled")
	}
	ctx, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "attempt")
	tel.Logger().WarnContext(ctx, "it failed", "endpoint", "ep_1")
	tel.Logger().DebugContext(ctx, "below the level")
	span.End()
	addOne(t, tel)
	if traces, metrics, logs := c.received(); traces+metrics+logs != 0 {
		t.Errorf("sent %d, %d, %d requests before the shutdown", traces, metrics, logs)
	}
	if err := shutdown(tel); err != nil {
		t.Fatal(err)
	}

	if traces, metrics, logs := c.received(); traces != 1 || metrics != 1 || logs != 1 {
		t.Fatalf("received %d, %d, %d requests", traces, metrics, logs)
	}
	sent := c.traces[0].ResourceSpans[0]
	if got := sent.ScopeSpans[0].Spans[0].Name; got != "attempt" {
		t.Errorf("the span is %q", got)
	}
	want := map[string]string{"service.name": "posthorn", "service.version": "1.2.3", "service.instance.id": "node-7"}
	if got := texts(sent.Resource.Attributes); !containsAll(got, want) {
		t.Errorf("the resource is %v", got)
	}
	records := c.logs[0].ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(records) != 1 {
		t.Fatalf("%d log records", len(records))
	}
	id := span.SpanContext().TraceID()
	if r := records[0]; r.Body.GetStringValue() != "it failed" || string(r.TraceId) != string(id[:]) {
		t.Errorf("the log record is %v", r)
	}
}

func TestEnvironmentNamesTheService(t *testing.T) {
	c := newCollector(t)
	setenv(t, map[string]string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.url + "/v1/traces",
		"OTEL_SERVICE_NAME":                  "webhooks",
		"OTEL_RESOURCE_ATTRIBUTES":           "deployment.environment.name=test,service.instance.id=mine",
	})
	tel := start(t, Config{NodeName: "node-7"})
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "attempt")
	span.End()
	if err := shutdown(tel); err != nil {
		t.Fatal(err)
	}
	if traces, metrics, logs := c.received(); traces != 1 || metrics+logs != 0 {
		t.Fatalf("received %d, %d, %d requests", traces, metrics, logs)
	}
	want := map[string]string{
		"service.name": "webhooks", "service.instance.id": "mine", "deployment.environment.name": "test"}
	if got := texts(c.traces[0].ResourceSpans[0].Resource.Attributes); !containsAll(got, want) {
		t.Errorf("the resource is %v", got)
	}
}

func TestSamplerComesFromTheEnvironment(t *testing.T) {
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": newCollector(t).url, "OTEL_TRACES_SAMPLER": "always_off"})
	_, span := start(t, Config{}).TracerProvider().Tracer("test").Start(t.Context(), "unsampled")
	if span.SpanContext().IsSampled() {
		t.Error("the span is sampled")
	}
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": hanging.URL})
	tel, err := Start(t.Context(), Config{LogOutput: &lockedBuffer{}})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "stuck")
	span.End()

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	first := tel.Shutdown(ctx)
	if !errors.Is(first, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", first)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Shutdown took %v", took)
	}
	if again := tel.Shutdown(t.Context()); again != first {
		t.Errorf("the second Shutdown returns %v", again)
	}
}

func TestFailedStartLeavesNothingRunning(t *testing.T) {
	c := newCollector(t)
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.url})
	ignore := goleak.IgnoreCurrent()
	_, err := Start(t.Context(), Config{LogFormat: "xml"})
	if err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("Start: %v", err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

func TestStartNamesTheMalformedVariable(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for name, vars := range map[string]map[string]string{
		"OTEL_TRACES_EXPORTER":     {"OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_METRICS_EXPORTER":    {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port},
		"OTEL_RESOURCE_ATTRIBUTES": {"OTEL_RESOURCE_ATTRIBUTES": "no equals sign"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, vars)
			_, err := Start(t.Context(), Config{LogOutput: &lockedBuffer{}})
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("Start: %v", err)
			}
		})
	}
}

func TestInstallIsWhatLibrariesFind(t *testing.T) {
	setenv(t, nil)
	var out lockedBuffer
	tel := start(t, Config{LogOutput: &out})
	tel.Install()
	if otel.GetTracerProvider() != tel.TracerProvider() || otel.GetMeterProvider() != tel.MeterProvider() {
		t.Error("the global providers are others")
	}
	if got := otel.GetTextMapPropagator().Fields(); !slices.Contains(got, "traceparent") {
		t.Errorf("the global propagator writes %v", got)
	}
	otel.Handle(errors.New("the collector is away"))
	if !strings.Contains(out.String(), "the collector is away") {
		t.Errorf("the log is %q", out.String())
	}
}

func TestDefaultLogOutputIsStandardError(t *testing.T) {
	setenv(t, nil)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	saved := os.Stderr
	os.Stderr = write
	tel, err := Start(t.Context(), Config{})
	os.Stderr = saved
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger().Info("to standard error")
	_ = write.Close()
	line := make([]byte, 200)
	if n, _ := read.Read(line); !strings.Contains(string(line[:n]), "to standard error") {
		t.Errorf("read %q", line[:n])
	}
}

// addOne counts one on the counter test.parcels.
func addOne(t *testing.T, tel *Telemetry) {
	t.Helper()
	counter, err := tel.MeterProvider().Meter("test").Int64Counter("test.parcels", metric.WithDescription("Parcels."))
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 1)
}

func texts(attributes []*common.KeyValue) map[string]string {
	found := map[string]string{}
	for _, a := range attributes {
		found[a.Key] = a.Value.GetStringValue()
	}
	return found
}

func containsAll(got, want map[string]string) bool {
	for name := range maps.Keys(want) {
		if got[name] != want[name] {
			return false
		}
	}
	return true
}

func TestSpanContextStaysSampledThroughThePropagator(t *testing.T) {
	t.Parallel()
	ctx := newPropagator("").Extract(t.Context(), propagation.MapCarrier{"traceparent": traceparent, "baggage": "a=1"})
	if span := trace.SpanContextFromContext(ctx); !span.IsSampled() || !span.IsRemote() {
		t.Errorf("extracted %v", span)
	}
	for list, want := range map[string][]string{
		"": {"traceparent", "baggage"}, "baggage": {"baggage"}, "none": nil} {
		carrier := propagation.MapCarrier{}
		newPropagator(list).Inject(ctx, carrier)
		got := slices.DeleteFunc(carrier.Keys(), func(k string) bool { return k == "tracestate" })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("OTEL_PROPAGATORS=%q writes %v", list, got)
		}
	}
}
