package api_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/dispatcher"
)

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anybody := client{t: t, b: b}
	if got := anybody.get("/healthz").want(http.StatusOK).body; got != "{\"status\":\"ok\"}\n" {
		t.Errorf("healthz says %s", got)
	}
	anybody.get("/readyz").want(http.StatusOK)

	broken := setup(t, func(c *api.Config) {
		c.Ready = func(context.Context) error { return errors.New("dial tcp 10.0.0.7: secret inner words") }
	})
	anybody.b = broken
	anybody.get("/healthz").want(http.StatusOK)
	if p := anybody.get("/readyz").refused(http.StatusServiceUnavailable, "not_ready"); strings.Contains(p.Detail, "10.0.0.7") {
		t.Errorf("detail %s", p.Detail)
	}
	if !strings.Contains(broken.log.String(), "10.0.0.7") {
		t.Error("the log does not say why the service is not ready")
	}
}

func TestTheDocumentIsOpenAPI31(t *testing.T) {
	t.Parallel()
	got := client{t: t, b: setup(t)}.get("/openapi.json").want(http.StatusOK)
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	got.into(&doc)
	if doc.OpenAPI != "3.1.0" || doc.Paths["/v1/endpoints/{id}"] == nil {
		t.Errorf("%.200s", got.body)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	anybody := client{t: t, b: setup(t)}
	anybody.get("/metrics").refused(http.StatusNotFound, "not_found")
	anybody.b = setup(t, func(c *api.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "posthorn_up 1\n")
		})
	})
	if got := anybody.get("/metrics").want(http.StatusOK).body; got != "posthorn_up 1\n" {
		t.Errorf("metrics: %s", got)
	}
}

func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, body := range map[string]string{
		"Cut":           `{"url":`,
		"NotJSON":       `url=https://a.example`,
		"SingleQuotes":  `{'url':1}`,
		"Trailing":      `{} {}`,
		"NotUTF8":       "{\"url\":\"\xff\"}",
		"TrailingComma": `{"url":1,}`,
		"Spaces":        `   `,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.operator(t).post("/v1/endpoints", body).refused(http.StatusBadRequest, "malformed_json")
		})
	}
	op := b.operator(t)
	if p := op.post("/v1/endpoints", "").refused(http.StatusBadRequest, "malformed_json"); !strings.Contains(p.Detail, "empty") {
		t.Errorf("detail %s", p.Detail)
	}
	op.do("POST", "/v1/endpoints", "url=x", "Content-Type", "application/x-www-form-urlencoded").refused(http.StatusUnsupportedMediaType, "unsupported_media_type")
	op.do("POST", "/v1/endpoints", newEndpoint, "Content-Type", "application/json; charset=utf-8").want(http.StatusCreated)
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	t.Parallel()
	op := setup(t).operator(t)
	for _, target := range []string{"/", "/v1/", "/v1/nothing", "/v1/endpoints/", "/v1/endpoints/a/b"} {
		op.get(target).refused(http.StatusNotFound, "not_found")
	}
	got := op.do("PUT", "/v1/endpoints", "{}")
	got.refused(http.StatusMethodNotAllowed, "method_not_allowed")
	if allow := got.header.Get("Allow"); !strings.Contains(allow, "POST") || !strings.Contains(allow, "GET") {
		t.Errorf("Allow %q", allow)
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	op := setup(t).operator(t)
	if id := op.do("GET", "/v1/endpoints", "", "X-Request-Id", "order-17.a_B").header.Get("X-Request-Id"); id != "order-17.a_B" {
		t.Errorf("a harmless id becomes %q", id)
	}
	for _, bad := range []string{"", "a b", "a\tb", "<script>", strings.Repeat("a", 65), "é"} {
		if id := op.do("GET", "/v1/endpoints", "", "X-Request-Id", bad).header.Get("X-Request-Id"); !strings.HasPrefix(id, "req_") {
			t.Errorf("%q becomes %q", bad, id)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	t.Parallel()
	op := setup(t).operator(t)
	for _, target := range []string{"/v1/endpoints", "/v1/nothing", "/healthz"} {
		h := op.get(target).header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %v", target, h)
		}
	}
}

// brokenLedger makes a ledger that fails in its way.
func brokenLedger(fail func() error) func(*api.Config) {
	return func(c *api.Config) {
		c.Ledger = func(context.Context) (dispatcher.Ledger, error) { return dispatcher.Ledger{}, fail() }
	}
}

func TestInnerFailuresAreLoggedAndNotTold(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"Error": func() error { return errors.New("inner words") },
		"Panic": func() error { panic("inner words") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, brokenLedger(fail))
			p := b.operator(t).get("/v1/ledger").refused(http.StatusInternalServerError, "internal")
			if strings.Contains(p.Detail+p.Title, "inner words") {
				t.Errorf("the client reads %s", p.Detail)
			}
			if log := b.log.String(); !strings.Contains(log, "inner words") || !strings.Contains(log, p.RequestID) {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

func TestABreakAsksForPatience(t *testing.T) {
	t.Parallel()
	b := setup(t, brokenLedger(func() error { return context.DeadlineExceeded }))
	b.operator(t).get("/v1/ledger").refused(http.StatusServiceUnavailable, "unavailable")
}

func TestTheTraceGoesFromTheRequestToTheOutbox(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	b := setup(t, func(c *api.Config) { c.TracerProvider, c.Propagators = provider, propagation.TraceContext{} })
	got := b.operator(t).do("POST", "/v1/events", `{"event_type":"order.paid","payload":1}`,
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").want(http.StatusAccepted).object()
	names := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		names[s.Name()] = s
		if s.SpanContext().TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("the span %s is of another trace", s.Name())
		}
	}
	request, publish := names["POST /v1/events"], names["publish order.paid"]
	if request == nil || publish == nil || publish.Parent().SpanID() != request.SpanContext().SpanID() {
		t.Fatalf("spans %v", names)
	}
	route := ""
	for _, a := range request.Attributes() {
		if a.Key == "http.route" {
			route = a.Value.AsString()
		}
	}
	event := b.operator(t).get("/v1/events/" + got["id"].(string)).object()
	want := "00-4bf92f3577b34da6a3ce929d0e0e4736-" + publish.SpanContext().SpanID().String() + "-01"
	if event["traceparent"] != want || route != "/v1/events" {
		t.Errorf("traceparent %v, want %s; http.route %s", event["traceparent"], want, route)
	}
	b.operator(t).get("/v1/events/" + got["id"].(string))
	for _, s := range spans.Ended() {
		if strings.Contains(s.Name(), "evt_") {
			t.Errorf("the span %s has an id in its name", s.Name())
		}
	}
}

func TestConfigMustBeWhole(t *testing.T) {
	t.Parallel()
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("an API of nothing was made")
	}
}
