package telemetry

import (
	"fmt"
	"strings"
)

// signals says which of the three have an exporter.
type signals struct {
	traces, metrics, logs bool
}

// readSignals decides which signals are exported. It returns an error that
// names a malformed variable; the SDK would log a line and go on with a default
// instead, and the operator would look for the missing traces.
func readSignals(getenv func(string) string) (signals, error) {
	disabled := getenv("OTEL_SDK_DISABLED")
	if err := checkBool(disabled); err != nil {
		return signals{}, fmt.Errorf("OTEL_SDK_DISABLED=%q: %w", disabled, err)
	}
	if strings.EqualFold(disabled, "true") {
		return signals{}, nil
	}
	if err := checkVariables(getenv); err != nil {
		return signals{}, err
	}
	return signals{
		traces:  exported(getenv, "TRACES"),
		metrics: exported(getenv, "METRICS"),
		logs:    exported(getenv, "LOGS"),
	}, nil
}

// exported tells whether a signal has an exporter: the named one, or OTLP if
// something says where to send.
func exported(getenv func(string) string, signal string) bool {
	if name := getenv("OTEL_" + signal + "_EXPORTER"); name != "" {
		return name != "none"
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// checkVariables checks each variable that is set. An empty one counts as not
// set, as the OpenTelemetry specification demands.
func checkVariables(getenv func(string) string) error {
	for _, v := range variables {
		value := getenv(v.name)
		if value == "" {
			continue
		}
		if err := v.check(value); err != nil {
			if v.secret {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			return fmt.Errorf("%s=%q: %w", v.name, value, err)
		}
	}
	return checkSamplerArg(getenv)
}

// variable is an OTEL_* variable whose value can be wrong.
type variable struct {
	name   string
	check  func(value string) error
	secret bool // errors must not show the value
}

var variables = append(otlpVariables(),
	variable{name: "OTEL_TRACES_EXPORTER", check: checkOneOf("otlp", "console", "none")},
	variable{name: "OTEL_METRICS_EXPORTER", check: checkOneOf("otlp", "prometheus", "console", "none")},
	variable{name: "OTEL_LOGS_EXPORTER", check: checkOneOf("otlp", "console", "none")},
	variable{name: "OTEL_METRICS_PRODUCERS", check: checkOneOf("prometheus", "none")},
	variable{name: "OTEL_PROPAGATORS", check: checkPropagators},
	variable{name: "OTEL_TRACES_SAMPLER", check: checkOneOf("always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")},
	variable{name: "OTEL_METRICS_EXEMPLAR_FILTER", check: checkOneOf("always_on", "always_off", "trace_based")},
	variable{name: "OTEL_BSP_SCHEDULE_DELAY", check: checkPositive},
	variable{name: "OTEL_BSP_EXPORT_TIMEOUT", check: checkPositive},
	variable{name: "OTEL_BSP_MAX_QUEUE_SIZE", check: checkPositive},
	variable{name: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", check: checkPositive},
	variable{name: "OTEL_BLRP_SCHEDULE_DELAY", check: checkPositive},
	variable{name: "OTEL_BLRP_EXPORT_TIMEOUT", check: checkPositive},
	variable{name: "OTEL_BLRP_MAX_QUEUE_SIZE", check: checkPositive},
	variable{name: "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", check: checkPositive},
	variable{name: "OTEL_METRIC_EXPORT_INTERVAL", check: checkPositive},
	variable{name: "OTEL_METRIC_EXPORT_TIMEOUT", check: checkPositive},
	variable{name: "OTEL_ATTRIBUTE_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", check: checkInteger},
	variable{name: "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", check: checkInteger},
	variable{name: "OTEL_SPAN_EVENT_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_SPAN_LINK_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", check: checkInteger},
	variable{name: "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", check: checkInteger},
)

// otlpVariables are those of the OTLP exporter, each for all signals together
// and for one.
func otlpVariables() []variable {
	all := []variable{
		{name: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
			check: checkOneOf("cumulative", "delta", "lowmemory")},
		{name: "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
			check: checkOneOf("explicit_bucket_histogram", "base2_exponential_bucket_histogram")},
	}
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		prefix := "OTEL_EXPORTER_OTLP_" + signal
		all = append(all,
			variable{name: prefix + "ENDPOINT", check: checkEndpoint, secret: true},
			variable{name: prefix + "PROTOCOL", check: checkOneOf("grpc", "http/protobuf")},
			variable{name: prefix + "HEADERS", check: checkHeaders, secret: true},
			variable{name: prefix + "TIMEOUT", check: checkPositive},
			variable{name: prefix + "COMPRESSION", check: checkOneOf("gzip", "none")},
			variable{name: prefix + "INSECURE", check: checkBool},
			variable{name: prefix + "CERTIFICATE", check: checkCertificates},
			variable{name: prefix + "CLIENT_CERTIFICATE", check: checkCertificates},
			variable{name: prefix + "CLIENT_KEY", check: checkFile},
		)
	}
	return all
}
