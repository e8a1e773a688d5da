package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMetricsHandlerShowsCountersAndTheGoRuntime(t *testing.T) {
	setenv(t, nil)
	tel := start(t, Config{NodeName: "node-7"})
	addOne(t, tel)
	addOne(t, tel)

	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	page := w.Body.String()
	for _, want := range []string{
		"# HELP test_parcels_total Parcels.\n",
		"\ntest_parcels_total 2\n",
		"\ngo_goroutine_count ",
		`service_instance_id="node-7"`,
		`service_name="posthorn"`,
	} {
		if !strings.Contains("\n"+page, want) {
			t.Errorf("/metrics has no %q:\n%s", want, page)
		}
	}
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
		t.Errorf("Content-Type: %s", got)
	}
}

func TestTwoTelemetriesShareNoMetrics(t *testing.T) {
	setenv(t, nil)
	one, other := start(t, Config{}), start(t, Config{})
	addOne(t, one)
	w := httptest.NewRecorder()
	other.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if strings.Contains(w.Body.String(), "test_parcels") {
		t.Error("one's counter is the other's")
	}
}
