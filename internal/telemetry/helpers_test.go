package telemetry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// setenv gives the test exactly these OTEL_* variables. The SDK reads the
// process's environment, so tests that call this cannot run in parallel.
func setenv(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range vars {
		t.Setenv(name, value)
	}
}

// start is Start for a test that succeeds; the test's end shuts it down.
func start(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	if cfg.LogOutput == nil {
		cfg.LogOutput = io.Discard
	}
	tel, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shutdown(tel); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return tel
}

func shutdown(tel *Telemetry) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return tel.Shutdown(ctx)
}

// lockedBuffer is a buffer that exporters' goroutines may log to.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// collector is an OTLP/HTTP receiver on loopback that keeps what it gets.
type collector struct {
	url string

	mu      sync.Mutex
	traces  []*collectortrace.ExportTraceServiceRequest
	metrics []*collectormetrics.ExportMetricsServiceRequest
	logs    []*collectorlogs.ExportLogsServiceRequest
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", receive(t, c, &c.traces, &collectortrace.ExportTraceServiceRequest{}))
	mux.HandleFunc("POST /v1/metrics", receive(t, c, &c.metrics, &collectormetrics.ExportMetricsServiceRequest{}))
	mux.HandleFunc("POST /v1/logs", receive(t, c, &c.logs, &collectorlogs.ExportLogsServiceRequest{}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func receive[M proto.Message](t *testing.T, c *collector, into *[]M, kind M) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("collector: %v", err)
		}
		message := kind.ProtoReflect().New().Interface().(M)
		if err := proto.Unmarshal(body, message); err != nil {
			t.Errorf("collector: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		*into = append(*into, message)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}
}

// received returns the numbers of requests for each signal.
func (c *collector) received() (traces, metrics, logs int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.traces), len(c.metrics), len(c.logs)
}
