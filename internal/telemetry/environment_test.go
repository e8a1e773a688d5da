package telemetry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func getenvFrom(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestSignalsThatHaveAnExporter(t *testing.T) {
	t.Parallel()
	const url = "http://localhost:4318"
	for name, test := range map[string]struct {
		vars map[string]string
		want signals
	}{
		"Nothing":         {nil, signals{}},
		"Named":           {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, signals{traces: true}},
		"Endpoint":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url}, signals{true, true, true}},
		"SignalsEndpoint": {map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": url}, signals{logs: true}},
		"NoneDespiteEndpoint": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRICS_EXPORTER": "none"},
			signals{traces: true, logs: true}},
		"EmptyIsUnset": {map[string]string{"OTEL_TRACES_EXPORTER": "", "OTEL_SDK_DISABLED": ""}, signals{}},
		"Disabled": {map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": url},
			signals{}},
		"NotDisabled": {map[string]string{"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "console"},
			signals{traces: true}},
		"OtherVariablesAlone": {map[string]string{"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SERVICE_NAME": "x"}, signals{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readSignals(getenvFrom(test.vars))
			if err != nil || got != test.want {
				t.Errorf("%+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestMalformedVariablesAreNamed(t *testing.T) {
	t.Parallel()
	noPEM := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, value string }{
		{"OTEL_SDK_DISABLED", "maybe"},
		{"OTEL_TRACES_EXPORTER", "zipkin"},
		{"OTEL_METRICS_EXPORTER", "otlp,console"},
		{"OTEL_LOGS_EXPORTER", " otlp"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a b"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"},
		{"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "smtp"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "authorization"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "a=%zz"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"},
		{"OTEL_EXPORTER_OTLP_INSECURE", "yes"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", noPEM},
		{"OTEL_EXPORTER_OTLP_CLIENT_KEY", noPEM + ".absent"},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"},
		{"OTEL_PROPAGATORS", "tracecontext,b3"},
		{"OTEL_TRACES_SAMPLER", "half"},
		{"OTEL_BSP_SCHEDULE_DELAY", "5s"},
		{"OTEL_BLRP_MAX_QUEUE_SIZE", "0"},
		{"OTEL_METRIC_EXPORT_INTERVAL", "-1"},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT", "many"},
	} {
		_, err := readSignals(getenvFrom(map[string]string{test.name: test.value}))
		if err == nil || !strings.HasPrefix(err.Error(), test.name) {
			t.Errorf("%s=%q: %v", test.name, test.value, err)
		}
	}
	for _, arg := range []string{"2", "-0.1", "NaN", "half"} {
		_, err := readSignals(getenvFrom(map[string]string{
			"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": arg}))
		if err == nil || !strings.HasPrefix(err.Error(), "OTEL_TRACES_SAMPLER_ARG") {
			t.Errorf("OTEL_TRACES_SAMPLER_ARG=%q: %v", arg, err)
		}
	}
}

func TestErrorsShowNoCredentials(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS":  "authorization:hunter2",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:hunter2@host:bad",
	} {
		_, err := readSignals(getenvFrom(map[string]string{name: value}))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoodVariablesPass(t *testing.T) {
	t.Parallel()
	_, err := readSignals(getenvFrom(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":         "https://collector.example:4317/base",
		"OTEL_EXPORTER_OTLP_PROTOCOL":         "grpc",
		"OTEL_EXPORTER_OTLP_HEADERS":          "authorization=Basic%20dTpw,x-tenant=a",
		"OTEL_EXPORTER_OTLP_TIMEOUT":          "10000",
		"OTEL_EXPORTER_OTLP_METRICS_INSECURE": "True",
		"OTEL_TRACES_SAMPLER":                 "traceidratio",
		"OTEL_TRACES_SAMPLER_ARG":             "0.25",
		"OTEL_PROPAGATORS":                    "tracecontext, baggage",
		"OTEL_BSP_MAX_QUEUE_SIZE":             "4096",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT":     "-1",
	}))
	if err != nil {
		t.Error(err)
	}
}
