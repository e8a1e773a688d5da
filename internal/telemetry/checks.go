package telemetry

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// checkOneOf accepts one of the words. The SDK ignores their case in some
// places and not in others; lower case is right everywhere.
func checkOneOf(words ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("it must be one of %s", strings.Join(words, ", "))
		}
		return nil
	}
}

func checkBool(value string) error {
	if value == "" || strings.EqualFold(value, "true") || strings.EqualFold(value, "false") {
		return nil
	}
	return errors.New("it must be true or false")
}

func checkInteger(value string) error {
	if _, err := strconv.Atoi(value); err != nil {
		return errors.New("it must be an integer")
	}
	return nil
}

// checkPositive is for sizes, and for durations, which are in milliseconds.
func checkPositive(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n <= 0 {
		return errors.New("it must be a positive integer (durations are in milliseconds)")
	}
	return nil
}

// checkEndpoint demands a scheme: "collector:4317" parses as a URL too, of the
// scheme "collector".
func checkEndpoint(value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The URL may hold a password: it is not shown.
		return errors.New("it must be a URL such as http://localhost:4318")
	}
	return nil
}

func checkHeaders(value string) error {
	for pair := range strings.SplitSeq(value, ",") {
		name, encoded, found := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(encoded); err != nil || !found || strings.TrimSpace(name) == "" {
			return errors.New("it must be of the form name=value,name=value, the values URL-encoded")
		}
	}
	return nil
}

func checkPropagators(value string) error {
	for name := range strings.SplitSeq(value, ",") {
		if err := checkOneOf("tracecontext", "baggage", "none")(strings.TrimSpace(name)); err != nil {
			return fmt.Errorf("%.32q: %w", name, err)
		}
	}
	return nil
}

func checkFile(path string) error {
	_, err := os.ReadFile(path)
	return err
}

func checkCertificates(path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("the file holds no certificate in PEM form")
	}
	return nil
}

// checkSamplerArg reads OTEL_TRACES_SAMPLER_ARG the way the sampler will: the
// samplers without an argument ignore it.
func checkSamplerArg(getenv func(string) string) error {
	arg := getenv("OTEL_TRACES_SAMPLER_ARG")
	if arg == "" || !strings.HasSuffix(getenv("OTEL_TRACES_SAMPLER"), "traceidratio") {
		return nil
	}
	// The comparison is false for NaN, which ParseFloat accepts.
	if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%q: it must be a number from 0 to 1", arg)
	}
	return nil
}
