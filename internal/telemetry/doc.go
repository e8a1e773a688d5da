// Package telemetry sets up OpenTelemetry for the binary: traces, metrics and
// logs, and the logger that everything writes to.
//
// It is configured by OpenTelemetry's own OTEL_* variables. They are the one
// exception to the rule that only cmd reads the environment: the SDK reads
// them itself, in places that cannot be handed a value.
//
//	signal    without configuration                with an exporter
//	traces    off: nothing is recorded             sent in batches
//	metrics   pulled from MetricsHandler           pulled, and sent too
//	logs      text or JSON on standard error       there, and sent too
//
// A signal has an exporter when OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER or
// OTEL_LOGS_EXPORTER names one other than none, or when none of that is said
// but OTEL_EXPORTER_OTLP_ENDPOINT, or the signal's own variable of that kind,
// says where to send. Without either there is none: the SDK would send to
// localhost:4318, where on most machines nobody listens. OTEL_SDK_DISABLED=true
// leaves what stands in the middle column, whatever else is set.
//
// What Posthorn measures is not defined here but by the packages that do the
// work; they take the providers that a Telemetry hands out.
package telemetry
